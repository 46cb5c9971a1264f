"""Detectors, by what they examine; one file per published method. They never see the truth."""
