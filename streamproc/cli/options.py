"""Arguments and options that several commands share."""

from __future__ import annotations

__all__ = [
    "AsJson",
    "CheckpointDays",
    "CheckpointSeconds",
    "Checkpoints",
    "CommitInterval",
    "LogLevel",
    "LogUrl",
    "MetricsHost",
    "MetricsPort",
    "OwnPort",
    "Partitions",
    "PipelineOption",
    "PipelinePath",
    "StageName",
    "StateMemory",
    "load_serving",
    "load_stages",
    "load_unscored",
    "refuse_unless",
    "stages_named",
]

from typing import Annotated

import typer

from state.errors import ConfigError
from streamproc.cli.common import LogLevel, load_serving, load_stages, load_unscored, stages_named

PipelinePath = Annotated[str, typer.Argument(metavar="PIPELINE", help="The pipeline's YAML file.")]
PipelineOption = Annotated[str, typer.Option("--pipeline", metavar="PIPELINE", help="The pipeline's YAML file.")]
LogUrl = Annotated[
    str,
    typer.Option(
        "--log",
        metavar="URL",
        help="The event log: file:DIR (embedded, made if missing) or kafka://host:port[,host:port].",
    ),
]
Checkpoints = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Copies of the state that outlive the pod: a directory, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or "
        "az://CONTAINER/PREFIX. [default: none]",
    ),
]
CheckpointSeconds = Annotated[
    float, typer.Option(metavar="SECONDS", min=1.0, help="Between two checkpoints of a partition.")
]
CheckpointDays = Annotated[
    int, typer.Option(metavar="N", min=0, max=3660, help="Keep the first of each day so long, for what-if.")
]
StageName = Annotated[
    str | None, typer.Option("--stage", metavar="NAME", help="Only this stage of the pipeline. [default: all]")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one line of JSON.")]
MetricsPort = Annotated[
    int | None,
    typer.Option(
        metavar="PORT", min=1, max=65535, help="Serve /metrics, /live and /ready; worker i has port PORT + i."
    ),
]
OwnPort = Annotated[
    int | None,
    typer.Option("--metrics-port", metavar="PORT", min=1, max=65535, help="Serve /metrics, /live and /ready."),
]
"""Of what stands beside the workers; its parameter is `port`, as an environment's `metrics_port` is theirs."""
Partitions = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, max=10_000, help="Of topics that are made. [default: `partitions` of the pipeline]"
    ),
]
MetricsHost = Annotated[
    str, typer.Option(metavar="HOST", help="Address they are served at; 0.0.0.0 for probes from outside.")
]
CommitInterval = Annotated[
    float,
    typer.Option(
        metavar="MS",
        min=0.0,
        max=1000.0,
        help="From a transaction's begin to the next one's, at least: fewer for the broker.",
    ),
]
StateMemory = Annotated[
    int,
    typer.Option(
        metavar="MB",
        min=0,
        help="MiB for keys and RocksDB's cache, of each worker; other keys wait on disk. 8 or more; 0: all keys stay.",
    ),
]


def refuse_unless(fine: bool, message: str, hint: str | None = None) -> None:
    """Refuse wrong use.

    Raises:
        ConfigError: unless `fine`.
    """
    if not fine:
        raise ConfigError(message, hint=hint)
