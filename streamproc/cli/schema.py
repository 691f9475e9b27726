"""`streamproc schema`: the form of a pipeline file, for editors."""

from __future__ import annotations

__all__ = ["EXAMPLES", "command"]

import sys

from streamproc.cli.stdout import writing_stdout

EXAMPLES = ("streamproc schema",)


def command() -> None:
    """Print a JSON Schema (draft 2020-12) of the pipeline file.

    Editors complete keys with it, show what they mean, and mark wrong ones. `validate` knows more.
    """
    import json

    from streamproc.language.json_schema import pipeline_schema

    with writing_stdout():
        sys.stdout.write(json.dumps(pipeline_schema(), indent=2) + "\n")
