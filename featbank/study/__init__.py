"""Heads on banks: fitted, chosen on val, evaluated, and compared."""
