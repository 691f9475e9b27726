"""Tests of operators.patterns."""
