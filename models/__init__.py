"""The model registry, scoring, training and explanations."""
