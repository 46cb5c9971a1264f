"""Detectors that examine models."""
