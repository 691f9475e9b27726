"""`stages:`, or the one whose keys stand at the top of the file: stages, calls between them, stages side by side."""

from __future__ import annotations

__all__ = ["read_stages"]

from collections.abc import Sequence

import msgspec

from streamproc.language.load_calls import read_call
from streamproc.language.load_features import read_features
from streamproc.language.load_patterns import read_patterns
from streamproc.language.load_statements import read_statements
from streamproc.language.load_timed import TIMED_KEYS, read_timed, read_watermark
from streamproc.language.model import IN_STEP_MS, WAIT_MS, Call, Parallel, Stage, Stream
from streamproc.language.problems import Problems
from streamproc.language.reader import Section, duration, identifier
from streamproc.language.yaml_tree import Items

_EXAMPLE = "- parallel: [{name: merchant, ...}, {name: device, ...}]"


def read_stages(top: Section, streams: dict[str, Stream]) -> tuple[Stage, ...]:
    """All stages, in order; those side by side in the order in which they are written."""
    stream = next(iter(streams), "")
    if (node := top.node("stages")) is None:
        return (_stage(top, "main", stream),)
    for key in ("name", "partition_by", "per", "ttl", "in_step", "features", "patterns", "sql", *TIMED_KEYS):
        if top.node(key) is not None:
            top.problems.add(f"{key!r} stands beside 'stages'", top.key_place(key), "move it into the stage")
    if not isinstance(node, Items) or not node.items:
        top.problems.add("stages must be a list of stages", top.key_place("stages"))
        return ()
    reader = _Reader(stream, top.problems)
    for item in node.items:
        reader.take(Section(item, "the stage", top.problems))
    return reader.all()


