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
        self._names: set[str] = set()

    def take(self, section: Section) -> None:
        """The next entry."""
        if "parallel" in section:
            self._take_parallel(section)
        elif "call" in section:
            name = self._name(section, "call")
            section.what = f"call {name}"
            self._calls.append(read_call(section, name))
        else:
            section.know("parallel", "call")
            self._found.append(self._one(section, tuple(self._calls)))
            self._calls.clear()
        section.close()

    def all(self) -> tuple[Stage, ...]:
        """What was taken; what does not fit together is a problem."""
        for call in self._found[0].calls if self._found else ():
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
            self._problems.add(f"a stage {name!r} exists already", section.place, "give each a name of its own")
        self._names.add(name)
        return name

    def _one(self, section: Section, calls: tuple[Call, ...] = ()) -> Stage:
        return _stage(section, self._name(section, "main"), self._stream, calls)

    def _take_parallel(self, section: Section) -> None:
        section.what = "parallel"
        node = section.node("parallel")
        items = node.items if isinstance(node, Items) else []
        wait = section.get("wait", duration, WAIT_MS)
        stages = []
        for item in items:
            one = Section(item, "the stage", self._problems)
            if "call" in one or "parallel" in one:
                what = "call" if "call" in one else "parallel"
                self._problems.add(f"{what!r} cannot stand within 'parallel'", one.place, "stages only")
                return
            stages.append(self._one(one))
            one.close()
        if len(stages) < 2:
            self._problems.add("parallel must be a list of two stages or more", section.key_place("parallel"), _EXAMPLE)
        for call in self._calls:
            hint = "put it before the stage before them, or behind the one that gathers"
            self._problems.add(f"call {call.name} stands right before stages side by side", call.place, hint)
        self._calls.clear()
        group = Parallel(tuple(stage.name for stage in stages), wait, section.place)
        self._found += [msgspec.structs.replace(stage, beside=group) for stage in stages]

    def _check_parallel(self) -> None:
        """Rows come to stages side by side from one stage, and one gathers what they make of them."""
        groups = list(dict.fromkeys(stage.beside for stage in self._found if stage.beside is not None))
        for group in groups:
            places = [number for number, stage in enumerate(self._found) if stage.beside == group]
            if places[0] == 0:
                said = "stages side by side need a stage before them: a stream is written by one key only"
                self._problems.add(said, group.place, "- {name: first, partition_by: ...} before them")
            behind = self._found[places[-1] + 1 :][:1]
            if not behind or behind[0].beside is not None:
                said = "stages side by side need a stage right behind them, which gathers their rows"
                self._problems.add(said, group.place, "- {name: last, partition_by: ...} behind them")
            for call in behind[0].calls if behind else ():
                hint = "put it behind the stage that gathers"
                self._problems.add(f"call {call.name} stands right behind stages side by side", call.place, hint)


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
