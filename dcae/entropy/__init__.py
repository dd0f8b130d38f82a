"""Entropy coding without the coder: integer probability tables, and the arithmetic that chooses among them."""
