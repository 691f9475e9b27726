"""Stages side by side: which ways rows take through them, and the stream that the stage behind gathers them to."""

from __future__ import annotations

__all__ = ["Ways", "check_parts", "gather_spec", "gathered", "ways"]

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from operators.call import failed_column
from operators.plan import GatherSpec
from state.errors import Place
from streamproc.language.model import ExpressionFeature, Feature, Pipeline, Stage, Stream, window_names
from streamproc.language.problems import Problems

Branches = Sequence[Sequence[Stage]]
"""What rows go through at once, each in order; one: they go one way."""


class Ways(NamedTuple):
    """Of a stage. `following`: those that its rows go to, all at once. `branches`: those whose parts it gathers, none:
    whole ones come. `number`: of the branch that it stands in, None: rows go one way. `gathering`: the stage
    behind that branch.
    """

    following: tuple[Stage, ...]
    branches: Branches = ()
    number: int | None = None
    gathering: Stage | None = None


def ways(stages: Sequence[Stage]) -> dict[str, Ways]:
    """By stage."""
    steps = _steps(stages)
    found = {}
    for before, step, behind in zip([[], *steps], steps, [*steps[1:], []], strict=False):
        for number, branch in enumerate(step):
            for stage, following in zip(branch, [*branch[1:], None], strict=True):
                onward = (following,) if following is not None else tuple(heads[0] for heads in behind)
                gathers = before if len(before) > 1 and stage is branch[0] else ()
                if len(step) > 1 and behind:
                    found[stage.name] = Ways(onward, gathers, number, behind[0][0])
                else:
                    found[stage.name] = Ways(onward, gathers)
    return found


def _steps(stages: Sequence[Stage]) -> list[list[list[Stage]]]:
    """What rows go through, one after the other."""
    steps: list[list[list[Stage]]] = []
    for stage in stages:
        if stage.beside is None or stage.name == stage.beside.branches[0][0] or not steps:
            steps.append([[stage]])
        elif stage.beside.number(stage.name) == len(steps[-1]):
            steps[-1].append([stage])
        else:
            steps[-1][-1].append(stage)
    return steps


def check_parts(pipeline: Pipeline, problems: Problems) -> None:
    """What branches add has names of its own, and the key by which it is gathered is none of it."""
    found = ways(pipeline.stages)
    for stage in pipeline.stages:
        made: dict[str, str] = {}
        for branch in found[stage.name].branches:
            mine: dict[str, str] = {}
            for name, column, whose, place in _made(branch):
                if column in made:
                    said = f"{column} is {made[column]}, beside {name}, too"
                    problems.add(said, place, "give one of them another name")
                mine.setdefault(column, whose)
            made |= {column: whose for column, whose in mine.items() if column not in made}
        if stage.partition_by in made:
            said = f"partition_by: {stage.partition_by} is {made[stage.partition_by]}"
            hint = "gather by what all parts of a row have: a field, or a feature of a stage before"
            problems.add(f"{said}, which the stages beside it do not have", stage.place, hint)


def _made(branch: Sequence[Stage]) -> Iterator[tuple[str, str, str, Place]]:
    """What a branch adds: the step that does, the column, whose it is, in words, and where it is declared."""
    for stage in branch:
        for call in stage.calls:
            returned = {name: field.place for name, field in call.returns.items()}
            for column, place in {**returned, failed_column(call.name): call.place}.items():
                yield call.name, column, f"returned by call {call.name}", place
        for name, feature in stage.features.items():
            for column in _columns(name, feature):
                yield stage.name, column, f"a feature of stage {stage.name}", feature.place


def _columns(name: str, feature: Feature) -> list[str]:
    """The columns that it adds; a field as it is adds none."""
    if isinstance(feature, ExpressionFeature):
        return [] if feature.expression.column == name else [name]
    return [column for column, _, _ in window_names(name, feature)]


def gather_spec(way: Ways) -> GatherSpec | None:
    """How a stage's rows come together; None: whole ones come."""
    if not way.branches or (group := way.branches[0][0].beside) is None:
        return None
    return GatherSpec(tuple(branch[-1].name for branch in way.branches), group.wait)


def gathered(parts: Sequence[Stream]) -> Stream:
    """The stream of whole rows; `parts`: what each of the branches hands on."""
    fields = {name: field for part in reversed(parts) for name, field in part.fields.items()}
    ordered = {name: fields[name] for part in parts for name in part.fields}
    return msgspec.structs.replace(parts[0], fields=ordered)
