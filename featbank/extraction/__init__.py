"""Frozen features of every image, into a bank."""
