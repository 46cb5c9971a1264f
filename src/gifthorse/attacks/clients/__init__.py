"""What malicious clients of federated learning send. For evaluation only."""
