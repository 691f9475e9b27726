"""Trained models in a blob store: a directory, or a bucket. NAME/VERSION/ has four files, which are never changed.

    model.onnx      what scores
    native.txt      the library's own text of it, for explanations
    manifest.json   what it was made of and how good it was: `Manifest`
    card.md         the same for people

Versions count from 1. Who adds one claims the next number by creating NAME/VERSION.claim, and writes the manifest last:
a version without a manifest does not exist, and its number is not used again. What loads one compares the digest and
the features' names. Nothing in it is ever unpickled.
"""

from __future__ import annotations

__all__ = ["OutOfReachError", "Registered", "Registry", "is_address", "learned_beside", "open_registry"]

import hashlib
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from models.manifest import CARD, FORM, MANIFEST, MODEL, NATIVE, Manifest, Period
from state.blobs import BlobStore, check_blobs
from state.errors import BlobMissingError, BlobStoreError, ConfigError

if TYPE_CHECKING:
    from models.onnx import OnnxModel

_SHA256 = re.compile(r"[0-9a-f]{64}")
_PLACE = re.compile(r"([A-Za-z_][A-Za-z0-9_]{0,99})/([1-9][0-9]{0,8})/([a-z.]+)")


class OutOfReachError(ConfigError):
    """The store of a registry gave no answer, or an error: what is asked for may be there, and be read later."""


class Registered(msgspec.Struct, frozen=True):
    """A version, by where it is; `registry`: a directory or an address."""

    registry: str
    name: str
    version: int


class Registry:
    """The models in a blob store. Calls block; `where`: what it is called in errors.

    Every call raises OutOfReachError where the store cannot be read, or written.
    """

    def __init__(self, where: str, blobs: BlobStore) -> None:
        self.where = where
        self._blobs = blobs

    def try_out(self) -> None:
        """See that a version could be added, before the hours that a training may take.

        Raises:
            ConfigError: it could not: access is refused, or the store lacks what is relied on.
        """
        with self._told("written"):
            check_blobs(self._blobs, f"the registry {self.where}")

    def names(self) -> list[str]:
        """The models that have versions."""
        return sorted({name for name, _, file in self._places("") if file == MANIFEST})

    def versions(self, name: str) -> list[int]:
        """A model's versions, rising."""
        return sorted(version for _, version, file in self._places(name) if file == MANIFEST)

    def add(self, name: str, files: Mapping[str, bytes]) -> int:
        """Put a version behind the last one; its number."""
        number = max((version for _, version, _ in self._places(name)), default=0) + 1
        with self._told("written"):
            claim = secrets.token_bytes(16)  # two trainings may write the same bytes: stores take that for one request
            while not self._blobs.create(f"{name}/{number}.claim", claim):
                number += 1  # another training was faster
            for file in sorted(files.keys() - {MANIFEST}):
                self._blobs.put(f"{name}/{number}/{file}", files[file])
            self._blobs.put(f"{name}/{number}/{MANIFEST}", files[MANIFEST])
        return number

    def manifest(self, name: str, version: int) -> Manifest:
        """What a version is.

        Raises:
            ConfigError: it is missing or no manifest.
        """
        try:
            found = msgspec.json.decode(self._get(name, version, MANIFEST), type=Manifest)
            _check(found)
        except BlobMissingError:
            known = self.versions(name)
            hint = f"it has {_few(known)}" if known else "train it: `streamproc train`"
            raise ConfigError(f"there is no version {version} of the model {name} in {self.where}", hint=hint) from None
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
            raise ConfigError(
                f"{self._path(name, version, MANIFEST)} is no manifest of a model: {error}",
                hint="restore it, or remove its folder and train anew",
            ) from None
        return found

    def file(self, name: str, version: int, file: str) -> bytes:
        """One of a version's files; compared with its digest, where the manifest has one.

        Raises:
            ConfigError: it is missing or not the registered one.
        """
        digest = self.manifest(name, version).digests.get(file)
        return self._compared(name, version, file, digest)

    def model(self, name: str, version: int) -> OnnxModel:
        """A version, loaded.

        Raises:
            ConfigError: a file is missing or not the registered one, or no such classifier.
        """
        from models.onnx import OnnxModel

        manifest = self.manifest(name, version)
        content = self._compared(name, version, MODEL, manifest.digest)
        return OnnxModel(
            Path(self._path(name, version, MODEL)), manifest.features, content=content, learned=manifest.learned
        )

    def check(self, name: str, version: int) -> Manifest:
        """Compare a version's files with what its manifest says of them.

        Raises:
            ConfigError: one is missing or altered.
        """
        manifest = self.manifest(name, version)
        for file, digest in manifest.digests.items():
            self._compared(name, version, file, digest)
        return manifest

    def _compared(self, name: str, version: int, file: str, digest: str | None) -> bytes:
        try:
            content = self._get(name, version, file)
        except BlobMissingError:
            raise ConfigError(
                f"{self._path(name, version, file)} is missing", hint="restore it, or train anew"
            ) from None
        if digest is not None and hashlib.sha256(content).hexdigest() != digest:
            raise ConfigError(
                f"{self._path(name, version, file)} is not the registered file: its SHA-256 differs", hint="restore it"
            )
        return content

    def _get(self, name: str, version: int, file: str) -> bytes:
        with self._told("read"):
            return self._blobs.get(f"{name}/{version}/{file}")

    def _path(self, name: str, version: int, file: str) -> str:
        return f"{self.where}/{name}/{version}/{file}"

    def _places(self, name: str) -> Sequence[tuple[str, int, str]]:
        """Name, version and file of what there is."""
        with self._told("read"):
            blobs = self._blobs.list_blobs(f"{name}/" if name else "")
        found = (_PLACE.fullmatch(blob.name) for blob in blobs)
        return [(match[1], int(match[2]), match[3]) for match in found if match]

    @contextmanager
    def _told(self, done: str) -> Iterator[None]:
        try:
            yield
        except BlobMissingError:
            raise
        except BlobStoreError as error:
            said = str(error).rpartition("cannot ")[2]
            raise OutOfReachError(
                f"the registry {self.where} cannot be {done}: cannot {said}", hint="see docs/models/training.md"
            ) from None


