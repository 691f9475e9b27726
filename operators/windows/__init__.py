"""Look-back features of a key: counts, sums, extremes, distinct values and earlier rows, exact in row order."""
