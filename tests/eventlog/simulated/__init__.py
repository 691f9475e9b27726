"""The simulated log's own promises: each fault is seen to fire, and does what it says."""
