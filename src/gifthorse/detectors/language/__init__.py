"""Detectors of backdoors in causal language models."""
