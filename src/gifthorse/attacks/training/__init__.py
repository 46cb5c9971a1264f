"""Attacks that control the training."""
