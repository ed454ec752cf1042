"""A synthetic sky: stars, and what each survey would write of them."""
