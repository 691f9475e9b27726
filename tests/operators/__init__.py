"""Tests of operators/: the columnar steps and the codec around them."""
