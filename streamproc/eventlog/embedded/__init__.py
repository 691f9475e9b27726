"""The event log in one SQLite file of one directory: durable, for many processes of one machine, no service to start.

    log.py       EmbeddedEventLog and what its clients do on the event loop: reader, scanner, appender, admin
    writer.py    the transactional writer: buffers a transaction, hands it over whole at commit
    thread.py    the one thread that makes all SQLite calls, and waits there for other processes' commits
    store.py     what the log does, in SQL: claim, commit, read
    file.py      the SQLite file: schema, opening, SQLite's errors in our terms
    codec.py     a run of records <-> one blob

A transaction lives in memory until commit and becomes one SQLite transaction: fence checks, records, offsets. So
nothing uncommitted is ever in the file, offsets are dense, and read_committed comes free. Readers never wait for
writers; writers take turns. A network file system will not do: SQLite's WAL needs shared memory.
"""

from streamproc.eventlog.embedded.log import EmbeddedEventLog

__all__ = ["EmbeddedEventLog"]
