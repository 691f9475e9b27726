"""benchmarks/detection: what it reads, when it learns, what it measures."""
