"""What `streamproc train` may be told."""

from __future__ import annotations

__all__ = [
    "Algorithm",
    "Budget",
    "CardField",
    "CardsADay",
    "Folds",
    "Label",
    "LabelDelay",
    "LabelledInputs",
    "LabelsFile",
    "Margin",
    "Minutes",
    "ModelName",
    "OthersLegitimate",
    "Registry",
    "RolesLog",
    "Seed",
    "Share",
    "SomeRegistry",
    "TestDays",
    "Threads",
    "TrainDays",
    "Trials",
    "Weight",
    "delay_ms",
]

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Algorithm(StrEnum):
    """What learns."""

    LIGHTGBM = "lightgbm"
    XGBOOST = "xgboost"
    LOGISTIC = "logistic"


LabelledInputs = Annotated[
    list[str],
    typer.Option("--input", metavar="[STREAM=]FILE...", help="After PIPELINE: as of `backtest`; with labels."),
]
LabelsFile = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        metavar="FILE",
        help="Labels by id, perhaps with `label_at`; without --label a list of frauds, all others none.",
    ),
]
OthersLegitimate = Annotated[
    bool, typer.Option("--others-legitimate", help="A payment without a label in --labels is no fraud.")
]
Label = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="1 or true is a fraud, 0 or false is none. In the input, or --labels."),
]
ModelName = Annotated[str, typer.Option("--model", metavar="NAME", help="Which of the pipeline's `models`.")]
_REGISTRY = typer.Option(
    "--registry",
    metavar="URL",
    help="Where versions of models are: a directory, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX.",
)
Registry = Annotated[str, _REGISTRY]
SomeRegistry = Annotated[str | None, _REGISTRY]
CardField = Annotated[
    str | None,
    typer.Option(metavar="FIELD", help="What a card is. [default: card_id, else what the first stage is keyed by]"),
]
LabelDelay = Annotated[str, typer.Option(metavar="DURATION", help="From a payment until its label is known.")]
TrainDays = Annotated[int, typer.Option(metavar="N", min=1, help="Days to learn from, each time.")]
TestDays = Annotated[int, typer.Option(metavar="N", min=1, help="Days of a fold, and of the test.")]
Folds = Annotated[int, typer.Option(metavar="N", min=1, max=100, help="To choose on; the test is one more.")]
Trials = Annotated[int, typer.Option(metavar="N", min=1, help="Sets of parameters to try.")]
Minutes = Annotated[float, typer.Option(metavar="N", min=0.0, help="No new trial after that long; 0: all trials.")]
Weight = Annotated[
    float, typer.Option(metavar="W", min=0.0, help="Of a fraud beside a legitimate payment; 0: both kinds weigh alike.")
]
Budget = Annotated[
    float, typer.Option(metavar="SHARE", min=0.0, max=1.0, help="Of the legitimate payments that may be flagged.")
]
CardsADay = Annotated[int, typer.Option(metavar="N", min=0, help="That analysts can look at; 0: any number.")]
Seed = Annotated[int, typer.Option(metavar="N", min=0, max=2**31 - 1, help="The same one gives the same bytes.")]
Threads = Annotated[int, typer.Option(metavar="N", min=1, max=1024, help="Of the library.")]
RolesLog = Annotated[
    str | None,
    typer.Option(
        "--log",
        metavar="URL",
        help="The pipeline's event log: compare with the champion at work, and make the new version its challenger.",
    ),
]
Share = Annotated[float, typer.Option(metavar="SHARE", min=0.0001, max=1, help="Of the keys, for a challenger.")]
Margin = Annotated[
    float,
    typer.Option(metavar="P", min=0.0, max=1.0, help="Of average precision: so much less counts as not worse."),
]


def delay_ms(text: str) -> int:
    """`--label-delay` in ms.

    Raises:
        ConfigError: it is none.
    """
    from state.errors import ConfigError
    from streamproc.language.units import parse_duration

    try:
        return 0 if text == "0" else parse_duration(text)
    except ValueError as error:
        raise ConfigError(f"--label-delay: {error}", hint="0: known at once") from None
