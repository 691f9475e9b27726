"""Stages side by side: which way rows go through them, and the stream that the stage behind gathers them to."""

from __future__ import annotations

__all__ = ["Ways", "check_parts", "gather_spec", "gathered", "ways"]

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from operators.plan import GatherSpec
from streamproc.language.model import ExpressionFeature, Feature, Pipeline, Stage, Stream, window_names
from streamproc.language.problems import Problems


class Ways(NamedTuple):
    """Of a stage. `following`: those that its rows go to, all at once; `part`: which part of a row it hands on, None: a
    whole one; `parts`: the stages whose parts it gathers.
    """

    following: tuple[Stage, ...]
    part: int | None
    parts: tuple[Stage, ...]


def ways(stages: Sequence[Stage]) -> dict[str, Ways]:
    """By stage."""
    steps: list[list[Stage]] = []
    for stage in stages:
        if stage.beside is not None and steps and steps[-1][0].beside == stage.beside:
            steps[-1].append(stage)
        else:
            steps.append([stage])
    found = {}
    for before, step, behind in zip([[], *steps], steps, [*steps[1:], []], strict=False):
        for number, stage in enumerate(step):
            part, parts = number if len(step) > 1 else None, before if len(before) > 1 else []
            found[stage.name] = Ways(tuple(behind), part, tuple(parts))
    return found


def check_parts(pipeline: Pipeline, problems: Problems) -> None:
    """What stages side by side add has names of its own, and the key by which it is gathered is none of it."""
    for stage in pipeline.stages:
        made: dict[str, Stage] = {}
        for part in ways(pipeline.stages)[stage.name].parts:
            for name, feature in part.features.items():
                for column in _made(name, feature):
                    if column in made:
                        said = f"{column} is a feature of stage {made[column].name}, beside {part.name}, too"
                        problems.add(said, feature.place, "give one of them another name")
                    made.setdefault(column, part)
        if stage.partition_by in made:
            said = f"partition_by: {stage.partition_by} is a feature of stage {made[stage.partition_by].name}"
            hint = "gather by what all parts of a row have: a field, or a feature of a stage before"
            problems.add(f"{said}, which the stages beside it do not have", stage.place, hint)


def _made(name: str, feature: Feature) -> list[str]:
    """The columns that it adds; a field as it is adds none."""
    if isinstance(feature, ExpressionFeature):
        return [] if feature.expression.column == name else [name]
    return [column for column, _, _ in window_names(name, feature)]


def gather_spec(way: Ways) -> GatherSpec | None:
    """How a stage's rows come together; None: whole ones come."""
    if not way.parts or way.parts[0].beside is None:
        return None
    return GatherSpec(tuple(part.name for part in way.parts), way.parts[0].beside.wait)


def gathered(parts: Sequence[Stream]) -> Stream:
    """The stream of whole rows; `parts`: what each of the stages hands on."""
    fields = {name: field for part in reversed(parts) for name, field in part.fields.items()}
    ordered = {name: fields[name] for part in parts for name in part.fields}
    return msgspec.structs.replace(parts[0], fields=ordered)
