"""Fuzzing: what comes from outside or from a disk is read or refused, whatever its bytes; see docs/reliability.md."""
