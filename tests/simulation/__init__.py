"""The real worker on the simulated log, store and clock: seeded faults, virtual time."""
