"""`streamproc`: the commands and nothing else. A command imports what it needs when it runs."""

from __future__ import annotations

__all__ = ["app"]

from types import ModuleType
from typing import Annotated

import typer

from streamproc.cli import (
    backtest,
    check,
    demo,
    explain,
    explain_decisions,
    feed,
    fmt,
    generate,
    models_activate,
    models_drift,
    models_list,
    models_rollback,
    models_show,
    models_watch,
    new,
    publish_table,
    repartition,
    retrain,
    run,
    schema,
    sql,
    state_checkpoints,
    state_inspect,
    state_verify,
    table_show,
    tail,
    test,
    train,
    validate,
    what_if,
    why,
)
from streamproc.cli.environment import EnvironmentCommand

_HELP = "Exactly-once decisions on streams of card transactions. Data goes to stdout, everything else to stderr."

app = typer.Typer(
    name="streamproc",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _say_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"streamproc {version('streamproc')}")  # noqa: T201 - what was asked for
        raise typer.Exit


@app.callback(help=_HELP)
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """What stands before the command."""


def _example(module: ModuleType) -> str:
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in module.EXAMPLES)


app.command("demo", epilog=_example(demo))(demo.command)
app.command("new", epilog=_example(new))(new.command)
app.command("validate", epilog=_example(validate), cls=EnvironmentCommand)(validate.command)
app.command("schema", epilog=_example(schema))(schema.command)
app.command("fmt", epilog=_example(fmt))(fmt.command)
app.command("explain", epilog=_example(explain))(explain.command)
app.command("run", epilog=_example(run), cls=EnvironmentCommand)(run.command)
app.command("feed", epilog=_example(feed), cls=EnvironmentCommand)(feed.command)
app.command("publish-table", epilog=_example(publish_table), cls=EnvironmentCommand)(publish_table.command)
app.command("tail", epilog=_example(tail), cls=EnvironmentCommand)(tail.command)
app.command("backtest", epilog=_example(backtest), cls=backtest.BacktestCommand)(backtest.command)
app.command("what-if", epilog=_example(what_if), cls=EnvironmentCommand)(what_if.command)
app.command("sql", epilog=_example(sql), cls=sql.SqlCommand)(sql.command)
app.command("test", epilog=_example(test))(test.command)
app.command("train", epilog=_example(train), cls=backtest.BacktestCommand)(train.command)
app.command("retrain", epilog=_example(retrain), cls=retrain.RetrainCommand)(retrain.command)
app.command("generate", epilog=_example(generate))(generate.command)
app.command("check", epilog=_example(check))(check.command)
app.command("repartition", epilog=_example(repartition), cls=EnvironmentCommand)(repartition.command)
app.command("explain-decisions", epilog=_example(explain_decisions), cls=EnvironmentCommand)(explain_decisions.command)
app.command("why", epilog=_example(why), cls=EnvironmentCommand)(why.command)

_models = typer.Typer(rich_markup_mode=None, help="Look at trained models, and say which versions are at work.")
_models.command("list", epilog=_example(models_list), cls=EnvironmentCommand)(models_list.command)
_models.command("show", epilog=_example(models_show))(models_show.command)
_models.command("activate", epilog=_example(models_activate), cls=EnvironmentCommand)(models_activate.command)
_models.command("rollback", epilog=_example(models_rollback), cls=EnvironmentCommand)(models_rollback.command)
_models.command("drift", epilog=_example(models_drift), cls=backtest.BacktestCommand)(models_drift.command)
_models.command("watch", epilog=_example(models_watch), cls=EnvironmentCommand)(models_watch.command)
app.add_typer(_models, name="models")

_state = typer.Typer(rich_markup_mode=None, help="Look at the state and its checkpoints; nothing is changed.")
_state.command("inspect", epilog=_example(state_inspect), cls=EnvironmentCommand)(state_inspect.command)
_state.command("verify", epilog=_example(state_verify), cls=EnvironmentCommand)(state_verify.command)
_state.command("checkpoints", epilog=_example(state_checkpoints), cls=EnvironmentCommand)(state_checkpoints.command)
app.add_typer(_state, name="state")

_table = typer.Typer(rich_markup_mode=None, help="Look at a pipeline's tables; nothing is changed.")
_table.command("show", epilog=_example(table_show), cls=EnvironmentCommand)(table_show.command)
app.add_typer(_table, name="table")
