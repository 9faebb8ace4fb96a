"""Heads on one bank: fitted, chosen on val, calibrated and evaluated."""
