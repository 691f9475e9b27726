"""`streamproc backtest`: what would this pipeline have decided on these files?"""

from __future__ import annotations

__all__ = ["EXAMPLES", "BacktestCommand", "command", "one_input_each"]

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

import streamproc.cli.report_options as given
from state.errors import ConfigError
from streamproc.cli.common import CallsMode
from streamproc.cli.loops import terminable
from streamproc.cli.options import PipelinePath, load_stages, refuse_unless
from streamproc.cli.replacing import replacing
from streamproc.cli.stdout import writing_stdout

if TYPE_CHECKING:
    from operators.plan import Plan
    from streamproc.cli.report import Reporting, Told
    from streamproc.cli.summary import Summary
    from streamproc.runtime.results import Judged

_ROW_GROUP_ROWS = 128 * 1024
NOTHING_DECIDED = 1
"""Exit code, as loaders have one for "no row was taken": a script must not go on with an empty result."""

EXAMPLES = (
    "streamproc backtest configs/pipeline.yaml --input 2018-04.parquet 2018-05.parquet --output decided.parquet",
    "streamproc backtest bank.yaml --input payments.csv logins=may.csv --output decided.parquet",
    "streamproc backtest configs/pipeline.yaml --input may.parquet --output decided.parquet --calls live",
    "streamproc backtest bank.yaml --input may.parquet --output decided.parquet --report may.html --label is_fraud "
    "--compare new.yaml",
)


class BacktestCommand(TyperCommand):
    """Lets `--input` take several files: all words up to the next option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Write `--input A B` as `--input A --input B`.

        Raises:
            ConfigError: PIPELINE is missing, perhaps taken for an input.
        """
        try:
            return super().parse_args(ctx, one_input_each(args))
        except typer.TyperException as error:
            said = error.format_message()
            if any(arg.startswith("--input") for arg in args) and "'PIPELINE'" in said:
                hint = "put it before --input: what follows that are files"
                raise ConfigError(said.removesuffix("."), hint=hint) from None
            raise


def one_input_each(args: Sequence[str]) -> list[str]:
    """Write `--input A B` as `--input A --input B`."""
    spread: list[str] = []
    inside = False
    for arg in args:
        if arg.startswith("-") and arg != "-":
            inside = arg == "--input" or arg.startswith("--input=")
        elif inside and spread[-1] != "--input":
            spread.append("--input")
        spread.append(arg)
    return spread


def command(
    pipeline: PipelinePath,
    *,
    inputs: Annotated[
        list[str],
        typer.Option(
            "--input",
            metavar="[STREAM=]FILE...",
            help="After PIPELINE: Parquet, CSV, NDJSON or Avro files in the order of arrival; may be repeated. "
            "STREAM: whose, unless the file is called after it.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", metavar="FILE.parquet", help="One row a decision.")],
    calls: Annotated[
        CallsMode,
        typer.Option(help="Who answers call steps: the declared defaults, or the services, asked live."),
    ] = CallsMode.DEFAULT,
    as_json: Annotated[bool, typer.Option("--json", help="Print a summary on stdout, as one line of JSON.")] = False,
    report: given.ReportFile = None,
    label: given.Label = None,
    labels: given.Labels = None,
    label_delay: given.LabelDelay = None,
    fraud_kind: given.FraudKind = None,
    segments: given.Segments = None,
    amount: given.Amount = None,
    card: given.CardField = None,
    cards_a_day: given.CardsADay = 100,
    alert_cost: given.AlertCost = 0.0,
    insult_cost: given.InsultCost = 0.0,
    decline: given.Decline = None,
    compare: given.Compare = None,
) -> int:
    """Run a pipeline over files and write its decisions, with every feature, to a Parquet file.

    It is the very plan that `run` executes: on the same records both give the same, field by field. Rows that
    cannot be decided are counted and listed in FILE.dead_letters.ndjson; if there are rows and none can, it fails.
    A pipeline that only has SQL statements decides nothing: their rows are written, to FILE.NAME.ndjson.
    """
    refuse_unless(output.suffix == ".parquet", f"{output} is no Parquet file", "name it FILE.parquet")
    refuse_unless(output.absolute().parent.is_dir(), f"the folder of {output} is missing", "make it first")
    refuse_unless(not output.is_dir(), f"{output} is a directory", "name a file")
    options = given.report_options(
        report, label=label, labels=labels, label_delay=label_delay, fraud_kind=fraud_kind,
        segments=segments, amount=amount, card=card, cards_a_day=cards_a_day, alert_cost=alert_cost,
        insult_cost=insult_cost, decline=decline, compare=compare,
    )  # fmt: skip
    plans = load_stages(pipeline)
    paths = _paths(inputs, plans, output)
    reporting = _reporting(plans, inputs, options, calls)
    with terminable():
        summary = _backtest(plans, paths, output, calls, reporting)
    _tell(summary, plans, output, calls, as_json)
    return NOTHING_DECIDED if summary.rows and not summary.judged else 0


