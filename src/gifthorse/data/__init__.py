"""Labelled pictures: in memory, from files, from a hub, and a built-in generator. No torch."""
