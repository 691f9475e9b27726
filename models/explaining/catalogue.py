"""Models by the digest that a decision names: the pipeline's own file, and all versions of a registry."""

from __future__ import annotations

__all__ = ["Catalogue"]

from collections.abc import Sequence
from pathlib import Path

from models.explaining.explainer import Explainer
from models.registry import MANIFEST, MODEL, names, read_manifest, versions
from state.errors import ConfigError

_HELD_MAX = 16


class Catalogue:
    """Opens explainers. `file`: what the pipeline names, an ONNX file or a manifest; `features`: what it gives it."""

    def __init__(self, file: Path, features: Sequence[str], registry: Path | None = None) -> None:
        registered = file.name == MANIFEST
        self._file = file.with_name(MODEL) if registered else file
        self._features = tuple(features)
        self._registry = registry or (file.parents[2] if registered else None)
        self._held: dict[str, Explainer] = {}

    def explainer(self, digest: str) -> Explainer:
        """What explains the scores of one model; the last ones are kept.

        Raises:
            ConfigError: no file has this digest, or it cannot be explained; says why.
        """
        found = self._held.pop(digest, None) or self._open(digest)
        self._held[digest] = found
        while len(self._held) > _HELD_MAX:
            del self._held[next(iter(self._held))]
        return found

    def _open(self, digest: str) -> Explainer:
        for path, features in self._places(digest):
            try:
                found = Explainer(path.read_bytes(), features)
            except OSError:
                continue
            if found.digest == digest:
                return found
        raise ConfigError(f"no model has the digest {digest[:16]}", hint="name the --registry that has its version")

    def _places(self, digest: str) -> list[tuple[Path, Sequence[str]]]:
        """Files that may be it: reading the others would take long."""
        found: list[tuple[Path, Sequence[str]]] = []
        if self._registry is not None and self._registry.is_dir():
            for name in names(self._registry):
                for version in reversed(versions(self._registry, name)):
                    path = self._registry / name / str(version) / MANIFEST
                    try:
                        manifest = read_manifest(path)
                    except ConfigError:
                        continue  # a damaged one hides no other
                    if manifest.digests.get(MODEL) == digest:
                        found.append((path.with_name(MODEL), manifest.features))
        return [*found, (self._file, self._features)]
