"""What studies find, as records and as tables."""
