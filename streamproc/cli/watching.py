"""What `models watch` does."""

from __future__ import annotations

__all__ = ["Opened", "Wanted", "opened", "watch"]

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import structlog
from prometheus_client import CollectorRegistry

from models.absent import Blank
from models.registry import Registry, open_registry
from models.watching.days import DAY_MS, Known
from models.watching.watch import COMPARED_DAYS, Settings, Watch
from operators.plan import Plan, streams_of
from operators.values import parse_timestamp
from state.errors import ConfigError, Place
from state.hashing import stable_hashes64
from streamproc.cli.common import compiled
from streamproc.cli.compose import open_log
from streamproc.cli.labels_file import LABEL_AT, kind_of, read_labels
from streamproc.cli.listening import listen
from streamproc.cli.loops import until_signal
from streamproc.cli.train_options import delay_ms
from streamproc.cli.watch_reports import Reports
from streamproc.clock import SystemClock
from streamproc.language import load_pipeline
from streamproc.language.problems import nearest
from streamproc.runtime.health import HealthServer
from streamproc.services.watching.follow import Follower, Label, LabelStream
from streamproc.services.watching.metrics import Standing, WatchMetrics

_logger = structlog.get_logger("watching")


class Wanted(NamedTuple):
    """The command's options."""

    file: Path | None
    stream: str | None
    label: str | None
    others_legitimate: bool
    label_delay: str
    days: int
    payments: int


class Opened(NamedTuple):
    """What is watched; labels come from a `file`, a `stream`, or from nowhere."""

    plan: Plan
    watch: Watch
    file: LabelsFile | None
    stream: LabelStream | None


class LabelsFile:
    """A file of labels that is read again when it has changed. `label`: None: it lists frauds."""

    def __init__(self, path: Path, name: str, label: str | None) -> None:
        self._path, self._name, self._label = path, name, label
        self._seen: tuple[int, ...] | None = None

    def read(self, watch: Watch) -> None:
        """Give its labels to `watch`, if it is another one than the last time.

        Raises:
            ConfigError: it cannot be read, or is no such file.
        """
        seen = self._look()
        if seen == self._seen:
            return
        self._seen = seen
        found = _timed_labels(self._path, self._name, self._label)
        kinds, times = zip(*found.values(), strict=True) if found else ((), ())
        watch.replace_labels(stable_hashes64(list(found)), np.array(times, np.int64), np.array(kinds, np.int8))

    def _look(self) -> tuple[int, ...]:
        """What changes with the file; (): there is none."""
        try:
            found = self._path.stat()
        except OSError:
            return ()
        return found.st_ino, found.st_size, found.st_mtime_ns


def _timed_labels(path: Path, name: str, label: str | None) -> Mapping[str, tuple[int, int]]:
    """See `read_labels`; here they need times: a day's report says what was known at its end."""
    apart = read_labels(path, name, label)
    if apart.by_id and not apart.timed:
        raise ConfigError(f"there is no column {LABEL_AT!r}", Place(str(path)), "it says when each label was known")
    return apart.by_id


def opened(path: str, wanted: Wanted) -> Opened:
    """Load a pipeline, and what is to be known of its model.

    Raises:
        ConfigError: it is wrong, its model is in no registry, or labels cannot be read.
    """
    pipeline = load_pipeline(path)
    plans = compiled(pipeline, Blank)
    plan = plans[-1]
    if plan.model is None or plan.model.version is None:
        what = "has no model" if plan.model is None else f"has no registered version of {plan.model.name}"
        hint = "models: {fraud: {registry: DIR, version: 1, features: [...]}}, see docs/models/serving.md"
        raise ConfigError(f"the pipeline {plan.pipeline} {what}: there is nothing to compare with", hint=hint)
    others_legitimate = wanted.others_legitimate or (wanted.file is not None and wanted.label is None)
    settings = Settings(delay_ms(wanted.label_delay), others_legitimate, wanted.days, wanted.payments)
    _check_days(settings)
    served = pipeline.models[plan.model.name].served
    assert served is not None
    registry = open_registry(served.address(pipeline.folder))
    watch = Watch(plan.pipeline, plan.model.name, settings, _known_of(registry, plan.model.name))
    if wanted.file is None and wanted.stream is None:
        if wanted.label is not None or wanted.others_legitimate:
            raise ConfigError("there are no labels", hint="give --labels or --labels-stream, too")
        return Opened(plan, watch, None, None)
    if wanted.stream is not None:
        if wanted.label is None:
            raise ConfigError("which field says fraud or not?", hint="name it: --label")
        return Opened(plan, watch, None, _label_stream(plans, wanted.stream, wanted.label))
    assert wanted.file is not None
    file = LabelsFile(wanted.file, plans[0].stream.field(plans[0].stream.id).source, wanted.label)
    file.read(watch)
    return Opened(plan, watch, file, None)


