"""What the commands and their worker processes share; a worker starts without typer, so nothing here imports it."""

from __future__ import annotations

__all__ = ["CallsMode", "LogLevel", "compiled", "load_serving", "load_stages", "stages_named", "warn"]

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from state.errors import ConfigError

if TYPE_CHECKING:
    from operators.plan import Plan
    from streamproc.language.compile import ModelLoader
    from streamproc.language.model import Pipeline
    from streamproc.language.statements import CompileStatement

_NO_MODEL = re.compile(r"model (.+) cannot be read: No such file").match
_MADE_BY = {
    "bench_v1/model.onnx": "benchmarks.make_bench_model",
    "card_fraud/model.onnx": "benchmarks.train_demo_model",
}
"""Models of the shipped pipelines that are not shipped, or may be made anew."""


class LogLevel(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class CallsMode(StrEnum):
    """Who answers call steps in a backtest."""

    DEFAULT = "default"
    LIVE = "live"


def load_stages(path: str, partitions: int | None = None) -> tuple[Plan, ...]:
    """The plans of a pipeline file's stages, in order; `partitions`: of topics that are made, None: as the file says.

    Raises:
        ConfigError: with everything that is wrong in it.
    """
    from streamproc.language import load_pipeline

    return _with_partitions(compiled(load_pipeline(path)), partitions)


def load_serving(path: str, partitions: int | None = None) -> tuple[Plan, ...]:
    """As `load_stages`, for workers: where the pipeline says what to do without a score, they start without its model.

    Raises:
        ConfigError: with everything else that is wrong in it.
    """
    from models.absent import or_absent
    from streamproc.language import load_pipeline
    from streamproc.language.compile import open_onnx

    return _with_partitions(compiled(load_pipeline(path), or_absent(open_onnx)), partitions)


def load_unscored(path: str, partitions: int | None = None) -> tuple[Plan, ...]:
    """As `load_stages`, for who asks no model: it need not be there, nor be sound.

    Raises:
        ConfigError: with everything else that is wrong in it.
    """
    from models.absent import Blank
    from streamproc.language import load_pipeline

    return _with_partitions(compiled(load_pipeline(path), Blank), partitions)


def _with_partitions(plans: tuple[Plan, ...], partitions: int | None) -> tuple[Plan, ...]:
    from msgspec.structs import replace

    return plans if partitions is None else tuple(replace(plan, topic_partitions=partitions) for plan in plans)


def compiled(pipeline: Pipeline, models: ModelLoader | None = None) -> tuple[Plan, ...]:
    """The plans of a loaded pipeline's stages, raises as `load_stages`; `models`: as of `compile_stages`."""
    from streamproc.language import compile_stages

    statements: CompileStatement | None = None
    if any(stage.statements for stage in pipeline.stages):
        from streamproc.sql.stream import compile_entry

        statements = compile_entry
    with _models_explained():
        return compile_stages(pipeline, models=models, statements=statements)


def warn(plans: Sequence[Plan]) -> None:
    """Say on stderr what may surprise in them, a line each."""
    for line in dict.fromkeys(line for plan in plans for line in plan.warnings):
        sys.stderr.write(f"warning: {line}\n")


def stages_named(plans: Sequence[Plan], stage: str | None) -> Sequence[Plan]:
    """The stage that `--stage` names; all of them if it names none.

    Raises:
        ConfigError: there is no such stage.
    """
    from streamproc.language.problems import nearest

    found = [plan for plan in plans if stage in (None, plan.stage)]
    if not found:
        hint = nearest(str(stage), [plan.stage for plan in plans])
        raise ConfigError(f"--stage: the pipeline {plans[0].pipeline} has no stage {stage}", hint=hint)
    return found


@contextmanager
def _models_explained() -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        _say_how_models_are_made(error)
        raise


def _say_how_models_are_made(error: ConfigError) -> None:
    """In a checkout: which of its programs makes the model that is missing."""
    for one in getattr(error, "errors", (error,)):
        found = _NO_MODEL(one.message)
        for file, module in _MADE_BY.items():
            program = Path(__file__).parents[2].joinpath(*module.split(".")).with_suffix(".py")
            if found is not None and Path(found[1]).match(file) and program.exists():
                one.hint = f"train it with `python -m {module}`"
