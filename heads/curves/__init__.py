"""Accuracy as a function of one parameter, exactly."""
