"""Records become pages. Pure functions, no torch."""