class _Reader:
    """Takes the entries one after the other. `stream`: what the first stage reads."""

    def __init__(self, stream: str, problems: Problems) -> None:
        self._stream, self._problems = stream, problems
        self._found: list[Stage] = []
        self._calls: list[Call] = []
        self._names: dict[str, str] = {}
        """By name: what the stage is for that nobody wrote; "": it was written."""

    def take(self, section: Section) -> None:
        """The next entry."""
        if "parallel" in section:
            self._take_parallel(section)
        elif "call" in section:
            self._calls.append(self._call(section))
        else:
            section.know("parallel", "call")
            self._found.append(self._one(section, self._taken()))
        section.close()

    def all(self) -> tuple[Stage, ...]:
        """What was taken; what does not fit together is a problem."""
        for call in self._found[0].asked if self._found else ():
            hint = "- {name: first, partition_by: ...} before it"
            self._problems.add(f"call {call.name} has no stage before it", call.place, hint)
        for call in self._calls:
            said = f"call {call.name} has no stage behind it"
            self._problems.add(said, call.place, "the last stage decides by the answer")
        self._check_parallel()
        return tuple(self._found)

    def _name(self, section: Section, usual: str) -> str:
        name = section.get("name", identifier, usual)
        if name in self._names:
            said = f"a stage {name!r} exists already" + (f": {self._names[name]} by it" if self._names[name] else "")
            self._problems.add(said, section.place, "give each a name of its own")
        self._names[name] = ""
        return name

    def _taken(self) -> tuple[Call, ...]:
        """The calls before the next entry. They ask about whole rows: what branches make of one is gathered first."""
        calls = tuple(self._calls)
        self._calls.clear()
        if calls and self._found and self._found[-1].beside is not None:
            self._found.append(self._plain(calls[0], "gather", "rows are gathered before"))
        return calls

    def _call(self, section: Section) -> Call:
        name = self._name(section, "call")
        section.what = f"call {name}"
        return read_call(section, name)

    def _one(self, section: Section, calls: tuple[Call, ...] = ()) -> Stage:
        return _stage(section, self._name(section, "main"), self._stream, calls)

    def _plain(self, call: Call, does: str, said: str, calls: Sequence[Call] = ()) -> Stage:
        """A stage that adds nothing, for what a call cannot do: it has no state to gather with, and makes no parts.

        Rows lie there as before they went several ways. `said`: what it does, in words; `calls`: those before it.
        """
        name, what = f"{call.name}_{does}", f"{said} call {call.name}"
        if name in self._names:
            said = f"{what} by a stage {name!r}, and one exists already"
            self._problems.add(said, call.place, "call the other one otherwise")
        self._names[name] = what
        key = next((one.partition_by for one in reversed(self._found) if one.beside is None), "")
        return Stage(name, key, key, {}, place=call.place, calls=tuple(calls))

    def _take_parallel(self, section: Section) -> None:
        section.what = "parallel"
        node = section.node("parallel")
        items = node.items if isinstance(node, Items) else []
        wait, calls = section.get("wait", duration, WAIT_MS), self._taken()
        branches = [self._branch(Section(item, "the stage", self._problems)) for item in items]
        if not all(branches):
            return
        if len(branches) < 2:
            self._problems.add("parallel must be a list of two stages or more", section.key_place("parallel"), _EXAMPLE)
        names = tuple(tuple(stage.name for stage in branch) for branch in branches)
        group = Parallel(names, wait, section.place, calls)
        self._found += [msgspec.structs.replace(stage, beside=group) for branch in branches for stage in branch]

    def _branch(self, section: Section) -> list[Stage]:
        """The stages of one branch, in order; none if it cannot be one."""
        section.know("stages")
        if "stages" not in section:
            return self._chain([section])
        section.what = "the branch"
        node = section.node("stages")
        section.close()
        if isinstance(node, Items) and node.items:
            return self._chain([Section(item, "the stage", self._problems) for item in node.items])
        said = "the stages of a branch must be a list of stages, and calls between them"
        self._problems.add(said, section.key_place("stages"), "- stages: [{name: device, ...}, {name: ip, ...}]")
        return []

    def _chain(self, sections: Sequence[Section]) -> list[Stage]:
        found, calls = list[Stage](), list[Call]()
        for section in sections:
            for what in ("parallel", "stages"):
                if what in section:
                    hint = "a branch is a stage, or `stages:`, a chain of stages and calls"
                    self._problems.add(f"{what!r} cannot stand within a branch of 'parallel'", section.place, hint)
                    return []
            if "call" in section:
                calls.append(self._call(section))
            else:
                section.know("call")
                found.append(self._one(section, tuple(calls)))
                calls.clear()
            section.close()
        if calls:
            found.append(self._plain(calls[-1], "part", "a part of the row is made behind", calls))
        return found

    def _check_parallel(self) -> None:
        """Rows come to stages side by side from one stage, and one gathers what they make of them."""
        for number, stage in enumerate(self._found):
            group, before = stage.beside, self._found[number - 1] if number else None
            if group is not None and before is None:
                said = "stages side by side need a stage before them: a stream is written by one key only"
                self._problems.add(said, group.place, "- {name: first, partition_by: ...} before them")
            behind = self._found[number + 1] if number + 1 < len(self._found) else None
            next_group = None if behind is None else behind.beside
            if group is not None and (behind is None or (next_group is not None and next_group.place != group.place)):
                said = "stages side by side need a stage right behind them, which gathers their rows"
                self._problems.add(said, group.place, "- {name: last, partition_by: ...} behind them")


def _stage(section: Section, name: str, stream: str, calls: Sequence[Call] = ()) -> Stage:
    hint = f"the field of {stream or 'the stream'} that keys it"
    partition_by = section.need("partition_by", identifier, "", hint, ("stages", "parallel", "call"))
    per = section.get("per", identifier, partition_by)
    ttl = section.get("ttl", duration, 0)
    in_step = section.get("in_step", duration, IN_STEP_MS)
    named = section.node("per") or section.node("partition_by") or section
    features, watermark, timed = read_features(section), read_watermark(section), read_timed(section)
    patterns, statements = read_patterns(section), read_statements(section)
    return Stage(
        name, partition_by, per, features, ttl, in_step, named.place, watermark, timed, tuple(calls), patterns,
        statements=statements,
    )  # fmt: skip