def _check_days(settings: Settings) -> None:
    least = -(-settings.label_delay_ms // DAY_MS) + COMPARED_DAYS + 1
    if settings.days < least:
        raise ConfigError(
            f"--days {settings.days}: a day is told of with the {COMPARED_DAYS - 1} before it, until its labels are "
            "known",
            hint=f"give {least} or more, or a shorter --label-delay",
        )


def _known_of(registry: Registry, name: str) -> Callable[[int], Known]:
    """What the registry says of a version, or that it does not."""

    def known(version: int) -> Known:
        try:
            manifest = registry.manifest(name, version)
        except ConfigError as error:
            _logger.warning("a version's manifest cannot be read", version=version, reason=error.message)
            return Known(
                why="the registry has no manifest of it: its threshold, and drift from its training, are not known"
            )
        why = "" if manifest.baseline else "its manifest has no baseline: drift from its training is not known"
        return Known(manifest.threshold.score, manifest.baseline, why)

    return known


def _label_stream(plans: Sequence[Plan], name: str, label: str) -> LabelStream:
    """Reads labels out of records of a stream: the payment's id is the field of that name, else the stream's own id."""
    decided, *_ = streams = streams_of(plans)
    others = [other for other in streams if other != decided]
    if name not in others:
        hint = nearest(name, others) or "declare it as docs/language/streams.md shows, or give --labels FILE"
        raise ConfigError(f"--labels-stream: no stream {name} stands beside {decided}", hint=hint)
    stream = streams[name]
    names = [spec.name for spec in stream.fields]
    if stream.format != "json" or stream.event_time is None:
        raise ConfigError(f"--labels-stream: {name} is not JSON with an event_time", hint="or give --labels FILE")
    if label not in names:
        raise ConfigError(f"--label: the stream {name} has no field {label}", hint=nearest(label, names))
    own = streams[decided].id
    sources = {
        "id": stream.field(own if own in names else stream.id).source,
        "label": stream.field(label).source,
        "at": stream.field(stream.event_time).source,
    }
    shape = msgspec.defstruct("Label", [(key, Any, None) for key in sources], rename=sources, gc=False)
    decode: Callable[[bytes], Any] = msgspec.json.Decoder(shape).decode

    def read(record: bytes) -> Label | None:
        try:
            found = decode(record)
            kind = kind_of(found.label, label, Place(name))
        except (msgspec.DecodeError, ConfigError):
            return None
        at = parse_timestamp(found.at) if isinstance(found.at, str) else found.at
        if found.id is None or not isinstance(at, int) or isinstance(at, bool):
            return None
        return Label(str(found.id), kind, at)

    return LabelStream(stream.topic, read)


async def watch(
    given: Opened, log_url: str, reports: Reports | None, host: str, port: int | None, *, until_end: bool
) -> None:
    """Watch until a signal, or to what is the log's end now.

    Raises:
        ConfigError: nothing can listen there, or no report can be written.
        EventLogError: the log failed.
    """
    registry = CollectorRegistry()
    metrics = WatchMetrics(registry)
    log = open_log(log_url)
    follower = Follower(given.plan, log, given.watch, SystemClock(), given.stream)
    health = HealthServer(registry, lambda: follower.ready)
    try:
        await listen(health, host, port)
        say = _sayer(given, reports, metrics if port is not None else None)
        await until_signal(follower.run(say, until_end=until_end))
    finally:
        await health.close()
        await log.close()
    if reports is not None:
        await asyncio.to_thread(sys.stderr.write, f"{reports.written:,} daily reports written to {reports.folder}\n")


def _sayer(given: Opened, reports: Reports | None, metrics: WatchMetrics | None) -> Callable[[], None]:
    """What tells of what is new; blocks."""
    told = 0

    def say() -> None:
        nonlocal told
        if given.file is not None:
            try:
                given.file.read(given.watch)
            except ConfigError as error:
                _logger.error("the file of labels cannot be read: the ones before hold", reason=error.message)
        if given.watch.empty or given.watch.changes == told:
            return
        told = given.watch.changes
        if reports is not None:
            for day in given.watch.due():
                reports.write(given.watch.report(day))
        if metrics is not None:
            metrics.now = Standing(given.watch.standing(), given.watch.stream_ms, given.watch.older)

    return say
