"""What is found out before features are asked for."""
