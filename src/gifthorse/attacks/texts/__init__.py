"""Attacks on labelled texts, one file a method."""
