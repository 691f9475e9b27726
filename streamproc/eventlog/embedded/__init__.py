"""The event log in one SQLite file, for one process."""
