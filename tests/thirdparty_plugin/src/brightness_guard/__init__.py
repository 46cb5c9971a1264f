"""Example plugins for gifthorse."""
