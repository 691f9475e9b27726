"""`--env NAME`: options that differ from place to place, read from `environments/NAME.yaml` beside the pipeline.

Its keys are the options of `run`, with `_` for `-`. Each command takes those that it has; what stands on the command
line wins. Nothing in it changes the plan: what was tested is what runs.
"""

from __future__ import annotations

__all__ = ["FOLDER", "EnvironmentCommand", "EnvironmentName", "keys", "read_environment"]

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from state.errors import ConfigError, Place
from streamproc.cli.common import LogLevel

FOLDER = "environments"
_SUFFIX = ".yaml"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

EnvironmentName = Annotated[
    str | None,
    typer.Option(
        "--env",
        metavar="NAME",
        help=f"Take options from {FOLDER}/NAME{_SUFFIX} beside the pipeline; those given here win.",
    ),
]


class EnvironmentCommand(TyperCommand):
    """A command whose options have the values of the environment named by `--env`, where they are not given."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the environment's file before the options.

        Raises:
            ConfigError: there is no such environment, or its file is wrong.
        """
        given, _, _ = self.make_parser(ctx).parse_args(args=list(args))
        pipeline, name = given.get("pipeline"), given.get("environment")
        if isinstance(pipeline, str) and isinstance(name, str):
            ctx.default_map = read_environment(pipeline, name)
        return super().parse_args(ctx, args)


def read_environment(pipeline: str, name: str) -> dict[str, Any]:
    """The options that `environments/NAME.yaml` beside the pipeline's file gives, by name.

    Raises:
        ConfigError: there is no such file, or it is wrong; a PipelineError lists everything that is.
    """
    from streamproc.language.load import read_text
    from streamproc.language.problems import Problems
    from streamproc.language.reader import Section
    from streamproc.language.yaml_tree import parse_yaml

    if not _NAME.fullmatch(name):
        raise ConfigError(f"--env: {name!r} is not a name", hint="letters, digits, _ and -")
    path = Path(pipeline).parent / FOLDER / f"{name}{_SUFFIX}"
    _refuse_unknown(path, name)
    problems = Problems()
    section = Section(parse_yaml(read_text(path), str(path)), f"the environment {name}", problems)
    found = {key: section.get(key, read, None) for key, read in keys().items()}
    section.close()
    problems.check()
    return {key: value for key, value in found.items() if value is not None}


def _refuse_unknown(path: Path, name: str) -> None:
    from streamproc.language.problems import nearest

    if not path.is_file():
        known = sorted(file.stem for file in path.parent.glob(f"*{_SUFFIX}")) if path.parent.is_dir() else []
        hint = nearest(name, known) or f"write {path}"
        raise ConfigError(f"--env: there is no environment {name!r}", Place(str(path)), hint)


def _log(node: Any) -> str:
    """The log's address, which only `run` and the like open."""
    from streamproc.cli.log_directory import check_address
    from streamproc.language.reader import text

    address = text(node)
    try:
        check_address(address)
    except ConfigError as error:
        raise ConfigError(error.message.removeprefix("--log: "), node.place, error.hint) from None
    return address


def keys() -> dict[str, Callable[[Any], Any]]:
    """What an environment may say -> what reads it; bounds are those of the options."""
    from streamproc.language.load import PARTITIONS_MAX
    from streamproc.language.reader import choice, flag, number, text, whole

    return {
        "log": _log,
        "partitions": whole(1, PARTITIONS_MAX),
        "workers": whole(1, 256),
        "state": text,
        "state_memory": whole(0, 1 << 24),
        "checkpoints": text,
        "checkpoint_seconds": number(1, 86_400),
        "checkpoint_days": whole(0, 3660),
        "commit_interval": number(0, 1_000),
        "leave": flag,
        "metrics_port": whole(1, 65_535),
        "metrics_host": text,
        "log_level": choice("log level", *(level.value for level in LogLevel)),
    }
