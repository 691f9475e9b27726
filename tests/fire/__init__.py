"""Under fire: faults of every kind on real parts, judged by a verifier that shares nothing with the worker."""
