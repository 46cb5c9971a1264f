"""Repairs of text classifiers, one file a method."""
