"""Calls out: the pure parts by tables and laws, the client against a server that misbehaves."""
