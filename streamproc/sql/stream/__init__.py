"""Statements of a pipeline: from the plan of a query over whole tables to steps that see row after row.

    plan = compile_query(...)                      # as over tables, which have no rows yet
    flow = Flows(...).of(plan)                     # rows -> [windows | pattern] -> steps; else it is refused
    compile_entry(entry, stage) -> CompiledStatement

`flows.py` turns the plan round; `windows.py`, `matches.py`, `joins.py`, `overs.py` and `firsts.py` make what keeps
state; `prune.py` leaves out what nobody reads.
"""

from __future__ import annotations

__all__ = ["compile_entry"]

from streamproc.sql.stream.entry import compile_entry
