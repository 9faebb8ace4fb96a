"""What the heads minimise, and how."""
