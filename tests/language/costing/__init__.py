"""What a pipeline will cost."""
