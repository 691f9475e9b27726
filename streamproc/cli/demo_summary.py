"""What the demo came to: counted from committed decisions and the labels, which meet here for the first time."""

from __future__ import annotations

__all__ = ["DemoSummary", "Timing", "summarize"]

import os
import shlex
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import numpy.typing as npt

from streamproc.cli.demo_folder import DemoFolder
from streamproc.cli.demo_reader import DecisionReader
from streamproc.services.generator import FRAUD_KINDS, GeneratorOptions, Traffic

if TYPE_CHECKING:
    from operators.plan import Plan

_APPROVE = "approve"


class Timing(msgspec.Struct):
    """Monotonic seconds. `appends`: how many records, handed over when, in the log when."""

    started: float
    ended: float = 0.0
    generate_seconds: float = 0.0
    drained: int = 0
    drain_seconds: float = 0.0
    rate: float = 0.0
    steady_from: int = 0
    appends: list[tuple[int, float, float]] = []
    interrupted: bool = False
    worker_exit: int = 0


class Found(msgspec.Struct):
    """Planted frauds of one kind: an attack is found if any of its payments is not approved."""

    payments: int
    found: int
    missed: int
    attacks: int
    attacks_found: int


class DemoSummary(msgspec.Struct):
    """See `docs/generator.md`; times in ms or seconds as their names say."""

    pipeline: str
    seed: int
    events: int
    fed: int
    decided: int
    dead_letters: int
    missing: int
    doubled: int
    interrupted: bool
    decisions: dict[str, int]
    frauds: dict[str, Found]
    legitimate: int
    false_positives: dict[str, int]
    false_positive_rate: float
    rules: dict[str, int]
    shadow_rules: list[str]
    latency_ms: dict[str, float]
    latency_with_append_ms: dict[str, float]
    latency_events: int
    steady_events_per_second: float
    drain_events: int
    events_per_second: float
    generated_per_second: float
    seconds: float
    worker_exit: int
    output: dict[str, str]
    next: list[str]

    def line(self) -> bytes:
        """One line of JSON."""
        return msgspec.json.encode(self) + b"\n"

    def text(self) -> str:
        """The same for people."""
        if self.interrupted and not self.decided:
            return f"interrupted before any payment was decided ({self.fed:,} are in {self.output['the event log']})\n"
        parts = [self._head(), self._decisions(), self._frauds(), self._rules(), self._speed(), self._where()]
        return "\n\n".join(part for part in parts if part) + "\n"

    def _head(self) -> str:
        ended, open_ones = ("interrupted: ", "not yet decided") if self.interrupted else ("", "missing")
        left = [f"{count:,} {what}" for what, count in ((open_ones, self.missing), ("doubled", self.doubled)) if count]
        said = ", ".join(left) or "each exactly once"
        return f"{ended}{self.decided:,} of {self.fed:,} payments decided in {self.seconds:.1f} s, {said}"

    def _decisions(self) -> str:
        shown = [f"{name} {count:,}" for name, count in self.decisions.items()]
        if self.dead_letters:
            shown.append(f"dead letters {self.dead_letters:,}")
        return "Decisions: " + ", ".join(shown)

    def _frauds(self) -> str:
        if not self.frauds:
            return ""
        lines = [f"{'Planted frauds':23}{'attacks':>9}{'found':>8}{'payments':>11}{'found':>8}{'missed':>8}"]
        for kind, found in self.frauds.items():
            lines.append(
                f"  {kind:21}{found.attacks:>9,}{found.attacks_found:>8,}"
                f"{found.payments:>11,}{found.found:>8,}{found.missed:>8,}"
            )
        wrong = ", ".join(f"{name} {count:,}" for name, count in self.false_positives.items()) or "none"
        lines.append(
            f"  of {self.legitimate:,} legitimate payments not approved: {wrong} ({self.false_positive_rate:.2%})"
        )
        return "\n".join(lines)

    def _rules(self) -> str:
        hits = sorted(self.rules.items(), key=lambda item: -item[1])
        shown = {rule: f"{rule} (shadow)" if rule in self.shadow_rules else rule for rule in self.rules}
        return "\n".join(["Rules hit", *(f"  {shown[rule]:26}{count:>7,}" for rule, count in hits)])

    def _speed(self) -> str:
        if not self.latency_events:
            return ""
        p = self.latency_ms
        q = self.latency_with_append_ms
        return (
            f"Latency from in the log to decision committed and read, {self.latency_events:,} payments at "
            f"{self.steady_events_per_second:,.0f} a second\n"
            f"  p50 {p['p50']:.1f} ms   p95 {p['p95']:.1f} ms   p99 {p['p99']:.1f} ms   "
            f"(with the append itself: {q['p50']:.1f}, {q['p95']:.1f}, {q['p99']:.1f})\n"
            f"Throughput of one worker on a backlog: {self.events_per_second:,.0f} payments a second"
        )

    def _where(self) -> str:
        lines = ["What it left", *(f"  {path:40} {what}" for what, path in self.output.items())]
        return "\n".join([*lines, "", "Try next", *(f"  {line}" for line in self.next)])


