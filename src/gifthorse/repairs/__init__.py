"""Repairs of models; one file per published method."""
