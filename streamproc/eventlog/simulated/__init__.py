"""The event log in memory, with faults and virtual time."""
