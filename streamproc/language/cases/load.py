"""Case files -> cases; everything wrong with them is reported at once, in order of place."""

from __future__ import annotations

__all__ = ["START_MS", "case_files", "load_cases", "read_cases"]

import glob
from collections.abc import Sequence
from pathlib import Path

from operators.plan import Plan
from state.errors import ConfigError
from streamproc.language.cases.events import Events, Fields, read_base, streams_given
from streamproc.language.cases.expectations import read_expectations
from streamproc.language.cases.model import Case, Expected, Told
from streamproc.language.cases.told import read_told
from streamproc.language.cases.values import read_time
from streamproc.language.load import read_text
from streamproc.language.model import Pipeline
from streamproc.language.problems import Problems
from streamproc.language.reader import Section, text
from streamproc.language.yaml_tree import Items, Mapping, parse_yaml

START_MS = 1_767_268_800_000
"""2026-01-01T12:00:00Z, a Thursday: when a case begins unless it says."""


def case_files(pipeline: Pipeline) -> list[Path]:
    """The files that the pipeline's `tests:` names, each once: pattern by pattern, then by name.

    Raises:
        ConfigError: it names none, or a pattern fits no file.
    """
    if not pipeline.tests:
        hint = "tests: tests/*.yaml, relative to the pipeline"
        raise ConfigError("the pipeline names no files of cases", pipeline.place, hint)
    problems = Problems()
    found: dict[Path, None] = {}
    for pattern, place in pipeline.tests.items():
        names = sorted(glob.glob(pattern, root_dir=pipeline.folder, recursive=True))
        files = [path for name in names if (path := Path(pipeline.folder, name)).is_file()]
        if not files:
            problems.add(f"tests: no file fits {pattern!r}", place, f"it is looked for in {pipeline.folder}")
        found |= dict.fromkeys(files)
    problems.check()
    return list(found)


def load_cases(path: Path, plans: Sequence[Plan]) -> tuple[Case, ...]:
    """Read and check the case file at `path`; `plans`: of the pipeline's stages, in order.

    Raises:
        ConfigError: it cannot be read, or is wrong; a PipelineError lists everything that is.
    """
    return read_cases(read_text(path), str(path), plans)


def read_cases(content: str, file: str, plans: Sequence[Plan]) -> tuple[Case, ...]:
    """The same for text at hand; `file` names it in messages.

    Raises:
        ConfigError: as `load_cases`.
    """
    problems = Problems()
    top = Section(parse_yaml(content, file), "the case file", problems)
    start = _start(top, START_MS)
    base = read_base(top, streams_given(plans), {}, start)
    node = top.node("cases")
    top.close()
    items = node.items if isinstance(node, Items) else []
    if not items:
        hint = "cases: [{name: ..., events: [...], expect: {...}}]"
        problems.add("a case file has a list of cases", top.key_place("cases"), hint)
    cases: dict[str, Case] = {}
    for item in items:
        case = _case(Section(item, "the case", problems), plans, base, start)
        if case.name in cases:
            first = cases[case.name].place.line
            problems.add(f"a case {case.name!r} exists already", case.place, f"in line {first}")
        cases[case.name] = case
    problems.check()
    return tuple(cases.values())


def _case(section: Section, plans: Sequence[Plan], base: Fields, start: int) -> Case:
    name = section.need("name", text, "", "what it shows, in some words")
    start = _start(section, start)
    events = Events(plans, read_base(section, streams_given(plans), base, start), start)
    node = section.node("events")
    items = node.items if isinstance(node, Items) else []
    if not items:
        hint = "events: [{event: first, at: +5m, ...}]"
        section.problems.add("a case has a list of events", section.key_place("events"), hint)
    for item in items:
        events.add(Section(item, "the event", section.problems))
    expect, tells = section.node("expect"), section.node("tells")
    section.close()
    expected: tuple[Expected, ...] = ()
    told: tuple[Told, ...] = ()
    if tells is not None:
        told = read_told(Section(tells, "tells", section.problems), plans, start)
    if isinstance(expect, Mapping) and expect.entries:
        expected = _expected(Section(expect, "expect", section.problems), plans, start, events)
    elif expect is not None or not told:
        hint = "expect: {first: {decision: ...}}"
        section.problems.add("a case expects something of its events", section.key_place("expect"), hint)
    return Case(name, section.place, tuple(events.given), expected, told)


def _expected(section: Section, plans: Sequence[Plan], start: int, events: Events) -> tuple[Expected, ...]:
    expected = read_expectations(section, plans, start, events.labels)
    for one in expected:
        stream = events.given[one.given].stream if one.given < len(events.given) else ""
        if stream not in ("", plans[0].stream.name) and one.dead_letter is None:
            hint = "expect a dead_letter of it, or nothing"
            section.problems.add(f"an event of {stream} is not decided", one.place, hint)
    return expected


def _start(section: Section, usual: int) -> int:
    return section.get("start", lambda node: read_time(node, "start", usual), usual)
