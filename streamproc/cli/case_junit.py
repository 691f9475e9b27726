"""A JUnit report of rule tests: one suite a file of cases, in the elements and attributes that pytest writes, too."""

from __future__ import annotations

__all__ = ["write_junit"]

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from xml.etree import ElementTree as Xml

from state.errors import ConfigError, Place
from streamproc.cli.case_report import SHOWN_MAX, printable
from streamproc.cli.case_runner import CaseOutcome
from streamproc.cli.replacing import replacing


def write_junit(path: Path, pipeline: str, outcomes: Sequence[CaseOutcome]) -> None:
    """Write the report, whole or not at all.

    Raises:
        ConfigError: the file cannot be written.
    """
    root = Xml.Element("testsuites", {"name": pipeline} | _counts(outcomes))
    for file, mine in groupby(outcomes, key=lambda outcome: outcome.case.place.file):
        _suite(root, pipeline, file, list(mine))
    Xml.indent(root)
    try:
        with replacing(path, "--junit") as draft:
            draft.write_bytes(Xml.tostring(root, "utf-8", xml_declaration=True) + b"\n")
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror}", Place(str(path))) from error


def _suite(root: Xml.Element, pipeline: str, file: str, outcomes: Sequence[CaseOutcome]) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    named = {"name": printable(file), "timestamp": now, "skipped": "0"}
    suite = Xml.SubElement(root, "testsuite", named | _counts(outcomes))
    for outcome in outcomes:
        place = outcome.case.place
        case = Xml.SubElement(
            suite,
            "testcase",
            name=printable(outcome.case.name),
            classname=f"{pipeline}.{Path(file).stem}",
            file=printable(file),
            line=str(place.line),
            time=f"{outcome.seconds:.3f}",
        )
        if outcome.differences:
            lines = [
                f"{one.event}: {one.field}: expected {one.expected}, found {one.found}"
                for one in outcome.differences[:SHOWN_MAX]
            ]
            failure = Xml.SubElement(case, "failure", message=printable(lines[0]), type="difference")
            failure.text = "\n".join([f"{printable(file)}:{place.line}", *map(printable, lines)])


def _counts(outcomes: Sequence[CaseOutcome]) -> dict[str, str]:
    return {
        "tests": str(len(outcomes)),
        "failures": str(sum(bool(outcome.differences) for outcome in outcomes)),
        "errors": "0",
        "time": f"{sum(outcome.seconds for outcome in outcomes):.3f}",
    }
