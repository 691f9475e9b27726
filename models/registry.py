"""Trained models in a directory: DIR/NAME/VERSION/ with four files, never changed once they are there.

    model.onnx      what scores
    native.txt      the library's own text of it, for explanations
    manifest.json   what it was made of and how good it was: `Manifest`
    card.md         the same for people

Versions count from 1. A version appears whole (it is renamed into its place) or not at all; what loads one compares the
digest and the features' names. Nothing in it is ever unpickled.
"""

from __future__ import annotations

__all__ = [
    "CARD",
    "MANIFEST",
    "MODEL",
    "NATIVE",
    "Calibration",
    "Data",
    "FoldResult",
    "Manifest",
    "Parity",
    "Period",
    "Search",
    "Threshold",
    "add_version",
    "check_files",
    "names",
    "open_model",
    "read_manifest",
    "versions",
]

import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec

from models.onnx import OnnxModel
from state.errors import ConfigError

MODEL, NATIVE, MANIFEST, CARD = "model.onnx", "native.txt", "manifest.json", "card.md"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")


class Period(msgspec.Struct, frozen=True):
    """Payments from `start` until before `stop` (RFC 3339, UTC)."""

    start: str
    stop: str
    rows: int
    frauds: int


class Data(msgspec.Struct, frozen=True):
    """All that was read. `digest`: SHA-256 of features, labels, times and cards. `label`: its column; `delay_ms`: until
    it is known. `unlabelled`: rows of which it never is.
    """

    digest: str
    label: str
    delay_ms: int
    unlabelled: int
    period: Period


class Search(msgspec.Struct, frozen=True):
    """How the parameters were found: `trials` tried, the best by mean average precision of the validation folds."""

    trials: int
    seed: int
    threads: int
    positive_weight: float
    increasing: tuple[str, ...]
    decreasing: tuple[str, ...]
    average_precision: float
    parameters: dict[str, int | float]


class FoldResult(msgspec.Struct, frozen=True):
    """`use`: validation or test; the test's days had no say in anything."""

    use: str
    train: Period
    test: Period
    metrics: dict[str, float]


class Calibration(msgspec.Struct, frozen=True):
    """Probability = sigmoid(slope * log-odds + intercept), in the ONNX file. `brier_before`, `brier`: of the test."""

    slope: float
    intercept: float
    brier_before: float
    brier: float


class Threshold(msgspec.Struct, frozen=True):
    """Flag payments whose score (0-100) is above `score`: the higher one of what two budgets allow.

    `by_false_positives`: at most `false_positives` of the legitimate payments. `by_cards`: on the mean at most
    `cards_a_day` cards; 0 cards: no such budget. Both on the validation folds; `test_...`: what came of it.
    """

    score: float
    false_positives: float
    by_false_positives: float
    cards_a_day: int
    by_cards: float
    test_false_positives: float
    test_recall: float
    test_cards_a_day: float


class Parity(msgspec.Struct, frozen=True):
    """The ONNX file against the library: the largest difference of a probability."""

    rows: int
    largest: float


class Manifest(msgspec.Struct, frozen=True):
    """What a version is. `digests`: SHA-256 of files, hex. `plan`: the state fingerprints of the stages."""

    name: str
    algorithm: str
    digests: dict[str, str]
    features: tuple[str, ...]
    plan: tuple[str, ...]
    data: Data
    learned: Period
    search: Search
    folds: tuple[FoldResult, ...]
    calibration: Calibration
    threshold: Threshold
    parity: Parity
    libraries: dict[str, str]
    form: int = 1

    @property
    def digest(self) -> str:
        """Of the ONNX file."""
        return self.digests[MODEL]


def names(registry: Path) -> list[str]:
    """The models that have versions.

    Raises:
        ConfigError: there is no such directory.
    """
    if not registry.is_dir():
        raise ConfigError(f"there is no registry {registry}", hint="name the --registry of `streamproc train`")
    return sorted(
        path.name for path in registry.iterdir() if _NAME.fullmatch(path.name) and versions(registry, path.name)
    )


def versions(registry: Path, name: str) -> list[int]:
    """A model's versions, rising."""
    folder = registry / name
    if not folder.is_dir():
        return []
    found = (path for path in folder.iterdir() if re.fullmatch(r"[1-9][0-9]{0,8}", path.name))
    return sorted(int(path.name) for path in found if path.is_dir())


def add_version(registry: Path, name: str, files: Mapping[str, bytes]) -> int:
    """Put a version behind the last one; its number.

    Raises:
        ConfigError: the registry cannot be written.
    """
    draft = registry / name / f".draft-{os.getpid()}"
    try:
        draft.mkdir(parents=True)
        for file, content in files.items():
            with open(draft / file, "wb") as opened:
                opened.write(content)
                opened.flush()
                os.fsync(opened.fileno())
        while True:
            number = max(versions(registry, name), default=0) + 1
            try:
                draft.rename(registry / name / str(number))
            except OSError:
                if number not in versions(registry, name):  # else another training was faster
                    raise
            else:
                return number
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise ConfigError(
            f"the registry {registry} cannot be written: {error.strerror}", hint="name another --registry"
        ) from None


def read_manifest(path: Path) -> Manifest:
    """A version's manifest, by its path.

    Raises:
        ConfigError: it is missing or no manifest.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except OSError as error:
        name, known = path.parent.parent.name, versions(path.parents[2], path.parent.parent.name)
        hint = f"it has {_few(known)}" if known else "train it: `streamproc train`"
        said = "there is no" if isinstance(error, FileNotFoundError | NotADirectoryError) else "cannot read"
        raise ConfigError(
            f"{said} version {path.parent.name} of the model {name} in {path.parents[2]}", hint=hint
        ) from None
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path} is no manifest of a model: {error}", hint="restore it, or train anew") from None


def _few(numbers: list[int]) -> str:
    return f"version {numbers[0]}" if len(numbers) == 1 else f"versions {numbers[0]} to {numbers[-1]}"


def open_model(path: Path) -> OnnxModel:
    """The model of a version, by the path of its manifest.

    Raises:
        ConfigError: a file is missing or not the registered one.
    """
    manifest = read_manifest(path)
    return OnnxModel(path.with_name(MODEL), manifest.features, manifest.digest)


def check_files(path: Path) -> Manifest:
    """Compare a version's files with what its manifest says of them; `path`: the manifest's.

    Raises:
        ConfigError: one is missing or altered.
    """
    manifest = read_manifest(path)
    for name, digest in manifest.digests.items():
        file = path.with_name(name)
        try:
            content = file.read_bytes()
        except OSError as error:
            raise ConfigError(f"{file} cannot be read: {error.strerror}", hint="restore it, or train anew") from None
        if hashlib.sha256(content).hexdigest() != digest:
            raise ConfigError(f"{file} is not the registered file: its SHA-256 differs", hint="restore it")
    return manifest
