"""Detectors of single inputs of text classifiers, one file a method."""
