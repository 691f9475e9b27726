"""The model card: a manifest for people."""

from __future__ import annotations

__all__ = ["card_of"]

from models.manifest import Manifest, Period

_PROTOCOL = """\
Each row is judged by a model that learned from the days before, as far as their labels were known; cards known as
compromised are left out. The validation folds chose parameters, calibration and threshold; the test had no say in
anything. The model shipped learned later than all of these."""


def card_of(manifest: Manifest) -> str:
    """Markdown; says what it learned, how good it is on days it has not seen, and what it is not for."""
    data, search, line, curve = manifest.data, manifest.search, manifest.threshold, manifest.calibration
    metrics = list(manifest.folds[-1].metrics)
    table = [
        f"| {fold.use} | {_days(fold.test)} | {fold.test.rows:,} | {fold.test.frauds:,} | "
        + " | ".join(f"{fold.metrics[name]:.4f}" for name in metrics)
        + " |"
        for fold in manifest.folds
    ]
    parameters = ", ".join(f"{name} {value:g}" for name, value in search.parameters.items())
    signs = [f"the score never falls with {name}" for name in search.increasing]
    signs += [f"the score never rises with {name}" for name in search.decreasing]
    label = f"`{data.label}`" if data.label else "a list of frauds"
    capacity = f" and {line.cards_a_day} cards a day" if line.cards_a_day else ""
    lines = [
        f"# {manifest.name}: {manifest.algorithm}",
        "",
        "Gives each card payment a score from 0 to 100, 100 times the probability of fraud, of "
        f"{len(manifest.features)} features that the pipeline computes before it decides.",
        "",
        "## Learned from",
        f"- {_days(manifest.learned)}: {manifest.learned.rows:,} payments, {manifest.learned.frauds:,} frauds, of a "
        f"history of {data.period.rows:,} payments; {data.unlabelled:,} without a label were left out.",
        f"- Label: {label}, known {_counted_days(data.delay_ms)} after a payment.",
        f"- {search.trials} sets of parameters were tried; chosen: {parameters}.",
        *(f"- Constraint: {sign}." for sign in signs),
        "",
        "## How good it is",
        _PROTOCOL,
        "",
        "| | days | payments | frauds | " + " | ".join(metrics) + " |",
        "|---" * (4 + len(metrics)) + "|",
        *table,
        "",
        f"Calibrated by sigmoid({curve.slope:.4f} x log-odds {curve.intercept:+.4f}); Brier score of the test "
        f"{curve.brier:.6f}, {curve.brier_before:.6f} without.",
        "",
        "## Threshold",
        f"A score above {line.score:g} flags at most {line.false_positives:.3%} of the legitimate payments{capacity} "
        f"on the validation folds; on the test {line.test_false_positives:.3%} of them, {line.test_recall:.1%} of the "
        f"frauds, {line.test_cards_a_day:g} cards a day.",
        "",
        "## Limits",
        "- It knows only what its days showed. Train again when fraud or customers change.",
        "- For payments as this pipeline's streams have them; a pipeline with other features is refused.",
        f"- The ONNX file differs from the library by {manifest.parity.largest:g} at most, on "
        f"{manifest.parity.rows:,} rows.",
        "",
    ]
    return "\n".join(lines)


def _counted_days(ms: int) -> str:
    days = ms / 86_400_000
    return f"{days:g} day" if days == 1 else f"{days:g} days"


def _days(period: Period) -> str:
    return f"{period.start[:10]} to before {period.stop[:10]}"
