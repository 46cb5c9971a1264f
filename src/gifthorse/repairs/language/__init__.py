"""Repairs of causal language models, one file a method."""
