"""Explanations of decisions, from the feature blocks of the journal; see docs/models/explanations.md."""
