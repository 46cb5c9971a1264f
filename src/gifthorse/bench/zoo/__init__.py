"""Populations of clean and planted models, to judge model audits on."""
