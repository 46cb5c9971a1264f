"""Attacks, by where they strike; one file per published method. They exist to prove the defence."""
