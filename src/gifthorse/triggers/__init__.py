"""Triggers: pictures in, pictures out."""
