"""The window operator against a brute-force oracle."""
