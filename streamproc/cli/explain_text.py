"""A prediction as text for a terminal."""

from __future__ import annotations

__all__ = ["explanation"]

from collections.abc import Collection, Sequence
from itertools import groupby

from streamproc.language.costing import Prediction, StagePrediction

_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1))


def explanation(prediction: Prediction) -> str:
    """The drawing, the stages, and where the figures come from."""
    parts = [_head(prediction), *(_stage(stage, prediction) for stage in prediction.stages), _foot(prediction)]
    return "\n".join(parts)


def _head(prediction: Prediction) -> str:
    boxes: list[str] = []
    for parallel, stages in groupby(prediction.stages, key=lambda stage: stage.parallel):
        if parallel:
            boxes += _branches([list(branch) for _, branch in groupby(stages, key=lambda stage: stage.branch)])
        else:
            boxes += _boxes(list(stages))
    drawing = " -> ".join([prediction.stream, *boxes, "decisions"])
    hops = f"{prediction.hops} hop{'s' * (prediction.hops != 1)}"
    return (
        f"pipeline {prediction.pipeline}: {hops}, {prediction.partitions} partitions\n\n  {drawing}\n\n"
        f"  {prediction.us:.1f} us an event in full batches: {1e6 / prediction.us:,.0f} events a second of a core\n"
        f"  {prediction.us_alone / 1000:.2f} ms for an event that comes alone\n"
    )


def _boxes(stages: Sequence[StagePrediction], drawn: Collection[str] = ()) -> list[str]:
    """Stages, and the calls before them that are not `drawn` yet."""
    return [
        box
        for stage in stages
        for box in (
            *(f"({call})" for call in stage.calls if call not in drawn), f"[{stage.stage} by {stage.partition_by}]",
        )
    ]  # fmt: skip


def _branches(branches: Sequence[Sequence[StagePrediction]]) -> list[str]:
    """What is asked before all of them, and they."""
    asked = [call for call in branches[0][0].calls if all(call in heads.calls for heads, *_ in branches)]
    drawn = [" -> ".join(_boxes(branch, asked)) for branch in branches]
    return [*(f"({call})" for call in asked), "{" + " | ".join(drawn) + "}"]


def _stage(stage: StagePrediction, prediction: Prediction) -> str:
    title = f"stage {stage.stage}: {stage.reads} by {stage.partition_by} -> {stage.to}\n"
    if stage.also:
        title += f"  its state is brought forward by {', '.join(stage.also)}, too: their events are not reckoned\n"
    rows = [
        [work.what, work.name, _figure(work.us, 2), _figure(work.us_alone, 0), str(work.hops), work.detail]
        for work in stage.work
    ]
    rows.append(["all", stage.stage, _figure(stage.us, 2), _figure(stage.us_alone, 0), str(stage.work[-1].hops), ""])
    text = title + _table(["part", "name", "us", "alone", "hops", ""], rows, "<<>>><")
    return text + (_keys(stage, prediction) if stage.keys else "")


def _figure(us: float, digits: int) -> str:
    return f"{us:,.{digits}f}"


def _keys(stage: StagePrediction, prediction: Prediction) -> str:
    names = ["table", "bytes a key", "on disk", "entries", "bytes an entry", "kept", "forgotten after"]
    rows = [
        [
            state.table, f"{state.bytes:,}", f"{state.stored_bytes:,}", f"{state.entries:,}", str(state.entry_bytes),
            _kept(state.kept_ms), _kept(state.ttl_ms) if state.ttl_ms else "never",
        ]
        for state in stage.keys
    ]  # fmt: skip
    events = f"{prediction.rate:g} event{'s' * (prediction.rate != 1)} a key a day"
    return f"\nstate of stage {stage.stage}, at {events}\n" + _table(names, rows, "<>>>>>>")


def _kept(milliseconds: int) -> str:
    """The two largest units of a span, as far as it has them.

    >>> _kept(90 * 86_400_000 + 3_600_000), _kept(87_005_000), _kept(40_000)
    ('90d 1h', '1d 10m', '40s')
    """
    parts = []
    rest = milliseconds
    for unit, span in _UNITS:
        count, rest = divmod(rest, span)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2]) or "0s"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], aligned: str) -> str:
    """Lines of columns, `aligned` by a sign each: < to the left, > to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [
        "  ".join(f"{cell:{sign}{width}}" for cell, sign, width in zip(row, aligned, widths, strict=True)).rstrip()
        for row in (header, *rows)
    ]
    return "".join(f"  {line}\n" for line in lines)


def _foot(prediction: Prediction) -> str:
    machine = prediction.machine
    ids = f"An id that is remembered takes {prediction.id_bytes} bytes.\n" if prediction.id_bytes else ""
    return (
        f"{ids}Without the log's own work, flushes and checkpoints. Full batches have {prediction.batch:,} rows.\n"
        f"Costs: {machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, {machine['date']}.\n"
    )
