"""What manifests and training runs say, in the formats that other tools read. Exports only."""
