"""Results as JSON and Markdown, and the figures that are to be reached beside those that were."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

Result = dict[str, Any]
DOCUMENT = Path(__file__).parents[1] / "docs" / "benchmarks.md"
_BY_HAND = "\n## Beside Kafka Streams and Flink\n"
_WHAT = {
    "micro": "CPU of each part by batch size; transactions in wall time",
    "drain": "A backlog, one worker on one core; medians of the runs. Flush, journal and deduplication on",
    "latency": "Open loop, ms from the scheduled send to a read_committed reader; `floor` is driver and broker alone",
    "kill": "SIGKILL in mid-drain and at a rate, restart at once; cold start; replay from nothing, in wall time",
    "workers": "Several workers draining one log, all cores theirs; then one worker at a rate, by commit interval",
    "rebalance": "A third pod takes one of four partitions and gives it back: ms without a commit",
    "replay": "Silent replay of all tasks from nothing, embedded log: CPU of an event, reading and applying apart",
    "scale": "The engine alone: CPU of an event, bytes of a card",
    "card_fraud": "The shipped pipeline, all stages in a worker: engines by batch, a backlog, 1,000/s through two hops",
    "explaining_lag": "ms from a decision to its explanation at a reader, `explain-decisions` beside the worker",
    "overload": "A payment in time and past its deadline; a take-over of half of the partitions beside the other half",
    "training": "`streamproc train` of card_fraud's model, one thread: features, all that follows, a fit alone",
    "memory": "Cards on disk, a budget in memory: windows by hit ratio; a ttl of 30 days over 60",
}


class Goal(NamedTuple):
    """One line of the table: `of` finds the figure in the results, None if that part did not run."""

    name: str
    goal: str
    of: Callable[[Result], float | None]
    good: Callable[[float], bool]


def write(results: Result, directory: Path, stamp: str, *, document: bool) -> tuple[Path, Path]:
    """`directory`/`stamp`.json and .md; with `document`, docs/benchmarks.md too, but for what it says of the peers."""
    directory.mkdir(parents=True, exist_ok=True)
    data, text = directory / f"{stamp}.json", directory / f"{stamp}.md"
    data.write_text(json.dumps(results, indent=1) + "\n")
    shown = markdown(results)
    text.write_text(shown)
    if document:
        _, heading, peers = DOCUMENT.read_text().partition(_BY_HAND)
        DOCUMENT.write_text(shown + heading + peers)
    return data, text


def markdown(results: Result) -> str:
    """The whole report."""
    lines = [
        "# Benchmarks", "",
        "Made by `make bench` (benchmarks/README.md says how each figure is taken). Every end-to-end figure comes with",
        "its check: missing, duplicate, unknown and mismatching decisions against benchmarks/reference.py.", "",
        "## Machine", "", *table([{"": name, "value": value} for name, value in results["machine"].items()]), "",
    ]  # fmt: skip
    if judged := goals(results):
        lines += ["## Figures to reach", "", *table(judged), ""]
    for part, what in _WHAT.items():
        if rows := results.get(part):
            lines += [f"## {part.capitalize()}", "", f"{what}.", "", *table(rows), ""]
    for title, rows in results.get("modules", {}).items():
        lines += [f"### {title}", "", *table(rows), ""]
    return "\n".join(lines)


def table(rows: Iterable[Result]) -> list[str]:
    """Markdown; columns as they first appear, those with nothing but zeroes in the counts of errors too."""
    rows = list(rows)
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    return lines + ["| " + " | ".join(_cell(row.get(name)) for name in names) + " |" for row in rows]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        size = abs(value)
        return f"{value:,.0f}" if size >= 1_000 else f"{value:.1f}" if size >= 10 else f"{value:.3g}"
    if isinstance(value, list):
        return " / ".join(map(_cell, value))
    return str(value).replace("|", "\\|")


# ---- what is to be reached


def _one(results: Result, part: str, figure: str, **wanted: Any) -> float | None:
    for row in results.get(part, ()):
        if all(row.get(name) == value for name, value in wanted.items()) and figure in row:
            return float(row[figure])
    return None


def _latency(figure: str, rate: int) -> Callable[[Result], float | None]:
    return lambda results: _one(results, "latency", figure, what="R", rate=rate, log="kafka")


def _above_floor(results: Result) -> float | None:
    engine = _one(results, "latency", "p99", what="R", rate=1_000, log="kafka")
    floor = _one(results, "latency", "p99", what="floor", rate=1_000, log="kafka")
    return None if engine is None or floor is None else engine - floor


def _card(results: Result) -> float | None:
    found = [row for row in results.get("scale", ()) if not row["hot"] and row["cards"] >= 100_000]
    return max((float(row["table_bytes_a_card"]) for row in found), default=None)


def _wrong(results: Result) -> float | None:
    names = ("missing", "duplicates", "unknown", "mismatches")
    rows = [row for part in ("drain", "latency", "kill", "workers", "rebalance") for row in results.get(part, ())]
    return float(sum(row.get(name, 0) for row in rows for name in names)) if rows else None


def _explained(results: Result) -> float | None:
    rows = [row for row in results.get("explaining_lag", ()) if "p99_ms" in row]
    return max((float(row["p99_ms"]) for row in rows), default=None)


def _over_the_bound(results: Result) -> float | None:
    rows = [row for row in results.get("rebalance", ()) if "bound_ms" in row]
    return max((float(row["stay_pause_ms"] - row["bound_ms"]) for row in rows), default=None)


GOALS = (
    Goal(
        "drain R on Kafka, records/s", ">= 150,000",
        lambda r: _one(r, "drain", "records_per_s", log="kafka", variant="R"), lambda x: x >= 150_000,
    ),
    Goal(
        "drain M on Kafka, records/s", ">= 80,000",
        lambda r: _one(r, "drain", "records_per_s", log="kafka", variant="M"), lambda x: x >= 80_000,
    ),
    Goal("p50 at 1,000/s, ms", "<= 6", _latency("p50", 1_000), lambda x: x <= 6),
    Goal("p99 at 1,000/s above the floor's p99, ms", "<= 5", _above_floor, lambda x: x <= 5),
    Goal("p50 at 5,000/s, ms", "<= 8", _latency("p50", 5_000), lambda x: x <= 8),
    Goal("p99 at 20,000/s, ms", "<= 50", _latency("p99", 20_000), lambda x: x <= 50),
    Goal(
        "kill -9 in mid-drain to the first committed output, s", "<= 1.5",
        lambda r: _one(r, "kill", "kill_to_first_s", what="kill -9", log="kafka"), lambda x: x <= 1.5,
    ),
    Goal(
        "kill -9 at 5,000/s to the first committed output, the same pod, s", "<= 1.5",
        lambda r: _one(r, "kill", "kill_to_first_s", what="kill -9 at a rate, same pod", log="kafka"),
        lambda x: x <= 1.5,
    ),
    Goal(
        "the same, another pod: the session of 10 s and two more, s", "<= 12",
        lambda r: _one(r, "kill", "kill_to_first_s", what="kill -9 at a rate, another pod", log="kafka"),
        lambda x: x <= 12,
    ),
    Goal(
        "silent replay on Kafka, events/s", ">= 400,000",
        lambda r: _one(r, "kill", "replay_per_s", log="kafka"), lambda x: x >= 400_000,
    ),
    Goal(
        "silent replay, embedded log, events/s of a core", ">= 400,000",
        lambda r: _one(r, "replay", "events_per_s"), lambda x: x >= 400_000,
    ),
    Goal(
        "longest pause of partitions that stay, of a rebalance, above its bound, ms", "<= 0",
        _over_the_bound, lambda x: x <= 0,
    ),
    Goal("an explanation after its decision, p99 of the slowest run, ms", "<= 1,000", _explained, lambda x: x <= 1_000),
    Goal("memory of a card with 5 live events, bytes", "<= 500", _card, lambda x: x <= 500),
    Goal(
        "RSS of the worker in the drain, MiB", "< 300",
        lambda r: _one(r, "drain", "rss_peak_mb", log="kafka", variant="R"), lambda x: x < 300,
    ),
    Goal(
        "cold start to the first decision, s", "< 1.5",
        lambda r: _one(r, "kill", "start_to_first_s", log="kafka"), lambda x: x < 1.5,
    ),
    Goal("missing, duplicate, unknown and mismatching decisions", "0", _wrong, lambda x: x == 0),
)  # fmt: skip


def goals(results: Result) -> list[Result]:
    """One row a goal whose part ran."""
    found = [(goal, goal.of(results)) for goal in GOALS]
    return [
        {"figure": goal.name, "goal": goal.goal, "measured": value, "reached": goal.good(value)}
        for goal, value in found
        if value is not None
    ]
