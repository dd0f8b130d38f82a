"""Super-resolution: what enlarges pictures, its training, and the field's way of measuring it."""
