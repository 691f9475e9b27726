"""`streamproc feed`: put files into a stream's topic, as a producer would."""

from __future__ import annotations

__all__ = ["EXAMPLES", "command"]

import sys
from typing import Annotated

import typer

from streamproc.cli.environment import EnvironmentName
from streamproc.cli.loops import run_until_terminated, terminable
from streamproc.cli.options import LogUrl, Partitions, PipelineOption, load_unscored

EXAMPLES = (
    "streamproc feed transactions may.parquet --pipeline configs/pipeline.yaml --log file:.streamproc --rate 500",
)


def command(
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="The pipeline's stream to feed.")],
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Parquet, CSV, NDJSON or Avro files, fed in order.")
    ],
    pipeline: PipelineOption,
    log: LogUrl,
    *,
    environment: EnvironmentName = None,
    rate: Annotated[
        float | None, typer.Option(metavar="N", min=0.001, help="Records a second; as fast as it goes if not given.")
    ] = None,
    skip: Annotated[
        int, typer.Option(metavar="N", min=0, help="Rows to leave out at the start, as a feed that broke off says.")
    ] = 0,
    partitions: Partitions = None,
) -> None:
    """Feed files into a stream.

    Each row becomes the JSON record that a producer would write, under the file's own column names; lines of NDJSON
    and records of .avro files are passed on byte for byte. The partition is Kafka's for the key. Missing topics are
    created.
    """
    from streamproc.cli.columns import survey
    from streamproc.cli.feeder import feed
    from streamproc.cli.files import find_stream, resolve_inputs
    from streamproc.cli.log_directory import make_directories
    from streamproc.cli.logs import configure_logs
    from streamproc.cli.progress import Progress

    configure_logs()
    with terminable():
        plans = load_unscored(pipeline, partitions)
        schema = find_stream(stream, plans)
        sizes = {path: path.stat().st_size for path in resolve_inputs(files, plans, stream)[stream]}
        survey(list(sizes), schema)
        make_directories(log)
        with Progress(f"feed {stream}", sum(sizes.values())) as progress:
            feeding = feed(
                plans, schema, sizes, log, rate=rate, skip=skip, progress=progress.update, partitions=partitions
            )
            fed = run_until_terminated(feeding)
        sys.stderr.write(fed.text())
