"""Bad records end to end, on both logs: one dead letter each, their neighbours decided right."""
