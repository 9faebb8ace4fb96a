"""How often each class is drawn, and how much it counts in a loss."""
