"""A model to use: images in, labels and probabilities out; and the files by which it travels."""
