"""Attacks on instruction data for language models, one file a method."""
