"""Tests of the pipeline language."""
