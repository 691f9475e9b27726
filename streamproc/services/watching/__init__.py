"""Follows what is decided, and what becomes known of it; see docs/models/watching.md."""
