"""Model files: reading, writing, export, and those that are installed (the shipped weights lie here as well)."""
