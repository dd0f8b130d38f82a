"""Networks: what all presets share, and one folder for each of them."""
