"""What a file is, whether it can run code, and what it would import: without opening it as one."""
