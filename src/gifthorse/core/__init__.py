"""Values and records, errors, registry, randomness. No torch."""
