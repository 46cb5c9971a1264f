"""Federated learning: a deterministic round loop, the gate before it, studies and their ledger."""
