"""Models by what a block says of them: the digest of a file, or the version in a registry."""

from __future__ import annotations

__all__ = ["Catalogue"]

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from models.explaining.explainer import Explainer
from models.manifest import MODEL
from models.registry import OutOfReachError, Registry
from state.errors import ConfigError

_HELD_MAX = 16


class Catalogue:
    """Opens explainers, and keeps the last ones."""

    def __init__(self, name: str, file: Path | None, features: Sequence[str], registry: Registry | None) -> None:
        """Args:
        name: the model's.
        file: the ONNX file that the pipeline names, if it does.
        features: what the pipeline gives to it.
        registry: where its versions are.
        """
        self._name, self._file, self._features, self._registry = name, file, tuple(features), registry
        self._held: dict[str | int, Explainer] = {}
        self._digests: dict[int, str] = {}

    def by_digest(self, digest: str) -> Explainer:
        """What explains the scores of the file with this SHA-256 (hex).

        Raises:
            OutOfReachError: the registry cannot be read now.
            ConfigError: there is none, or it cannot be explained; says why.
        """
        return self._kept(digest, lambda: self._found(digest))

    def by_version(self, version: int) -> Explainer:
        """The same of a registered version.

        Raises:
            ConfigError: as `by_digest`; its files are not those that were registered.
        """
        return self._kept(version, lambda: self._registered(version))

    def _kept(self, key: str | int, opened: Callable[[], Explainer]) -> Explainer:
        found = self._held.pop(key, None) or opened()
        self._held[key] = found
        while len(self._held) > _HELD_MAX:
            del self._held[next(iter(self._held))]
        return found

    def _registered(self, version: int) -> Explainer:
        if self._registry is None:
            raise ConfigError("its version is in a registry that is not named", hint="name it by --registry")
        features = self._registry.manifest(self._name, version).features
        return Explainer(self._registry.file(self._name, version, MODEL), features)

    def _found(self, digest: str) -> Explainer:
        if self._file is not None and self._file.is_file():
            content = self._file.read_bytes()
            if hashlib.sha256(content).hexdigest() == digest:
                return Explainer(content, self._features)
        for version in reversed(self._registry.versions(self._name) if self._registry else []):
            if self._digest(version) == digest:
                return self._registered(version)
        raise ConfigError(f"no model has the digest {digest[:16]}", hint="name the --registry that has its version")

    def _digest(self, version: int) -> str:
        """Of a registered version; read once, as versions never change. "": its manifest is damaged."""
        if version not in self._digests:
            assert self._registry is not None
            try:
                self._digests[version] = self._registry.manifest(self._name, version).digests.get(MODEL, "")
            except OutOfReachError:
                raise
            except ConfigError:
                return ""
        return self._digests[version]
