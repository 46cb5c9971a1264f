"""Training on data that nobody vouches for."""
