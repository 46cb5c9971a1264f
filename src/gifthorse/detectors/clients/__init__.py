"""Server-side defences of federated learning: per-client evidence, and one step."""
