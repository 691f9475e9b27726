"""Sequence patterns; the data lie beside the tests, a file a suite."""
