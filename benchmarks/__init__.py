"""What things cost: each module has functions that measure and return dicts, and a `main` that prints them."""
