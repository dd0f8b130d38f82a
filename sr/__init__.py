"""Super-resolution: networks and tables that enlarge pictures."""
