"""The runtime, part by part; the whole of it runs in tests/simulation and tests/exactly_once."""
