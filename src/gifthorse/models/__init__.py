"""Adapters and safe loading; feature capture; the training loop."""
