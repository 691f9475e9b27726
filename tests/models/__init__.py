"""Scoring, training, the registry."""
