"""Readers that turn files of training data into samples, as streams and without decoding."""
