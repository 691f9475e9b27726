"""Keyed tables, rings, TTL, checkpoints and the stores beneath them."""
