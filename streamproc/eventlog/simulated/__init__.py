"""The event log in memory: several clients of one cluster, virtual time, seeded faults. No wall clock, no thread.

    cluster.py    SimulatedCluster: partitions, transactions, offsets; what a broker knows
    partition.py  what one partition holds, and what a poll brings of it
    group.py      a group's members, its eager rebalance, its fencing
    client.py     SimulatedEventLog: one worker process's connection; it can crash and be cut off
    writer.py, reader.py    the contract's clients, on top of it
    faults.py     Faults: which call fails, and how
    time.py       ManualClock; VirtualTimeLoop and VirtualClock, where time jumps when nothing is left to do

As in Kafka: an open transaction holds readers back, markers take offsets, an aborted record is skipped, offsets of an
open transaction are pending, a transaction ends by time-out, and an EndTxn may come late.
"""

from streamproc.eventlog.simulated.client import SimulatedEventLog
from streamproc.eventlog.simulated.cluster import SimulatedCluster, Timeouts, Without
from streamproc.eventlog.simulated.faults import Crash, Fault, Faults
from streamproc.eventlog.simulated.time import ManualClock, VirtualClock, VirtualTimeLoop

__all__ = [
    "Crash",
    "Fault",
    "Faults",
    "ManualClock",
    "SimulatedCluster",
    "SimulatedEventLog",
    "Timeouts",
    "VirtualClock",
    "VirtualTimeLoop",
    "Without",
]