def learned_beside(path: Path, digest: str) -> Period | None:
    """What a model's file was trained on, where it lies in a registry's folder: the manifest there has its digest."""
    try:
        manifest = msgspec.json.decode(path.with_name(MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return manifest.learned if manifest.digests.get(MODEL) == digest else None


def _check(manifest: Manifest) -> None:
    """What its type does not say: a version is not loaded without a digest.

    Raises:
        ValueError: it is not so.
    """
    if manifest.form != FORM:
        raise ValueError(f"its form is {manifest.form}, this release knows {FORM}")
    wrong = {file: digest for file, digest in manifest.digests.items() if not _SHA256.fullmatch(digest)}
    if MODEL not in manifest.digests or manifest.digests.keys() - {MODEL, NATIVE, CARD} or wrong:
        raise ValueError(f"its digests are not those of {MODEL} and {NATIVE}")
    if not manifest.features:
        raise ValueError("it names no features")


def _few(numbers: Sequence[int]) -> str:
    return f"version {numbers[0]}" if len(numbers) == 1 else f"versions {numbers[0]} to {numbers[-1]}"


def is_address(where: str) -> bool:
    """Whether it is no directory."""
    return "://" in where


def open_registry(where: str, *, new: bool = False) -> Registry:
    """The registry in a directory, or at `s3://...`, `gs://...` or `az://...`; `new`: a missing directory is made.

    Raises:
        ConfigError: there is none, it cannot be made, or the address cannot be used.
    """
    from state.objectstore import open_blobs

    if not new and not is_address(where) and not Path(where).is_dir():
        raise ConfigError(f"there is no registry {where}", hint="name the --registry of `streamproc train`")
    try:
        return Registry(where.rstrip("/"), open_blobs(where, "registry"))
    except BlobStoreError as error:
        raise ConfigError(
            f"the registry {where} cannot be made: {str(error).rpartition(': ')[2]}",
            hint="name a directory that this user can write",
        ) from None
