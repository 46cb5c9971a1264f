"""Detectors that examine single inputs at run time."""
