"""`paper`, the published network."""
