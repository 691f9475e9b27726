"""`streamproc models list`: which versions there are, and how good they are."""

from __future__ import annotations

__all__ = ["EXAMPLES", "command"]

from streamproc.cli.options import AsJson
from streamproc.cli.stdout import writing_stdout
from streamproc.cli.train_options import Registry

EXAMPLES = ("streamproc models list --registry models",)


def command(registry: Registry, *, as_json: AsJson = False) -> None:
    """List the versions of all models in a registry, with what they reached on the days of their test."""
    import msgspec

    from models.registry import MANIFEST, names, read_manifest, versions
    from streamproc.cli.aligned import aligned

    found = [
        (number, read_manifest(registry / name / str(number) / MANIFEST))
        for name in names(registry)
        for number in versions(registry, name)
    ]
    with writing_stdout():
        if as_json:
            each = [
                {"model": manifest.name, "version": number, "algorithm": manifest.algorithm,
                 "digest": manifest.digest, "test": manifest.folds[-1].metrics, "score": manifest.threshold.score}
                for number, manifest in found
            ]  # fmt: skip
            print(msgspec.json.encode(each).decode())  # noqa: T201 - the command's data
            return
        header = ["model", "version", "algorithm", "learned until", "AP", "recall at 0.1 %", "flag above", "digest"]
        rows = []
        for number, manifest in found:
            metrics = manifest.folds[-1].metrics
            figures = [f"{metrics[key]:.3f}" for key in ("average_precision", "recall_at_0.001")]
            line, until = f"{manifest.threshold.score:g}", manifest.learned.stop[:10]
            rows.append([manifest.name, number, manifest.algorithm, until, *figures, line, manifest.digest[:12]])
        print(aligned(header, rows), end="")  # noqa: T201 - the command's data
