"""Slow, obvious twins of what is fast. They import nothing of ours but the schema."""
