"""Where `streamproc` begins. The commands are in `commands`."""

from __future__ import annotations

__all__ = ["main", "run_command"]

import importlib
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn


def run_command(arguments: Sequence[str]) -> int:
    """Run one command line; the exit code."""
    from streamproc.cli.commands import app
    from streamproc.cli.errors import report

    try:
        code = app(list(arguments), prog_name="streamproc", standalone_mode=False)
        sys.stdout.flush()
    except BaseException as error:
        return report(error)
    return code if isinstance(code, int) else 0


def main() -> NoReturn:
    """The entry point."""
    _import_quietly()
    sys.exit(run_command(sys.argv[1:]))


def _import_quietly() -> None:
    """Import the commands. Ctrl-C meanwhile ends the process at once, without a traceback: nothing has begun."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:  # a parent may have it ignored, and then it stays so
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    importlib.import_module("streamproc.cli.commands")
    signal.signal(signal.SIGINT, handler)


if __name__ == "__main__":
    main()
