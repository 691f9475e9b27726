"""The machine: what it is, which cores are whose, and what a process uses (all from /proc)."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

_TICK = os.sysconf("SC_CLK_TCK")
_PACKAGES = ("aiokafka", "msgspec", "numpy", "onnxruntime", "orjson", "pyarrow", "rocksdict", "uvloop", "xxhash")


class Cores(NamedTuple):
    """`worker` belongs to the engine, `others` to broker and driver; the same one on a machine with one core."""

    worker: int
    others: frozenset[int]

    @staticmethod
    def of_machine() -> Cores:
        available = sorted(os.sched_getaffinity(0))
        return Cores(available[-1], frozenset(available[:-1] or available))


def pin(pid: int, cores: set[int] | frozenset[int]) -> None:
    """Move a process with all its threads; 0 is the caller."""
    for thread in os.listdir(f"/proc/{pid or os.getpid()}/task"):
        os.sched_setaffinity(int(thread), cores)


def family(pid: int) -> list[int]:
    """A process and its descendants: `streamproc run` decides in a child that it supervises."""
    found = [pid]
    for parent in found:
        for thread in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += map(int, thread.read_text().split())
            except OSError:
                continue  # the thread has just ended
    return found


def lives(pid: int) -> bool:
    """Whether the process still runs; a dead one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its descendants, dead ones too; 0 if it is gone."""
    ticks = 0
    for member in family(pid):
        try:
            text = Path(f"/proc/{member}/stat").read_text()
        except OSError:
            continue
        ticks += sum(map(int, text[text.rindex(")") + 2 :].split()[11:15]))
    return ticks / _TICK


def memory_mb(pid: int) -> dict[str, float]:
    """Resident memory, now and at most, in MiB, of the largest process of the family: that is the worker."""
    largest = {"rss_mb": 0.0, "rss_peak_mb": 0.0}
    for member in family(pid):
        try:
            text = Path(f"/proc/{member}/status").read_text()
        except OSError:
            continue
        lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        sizes = {"rss_mb": lines.get("VmRSS", "0"), "rss_peak_mb": lines.get("VmHWM", "0")}
        mine = {name: int(size.split()[0]) / 1024 for name, size in sizes.items()}
        largest = max(largest, mine, key=lambda found: found["rss_mb"])
    return largest


def facts() -> dict[str, Any]:
    """What figures depend on; taken before anything starts, for the load average's sake."""
    jars = Path(__file__).parents[1] / ".kafka" / "lib"
    broker = sorted(path.stem.removeprefix("kafka_") for path in jars.glob("kafka_2*.jar"))
    return {
        "load average": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "kafka": ", ".join(broker) or "none",
        "packages": ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES),
        "commit": _commit(),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _commit() -> str:
    git = Path(__file__).parents[1] / ".git"
    try:
        head = (git / "HEAD").read_text().strip()
        return (git / head.removeprefix("ref: ")).read_text()[:7] if head.startswith("ref: ") else head[:7]
    except OSError:
        return "unknown"


class Usage(msgspec.Struct):
    """CPU readings of a process at rising times (time.time())."""

    pid: int
    times: list[float] = []
    seconds: list[float] = []

    def sample(self, now: float) -> None:
        self.times.append(now)
        self.seconds.append(cpu_seconds(self.pid))

    def between(self, begin: float, end: float) -> float:
        """CPU seconds used, interpolated between samples."""
        import numpy as np

        at = np.interp([begin, end], self.times, self.seconds)
        return float(at[1] - at[0])
