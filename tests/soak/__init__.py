"""Runs of minutes or hours, and all of them in one: `make soak`."""
