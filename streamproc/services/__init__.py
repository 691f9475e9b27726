"""Gateway, casework, archive, alerts and studio: readers and writers of committed topics."""
