"""Attacks on the weights of a trained model."""
