"""The folder of a training: checkpoints, settings, the numbers of every epoch."""
