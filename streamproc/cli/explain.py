"""`streamproc explain`: what will this pipeline take, feature by feature?"""

from __future__ import annotations

__all__ = ["EXAMPLES", "command"]

import sys
from typing import Annotated

import typer

from streamproc.cli.options import AsJson, PipelinePath
from streamproc.cli.stdout import write_json, writing_stdout

EXAMPLES = (
    "streamproc explain configs/pipeline.yaml",
    "streamproc explain configs/pipeline.yaml --rate 20 --json",
)


def command(
    pipeline: PipelinePath,
    *,
    rate: Annotated[
        float, typer.Option(metavar="N", min=0.001, max=1e6, help="Events of a key a day: how much history it keeps.")
    ] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Draw a pipeline's stages, and predict what each part takes: microseconds an event, bytes a key, hops.

    Microseconds are of one core's time, in full batches and for an event that comes alone. They are sums of costs that
    were measured on the machine which the last line names: take them as shares, and scale them by one run of yours.
    """
    from streamproc.cli.common import compiled
    from streamproc.cli.explain_text import explanation
    from streamproc.language import load_pipeline
    from streamproc.language.costing import predict

    loaded = load_pipeline(pipeline)
    prediction = predict(loaded, compiled(loaded), rate)
    with writing_stdout():
        if as_json:
            write_json(prediction)
        else:
            sys.stdout.write(explanation(prediction))
