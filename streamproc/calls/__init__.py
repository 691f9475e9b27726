"""Calls out: a service is asked about a row, within bounds. `http.py` is the only importer of aiohttp, `postgres.py` of
asyncpg.

Pure: request (a record -> what is asked), answer (the reply -> what is added to the record), cache, breaker, budget.
Their only time is the one they are given. `service.py` puts them together around a `Transport`.
"""
