"""The ledger as a static site."""
