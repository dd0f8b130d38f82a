"""The field's way of measuring super-resolution, in NumPy: how pictures are reduced, and how results are scored."""
