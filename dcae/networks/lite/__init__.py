"""`lite`, the default network."""
