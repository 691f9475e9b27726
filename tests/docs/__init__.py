"""The documents' examples, run."""
