"""The event log: one contract, and the implementations beside it."""