def _paths(inputs: Sequence[str], plans: Sequence[Plan], output: Path) -> dict[str, list[Path]]:
    from operators.plan import streams_of
    from streamproc.cli.columns import survey
    from streamproc.cli.files import resolve_inputs
    from streamproc.cli.logs import configure_logs

    configure_logs()
    paths = resolve_inputs(inputs, plans)
    every = [path.absolute() for some in paths.values() for path in some]
    refuse_unless(output.absolute() not in every, f"{output} is an input, too")
    for name, stream in streams_of(plans).items():
        survey(paths[name], stream)
        if not paths[name]:
            sys.stderr.write(f"warning: there is no file of the stream {name}: --input {name}=FILE\n")
    return paths


def _reporting(
    plans: Sequence[Plan], inputs: Sequence[str], options: given.ReportOptions | None, calls: CallsMode
) -> Reporting | None:
    if options is None:
        return None
    if plans[-1].is_silent:
        hint = "leave --report out, or give the pipeline rules"
        raise ConfigError(f"the pipeline {plans[-1].pipeline} decides nothing: it only has SQL statements", hint=hint)
    from streamproc.cli.report import Reporting

    return Reporting(plans, inputs, options, calls)


def _tell(summary: Summary, plans: Sequence[Plan], output: Path, calls: CallsMode, as_json: bool) -> None:
    if as_json:
        with writing_stdout():
            sys.stdout.buffer.write(summary.line(plans[0], output))
    else:
        sys.stderr.write(summary.text(output))
    sys.stderr.write(summary.warning() + (summary.report.warning() if summary.report else ""))
    if plans[-1].decision.calls and calls is CallsMode.DEFAULT:
        names = ", ".join(plans[-1].decision.calls)
        sys.stderr.write(f"no service was asked: the declared defaults stand for {names} (--calls live asks)\n")


def _backtest(
    plans: Sequence[Plan], paths: Mapping[str, Sequence[Path]], output: Path, calls: CallsMode, to: Reporting | None
) -> Summary:
    from operators.plan import streams_of
    from streamproc.cli.calls import LiveCalls, declared_defaults
    from streamproc.cli.progress import Progress
    from streamproc.cli.replay_files import FileReplay
    from streamproc.cli.side_rows import sides_of
    from streamproc.cli.summary import Summary, alerts_beside, late_beside, letters_beside, rows_beside

    summary = Summary(plans)
    decided = paths[next(iter(streams_of(plans)))]
    letters, alerts, late = letters_beside(output), alerts_beside(output), late_beside(output)
    beside = {("alert", ""): alerts, ("late", ""): late}
    beside |= {("row", one.name): rows_beside(output, one.name) for plan in plans for one in plan.statements}
    with (
        LiveCalls() if calls is CallsMode.LIVE else nullcontext(declared_defaults) as answers,
        Progress("backtest", sum(path.stat().st_size for path in decided)) as progress,
        replacing(letters) as letters_at,
        ExitStack() as told,
        open(letters_at, "wb") as letters_file,
        _decisions(plans, output) as write,
    ):
        replay = FileReplay(plans, sides_of(plans, paths), answers)
        drafts = {what: told.enter_context(replacing(path)) for what, path in beside.items()}
        files = {what: told.enter_context(open(draft, "wb")) for what, draft in drafts.items()}

        def tell() -> None:
            for what, lines in summary.tell(replay.told()).items():
                files[what].writelines(lines)

        for result in replay.run(decided):
            write(result.judged)
            letters_file.writelines(summary.add(result))
            if to:
                to.add(result)
            tell()
            progress.update(result.progress, summary.rows)
        replay.end()
        tell()
        if to and summary.decisions.total():
            summary.report = told.enter_context(_made(to))
    summary.side_rows = replay.side_rows
    summary.open_windows = +replay.open_windows()
    for path, counts in ((letters, summary.dead_letters), (alerts, summary.alerts), (late, summary.late)):
        if not counts:
            path.unlink()
    return summary


@contextmanager
def _decisions(plans: Sequence[Plan], output: Path) -> Iterator[Callable[[Judged], None]]:
    """A function that writes decisions to `output`; where nothing is decided there is no such file."""
    from streamproc.cli.decision_table import DecisionTable

    if plans[-1].is_silent:
        yield lambda judged: None
        return
    table = DecisionTable(plans)
    with replacing(output) as draft, _row_groups(draft, table.schema) as write:
        yield lambda judged: write(table.table(judged))


@contextmanager
def _made(reporting: Reporting) -> Iterator[Told]:
    """The report's files, which take their places with the other outputs."""
    with replacing(reporting.path) as page, replacing(reporting.changes) as changes:
        told = reporting.make(page, changes)
        yield told
    if told.changes is None:
        reporting.changes.unlink()


@contextmanager
def _row_groups(path: Path, schema: Any) -> Iterator[Any]:
    """A function that writes tables, joined to row groups of a good size."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    waiting: list[Any] = []
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:

        def flush() -> None:
            if waiting:
                writer.write_table(pa.concat_tables(waiting), row_group_size=_ROW_GROUP_ROWS)
                waiting.clear()

        def write(table: Any) -> None:
            waiting.append(table)
            if sum(map(len, waiting)) >= _ROW_GROUP_ROWS:
                flush()

        yield write
        flush()
