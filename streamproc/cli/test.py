"""`streamproc test`: do the rules decide the cases as their authors expect?"""

from __future__ import annotations

__all__ = ["EXAMPLES", "command"]

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamproc.cli.options import AsJson, PipelinePath, refuse_unless
from streamproc.cli.stdout import write_json, writing_stdout

if TYPE_CHECKING:
    from operators.plan import Plan
    from streamproc.language.cases import Case

EXAMPLES = (
    "streamproc test configs/pipeline.yaml",
    "streamproc test configs/pipeline.yaml --coverage --junit rules.xml",
)
FAILED = 1
"""Exit code if a case failed."""


def command(
    pipeline: PipelinePath,
    junit: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE.xml", help="Also write a JUnit report, for CI systems.")
    ] = None,
    coverage: Annotated[
        bool, typer.Option("--coverage", help="List what no case hits, looks at, or has told.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Run a pipeline's rule tests: given events, expected decisions, reasons, features, dead letters and alerts.

    The cases are in the files that `tests:` of the pipeline names; each begins with empty state and runs through the
    very plan that `run` executes. One line a case, and a table of differences for one that failed; then the exit code
    is 1.
    """
    if junit is not None:
        refuse_unless(junit.absolute().parent.is_dir(), f"--junit: the folder of {junit} is missing", "make it first")
        refuse_unless(not junit.is_dir(), f"--junit: {junit} is a folder", "name a file: rules.xml")
    plans, files = _load(pipeline)

    from streamproc.cli.case_report import CaseReport
    from streamproc.cli.case_runner import CaseRunner
    from streamproc.cli.logs import configure_logs

    configure_logs()
    runner, report = CaseRunner(plans), CaseReport(plans)
    for cases in files.values():
        for case in cases:
            outcome = runner.run(case)
            report.add(outcome)
            if not as_json:
                with writing_stdout():
                    report.write_case(outcome, sys.stdout)
    with writing_stdout():
        if as_json:
            write_json(report.line(coverage))
        else:
            sys.stdout.write(report.summary(coverage))
    if junit is not None:
        from streamproc.cli.case_junit import write_junit

        write_junit(junit, plans[0].pipeline, report.outcomes)
    return FAILED if report.failed else 0


def _load(pipeline: str) -> tuple[tuple[Plan, ...], dict[Path, tuple[Case, ...]]]:
    """The stages' plans and their cases.

    Raises:
        ConfigError: with everything that is wrong in the pipeline, or else in the files of cases.
    """
    from streamproc.cli.common import compiled
    from streamproc.language import load_pipeline
    from streamproc.language.cases import case_files, load_cases
    from streamproc.language.problems import Problems

    loaded = load_pipeline(pipeline)
    plans = compiled(loaded)
    problems = Problems()
    files = {}
    for path in case_files(loaded):
        with problems.caught():
            files[path] = load_cases(path, plans)
    problems.check()
    return plans, files
