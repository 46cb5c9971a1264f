"""An example: Flower with a defended server, on digits."""