def summarize(
    plan: Plan, reader: DecisionReader, timing: Timing, *, pipeline: Path, folder: DemoFolder,
    options: GeneratorOptions, traffic: Traffic | None,
) -> DemoSummary:  # fmt: skip
    """Count what was decided. `traffic` is None if it was interrupted before there was any."""
    fed = sum(count for count, _, _ in timing.appends)
    ids = traffic.ids[:fed] if traffic else []
    actions = [seen.decision if (seen := reader.seen.get(of)) else None for of in ids]
    frauds, wrong, legitimate = _against_labels(traffic, actions)
    latency, with_append = _latencies(ids, reader, timing)
    order = [*plan.decision.severity]
    rules = _rules(plan, reader)
    return DemoSummary(
        pipeline=plan.pipeline,
        seed=options.seed,
        events=options.events,
        fed=fed,
        decided=reader.decisions,
        dead_letters=reader.refused,
        missing=max(0, fed - len(reader.seen) - reader.refused),
        doubled=reader.decisions - len(reader.seen),
        interrupted=timing.interrupted,
        decisions={name: reader.actions[name] for name in order},
        frauds=frauds,
        legitimate=legitimate,
        false_positives={name: wrong[name] for name in order if wrong[name]},
        false_positive_rate=round(wrong.total() / max(1, legitimate), 6),
        rules=rules,
        shadow_rules=[rule.id for rule in plan.rules if rule.shadow],
        latency_ms=_percentiles(latency),
        latency_with_append_ms=_percentiles(with_append),
        latency_events=len(latency),
        steady_events_per_second=round(timing.rate, 1),
        drain_events=timing.drained,
        events_per_second=round(timing.drained / timing.drain_seconds, 1) if timing.drained else 0.0,
        generated_per_second=round(len(ids) / timing.generate_seconds, 1) if timing.generate_seconds else 0.0,
        seconds=round(timing.ended - timing.started, 3),
        worker_exit=timing.worker_exit,
        output=_output(folder),
        next=_next(pipeline, folder),
    )


def _against_labels(traffic: Traffic | None, actions: list[str | None]) -> tuple[dict[str, Found], Counter[str], int]:
    """Of the decided payments: planted ones by kind, wrongly stopped ones by action, how many were legitimate."""
    if traffic is None:
        return {}, Counter(), 0
    kinds = traffic.rows.kind[: len(actions)]
    attacks = traffic.rows.attack[: len(actions)]
    decided = np.array([action is not None for action in actions], np.bool_)
    stopped = decided & np.array([action != _APPROVE for action in actions], np.bool_)
    found = {}
    for code, kind in enumerate(FRAUD_KINDS):
        mine = decided & (kinds == code)
        hit = mine & stopped
        count, hits = int(mine.sum()), int(hit.sum())
        found[kind] = Found(count, hits, count - hits, len(np.unique(attacks[mine])), len(np.unique(attacks[hit])))
    legitimate = decided & (kinds < 0)
    wrong = Counter(action for i in np.flatnonzero(legitimate & stopped).tolist() if (action := actions[i]))
    return found, wrong, int(legitimate.sum())


def _latencies(
    ids: list[str], reader: DecisionReader, timing: Timing
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Of the payments at the steady rate, ms: from the append's end, and from its begin, to the decision's arrival.

    A decision that was read before our own append returned counts as 0.
    """
    if not timing.steady_from:
        return np.empty(0), np.empty(0)
    counts = [count for count, _, _ in timing.appends]
    times = np.array([(began, ended) for _, began, ended in timing.appends])
    began, ended = np.repeat(times, counts, axis=0)[timing.steady_from :].T
    arrived = np.array([reader.arrived.get(of, np.nan) for of in ids[timing.steady_from :]])
    here = ~np.isnan(arrived)
    return np.maximum(arrived - ended, 0)[here] * 1000, (arrived - began)[here] * 1000


def _percentiles(latencies: npt.NDArray[np.float64]) -> dict[str, float]:
    if not len(latencies):
        return {}
    found = np.percentile(latencies, [50, 95, 99, 100]).round(3).tolist()
    return dict(zip(("p50", "p95", "p99", "max"), found, strict=True))


def _rules(plan: Plan, reader: DecisionReader) -> dict[str, int]:
    """Hits by rule: decisions quote the reasons of live rules, and name shadow rules."""
    reasons = Counter(reason for seen in reader.seen.values() for reason in seen.reasons)
    shadow = Counter(rule for seen in reader.seen.values() for rule in seen.shadow)
    return {rule.id: shadow[rule.id] if rule.shadow else reasons[rule.reason] for rule in plan.rules}


def _output(folder: DemoFolder) -> dict[str, str]:
    return {
        "all decisions, one a line": str(folder.decisions),
        "the payments": str(folder.payments),
        "what users did with their accounts": str(folder.account_events),
        "which of them are frauds": str(folder.labels),
        "the event log": str(folder.log),
        "this summary": str(folder.summary),
    }


def _next(pipeline: Path, folder: DemoFolder) -> list[str]:
    """Commands that can be pasted into the shell that the demo was called from."""
    ours, rules = _program(), _near(pipeline)
    tail = [*ours, "tail", "high_risk", "--pipeline", rules, "--log", f"file:{folder.log}", "--until-end"]
    output = str(folder.path / "backtest.parquet")
    inputs = [str(folder.payments), str(folder.account_events)]
    backtest = [*ours, "backtest", rules, "--input", *inputs, "--output", output]
    copy = ["cp", "-r", os.path.dirname(rules), "my_rules"]
    return [
        shlex.join(tail),
        shlex.join(backtest),
        f"{shlex.join(copy)}   # change a rule, and backtest it on the same payments",
    ]


def _program() -> list[str]:
    """How this program is called: by its name only if the shell finds it."""
    if shutil.which("streamproc"):
        return ["streamproc"]
    script = Path(sys.executable).with_name("streamproc")
    return [_near(script)] if script.exists() else [_near(Path(sys.executable)), "-m", "streamproc.cli.main"]


def _near(path: Path) -> str:
    """The shorter way to write it: from here, unless it lies elsewhere."""
    near = os.path.relpath(path)
    return str(path) if near.startswith("..") else near
