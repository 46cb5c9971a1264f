"""Specimens, stories and grids: the one place where evidence is joined with the truth."""
