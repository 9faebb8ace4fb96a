"""Stage 1: training a network on long-tailed images."""
