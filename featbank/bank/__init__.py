"""A bank of frozen features: planned, written, opened, verified, exported."""
