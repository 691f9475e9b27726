"""Tests of operators.timed."""
