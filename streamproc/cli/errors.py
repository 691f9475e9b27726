"""What a failed command says and exits with, in one place: one clear line a problem on stderr, no payloads.

2    wrong use, or a pipeline or file that cannot be used (ConfigError)
1    the event log failed, or something unexpected (its traceback with STREAMPROC_DEBUG=1)
0    the reader of our output has gone: nothing is wrong
"""

from __future__ import annotations

__all__ = ["DEBUG_VARIABLE", "printable", "report"]

import errno
import os
import sys
import traceback

from state.errors import ConfigError, RecordError, StreamprocError

DEBUG_VARIABLE = "STREAMPROC_DEBUG"
WRONG_USE, FAILED, INTERRUPTED = 2, 1, 130
LONGEST = 600
"""Characters of a line: place and hint stand at its ends."""
_FULL = {errno.ENOSPC, errno.EDQUOT}


def report(error: BaseException) -> int:
    """Tell the user, and return the exit code."""
    if os.environ.get(DEBUG_VARIABLE) == "1" and not isinstance(error, SystemExit):
        traceback.print_exception(error)
    if isinstance(error, BrokenPipeError) or isinstance(error.__context__, BrokenPipeError):  # typer makes it an exit
        return _without_reader()
    code = _of_typer(error)
    if code is not None:
        return code
    match error:
        case SystemExit():
            return error.code if isinstance(error.code, int) else FAILED
        case KeyboardInterrupt():
            return INTERRUPTED
        case BaseExceptionGroup():
            return max(report(inner) for inner in error.exceptions)
        case ConfigError():
            for line in str(error).splitlines():
                _say(line)
            return WRONG_USE
        case RecordError():
            _say(f"a record cannot be decided: {error.reason}")
        case StreamprocError():
            _say(_one_line(str(error)))
        case OSError(errno=int(number)):
            named = f"{error.filename}: " if error.filename is not None else ""
            wanted = "free space, or name another place; " if number in _FULL else ""
            _say(f"{named}{os.strerror(number)}, {_place(error)}", f"{wanted}{DEBUG_VARIABLE}=1 shows the traceback")
        case _:
            _say(f"unexpected {type(error).__name__} {_place(error)}", f"{DEBUG_VARIABLE}=1 shows the traceback")
    return FAILED


def _of_typer(error: BaseException) -> int | None:
    """The exit code of an error of typer's own; a worker process does without typer."""
    if "typer" not in sys.modules:
        return None
    import typer

    match error:
        case typer.Exit():
            return error.exit_code
        case typer.Abort():
            return INTERRUPTED
        case typer.TyperException():
            _say(_one_line(error.format_message()), "try --help")
            return error.exit_code
    return None


def _say(text: str, hint: str = "") -> None:
    said = f"error: {text}" + (f" ({hint})" if hint else "")
    if len(said) > LONGEST:  # what is wrong is quoted, however long it is
        said = f"{said[: LONGEST * 2 // 3]} ... {said[-LONGEST // 3 :]}"
    sys.stderr.write(printable(said) + "\n")


def printable(text: str) -> str:
    """`text` with signs that would steer a terminal escaped: a file may call a column ESC [2J."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def _one_line(text: str) -> str:
    return " ".join(text.split()).removesuffix(".")


def _place(error: BaseException) -> str:
    """Where it arose; its message is not shown, for it may quote a record."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"in {os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else "outside any code"


def _without_reader() -> int:
    """Nobody reads stdout any more: nothing is left to say there, not even at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
