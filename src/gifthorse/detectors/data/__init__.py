"""Detectors that examine training data."""
