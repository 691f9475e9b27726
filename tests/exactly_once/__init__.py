"""Workers are killed under load, on real logs; a process of its own then judges everything that was committed."""
