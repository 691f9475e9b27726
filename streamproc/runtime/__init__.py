"""Workers that restore, run and close partitions, one transaction a batch."""
