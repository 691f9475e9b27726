"""Runs of minutes or hours: `make soak`."""
