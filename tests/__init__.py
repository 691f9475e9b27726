"""Tests: one folder a package, and the house rules in test_house."""
