"""`streamproc validate`: is this pipeline right, and what does it come to?"""

from __future__ import annotations

__all__ = ["EXAMPLES", "command"]

from streamproc.cli.common import warn
from streamproc.cli.environment import EnvironmentName
from streamproc.cli.options import PipelinePath, load_stages
from streamproc.cli.stdout import writing_stdout

EXAMPLES = (
    "streamproc validate configs/pipeline.yaml",
    "streamproc validate configs/pipeline.yaml --env prod",
)


def command(pipeline: PipelinePath, environment: EnvironmentName = None) -> None:
    """Check a pipeline and explain it.

    All that is wrong is said, each with file, line and column, structure first; then the exit code is 2. Nothing is
    started.
    """
    plans = load_stages(pipeline)

    from streamproc.language import explain

    warn(plans)
    with writing_stdout():
        print(explain(*plans))  # noqa: T201 - the command's data
