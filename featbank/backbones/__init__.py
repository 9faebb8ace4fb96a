"""Networks, their parts, and weights of other code for them."""
