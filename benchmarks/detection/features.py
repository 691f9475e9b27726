"""Payments -> what a model learns from, by the pipeline's own engine."""

from __future__ import annotations

__all__ = ["PIPELINE", "history_of"]

import sys
import time
from pathlib import Path

from models.absent import Blank
from models.training.history import History, joined
from streamproc.cli.labelled import Labels, read_history
from streamproc.language import compile_stages, load_pipeline

PIPELINE = Path(__file__).parents[2] / "configs" / "detection" / "pipeline.yaml"
_TOLD_S = 10.0


def history_of(payments: Path, total: int, pipeline: Path = PIPELINE, labels: Labels | None = None) -> History:
    """Every payment's row as the model is given it when it scores, with its label, which no feature of it has seen.

    `payments`: as `data.collect` writes them; `total`: how many, for the progress on stderr; `labels`: where label and
    card stand, if not in the Handbook's columns.
    """
    plans = compile_stages(load_pipeline(str(pipeline)), models=Blank)
    parts, done, told = [], 0, time.monotonic()
    for _, part in read_history(plans, [payments], labels or Labels("TX_FRAUD", "CUSTOMER_ID")):
        parts.append(part)
        done += len(part.times)
        if time.monotonic() - told > _TOLD_S:
            told = time.monotonic()
            sys.stderr.write(f"features of {done:,} of {total:,} payments\n")
    return joined(parts)
