"""Which versions of a pipeline's models are at work: what the topic says, and its records."""

from __future__ import annotations

__all__ = ["Changed", "Declared", "declared", "names_of_roles", "read_roles", "roles_at_work", "write_roles"]

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from models.registry import open_registry
from operators.live_tables import Row, TableRows, row_json
from operators.serving import ROLES, Roles, ServedModel, roles_of_row, row_of_roles
from state.errors import ConfigError, FencedError, TaskMigratedError
from streamproc.cli.compose import open_log
from streamproc.cli.table_publisher import Who
from streamproc.eventlog.contract import EventLog, OutputRecords, TopicPartition, TransactionalWriter
from streamproc.language import load_pipeline
from streamproc.language.live import roles_topic
from streamproc.language.problems import nearest
from streamproc.runtime.topic_tables import prepare_table_topic, read_table_topic


class Declared(NamedTuple):
    """A registered model as the pipeline declares it; `start`: the roles where the topic says nothing."""

    name: str
    topic: str
    registry: str
    features: tuple[str, ...]
    start: Roles

    def check(self, roles: Roles) -> None:
        """Raises ConfigError if a version cannot be opened, or takes features that the pipeline does not give."""
        registry = open_registry(self.registry)
        ServedModel(self.name, self.features, lambda number: registry.model(self.name, number), roles)


class Changed(msgspec.Struct, frozen=True):
    """What was at work, and what is from now on. `written`: a record says so; False: the last one does already."""

    model: str
    before: Roles
    now: Roles
    written: bool = True

    def text(self) -> str:
        """One line."""
        if not self.written:
            return f"{self.model}: {_said(self.now)}, as it was: nothing was written"
        return f"{self.model}: {_said(self.now)} (before: {_said(self.before)})"


def declared(pipeline: str, name: str) -> Declared:
    """The model `name` of a pipeline's file.

    Raises:
        ConfigError: there is none, or it is a file.
    """
    loaded = load_pipeline(pipeline)
    model = loaded.models.get(name)
    if model is None:
        raise ConfigError(f"{pipeline} has no model {name!r}", hint=nearest(name, loaded.models))
    if (served := model.served) is None:
        raise ConfigError(f"model {name} is a file", model.place, "registry: and version: make its versions change")
    registry = served.address(loaded.folder)
    return Declared(name, roles_topic(loaded.pipeline), registry, model.features, served.roles)


async def read_roles(log: EventLog, model: Declared) -> tuple[Roles, Row | None]:
    """What is at work by the topic, and its record; None: there is none, and the pipeline's file holds.

    Raises:
        ConfigError: the record is no such one.
        EventLogError: the log failed.
    """
    rows = TableRows(ROLES)
    await read_table_topic(log, model.topic, rows)
    found = rows.of.get(model.name)
    return (roles_of_row(found[0]), found[0]) if found else (model.start, None)


async def write_roles(model: Declared, log_url: str, who: Who, change: Callable[[Roles, Row | None], Roles]) -> Changed:
    """Put other roles to work: `change` makes them of those of now. Of two at a time the later one wins, and the other
    is refused: it would write back what it had read before.

    Raises:
        ConfigError: a version cannot be opened, the change cannot be made, or another one was made meanwhile.
        EventLogError: the log failed; whether it was written is not known.
    """
    log = open_log(log_url)
    try:
        writer = log.writer(f"models-{model.topic}")
        await writer.open()  # before what is at work is read: who has read it earlier can write no more
        try:
            old, row = await read_roles(log, model)
            new = change(old, row)
            await asyncio.to_thread(model.check, new)
            if row is not None and new == old:  # one more record would be the change that a rollback takes back
                return Changed(model.name, old, new, written=False)
            tp = await prepare_table_topic(log.admin(), model.topic)
            await _write(writer, _record(model, (old, new), who, tp))
        except (FencedError, TaskMigratedError):
            raise ConfigError(
                f"the roles of {model.name} were changed by another meanwhile; nothing was written",
                hint="see `streamproc models list`, and try again",
            ) from None
        finally:
            await writer.abandon()
        return Changed(model.name, old, new)
    finally:
        await log.close()


def _record(model: Declared, roles: tuple[Roles, Roles], who: Who, tp: TopicPartition) -> OutputRecords:
    old, new = roles
    signed = {**row_of_roles(model.name, new, old), "added_by": who.name, "added_at": who.at, "reason": who.why}
    value = row_json(ROLES, [signed])
    return OutputRecords(tp, [model.name.encode()], [value], time.time_ns() // 1_000_000, [who.headers])


async def _write(writer: TransactionalWriter, output: OutputRecords) -> None:
    await writer.begin()
    await writer.append([output])
    await writer.delivered()
    await writer.commit()


async def roles_at_work(pipeline: str, name: str, log_url: str) -> Roles:
    """Raises as `declared` and `read_roles`."""
    log = open_log(log_url)
    try:
        roles, _ = await read_roles(log, await asyncio.to_thread(declared, pipeline, name))
    finally:
        await log.close()
    return roles


def names_of_roles(found: Mapping[str, Roles]) -> dict[tuple[str, int], str]:
    """What each version of a model does, by model and version.

    >>> names_of_roles({"fraud": Roles(12, 13, 0.1, (14,))})[("fraud", 13)]
    'challenger, 10.00%'
    """
    named: dict[tuple[str, int], str] = {}
    for name, roles in found.items():
        named |= {(name, number): "shadow" for number in roles.shadows}
        if roles.challenger is not None:
            named[name, roles.challenger] = f"challenger, {roles.share:.2%}"
        named[name, roles.champion] = "champion"
    return named


def _said(roles: Roles) -> str:
    rival = [] if roles.challenger is None else [f"challenger {roles.challenger} for {roles.share:.2%} of the keys"]
    shadows = [f"shadow {number}" for number in roles.shadows]
    return ", ".join([f"champion {roles.champion}", *rival, *shadows])
