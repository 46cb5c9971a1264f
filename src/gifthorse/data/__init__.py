"""Data sets by name or path; splits; the built-in generator."""
