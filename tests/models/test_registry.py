"""The registry, in a directory and in a bucket: versions are whole, numbers are nobody else's, harm is seen."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

pytest.importorskip("lightgbm")

from models.manifest import CARD, MANIFEST, MODEL, NATIVE, Manifest
from models.registry import OutOfReachError, Registry, open_registry
from models.training.folds import Window
from models.training.learners import Options
from models.training.train import Settings, Trained, train
from state.blobs import Blob, BlobStore, DirectoryBlobs
from state.errors import BlobStoreError, ConfigError
from state.memory import MemoryBlobs
from tests.models.test_export import rows
from tests.state.s3 import SECRET

DAY = 86_400_000


@pytest.fixture(scope="module")
def trained() -> Trained:
    history = msgspec.structs.replace(rows(4, 600), times=rows(4, 600).times * (DAY // 60))
    settings = Settings("logistic", Window(3, 2, DAY, 1), Options(), trials=1)
    return train(history, settings, name="fraud", label="fraud", card="", plan=[], tell=lambda line: None)


@pytest.fixture(params=["directory", "bucket", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    if request.param == "directory":
        return DirectoryBlobs(tmp_path / "reg")
    store: BlobStore = MemoryBlobs(random.Random(1)) if request.param == "bucket" else request.getfixturevalue("s3")
    return store


def test_versions_count_and_load(blobs: BlobStore, trained: Trained) -> None:
    registry = Registry("reg", blobs)
    assert (registry.names(), registry.versions("fraud")) == ([], [])
    assert [registry.add("fraud", trained.files) for _ in range(2)] == [1, 2]
    assert registry.add("other", trained.files) == 1
    assert (registry.names(), registry.versions("fraud")) == (["fraud", "other"], [1, 2])
    assert registry.check("fraud", 2) == trained.manifest
    model = registry.model("fraud", 1)
    assert (model.digest, model.names) == (trained.manifest.digest, trained.manifest.features)
    assert registry.file("fraud", 1, NATIVE) == trained.files[NATIVE]


def test_a_version_without_its_manifest_is_none_and_its_number_is_gone(trained: Trained) -> None:
    blobs = MemoryBlobs(random.Random(1))
    registry = Registry("reg", blobs)

    def fail(verb: str, name: str) -> None:
        if verb == "put" and name.rpartition("/")[2] in failing:
            raise BlobStoreError("store: cannot put: 503", retriable=True)

    failing = {MODEL}
    blobs.before = fail
    for _ in range(2):
        with pytest.raises(ConfigError, match="the registry reg cannot be written: cannot put: 503"):
            registry.add("fraud", trained.files)
        failing = {MANIFEST}
    assert registry.versions("fraud") == []
    with pytest.raises(ConfigError, match=r"there is no version 1 of the model fraud in reg \(train it"):
        registry.model("fraud", 1)
    failing = set()
    assert registry.add("fraud", trained.files) == 3


def test_nobody_gets_anothers_number(tmp_path: Path, trained: Trained) -> None:
    registry = Registry("reg", DirectoryBlobs(tmp_path))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: registry.add("fraud", trained.files), range(12)))
    assert sorted(found) == registry.versions("fraud") == list(range(1, 13))


def changed(**keys: object) -> Callable[[bytes], bytes]:
    """A manifest that says something else."""
    return lambda content: json.dumps({**json.loads(content), **keys}).encode()


class _Late:
    """A store whose lists are those of before anything was in it: another training claims its number meanwhile."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs

    def list_blobs(self, prefix: str) -> list[Blob]:
        return []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._blobs, name)


def test_the_same_training_twice_at_once_gets_two_numbers(blobs: BlobStore, trained: Trained) -> None:
    """Its files are the same to the byte, which a store may take for a request that was sent twice."""
    assert Registry("reg", blobs).add("fraud", trained.files) == 1
    assert Registry("reg", cast("BlobStore", _Late(blobs))).add("fraud", trained.files) == 2
    assert Registry("reg", blobs).versions("fraud") == [1, 2]


@pytest.mark.parametrize(
    ("file", "harm", "said"),
    [
        (MODEL, lambda content: content[:-1] + b"x", "model.onnx is not the registered file: its SHA-256 differs"),
        (MODEL, lambda content: None, "reg/fraud/1/model.onnx is missing"),
        (NATIVE, lambda content: content + b" ", "native.txt is not the registered file"),
        (MANIFEST, lambda content: b"{}", "is no manifest of a model: .*restore it, or remove its folder and train"),
        (MANIFEST, lambda content: b"\xff" + content, "manifest.json is no manifest of a model"),
        (MANIFEST, changed(form=2), r"no manifest of a model: its form is 2, this release knows 1"),
        (MANIFEST, changed(digests={}), "its digests are not those of model.onnx and native.txt"),
        (MANIFEST, changed(digests={MODEL: "0" * 64, "../../x": "0" * 64}), "its digests are not those of model.onnx"),
        (MANIFEST, changed(digests={MODEL: ""}), "its digests are not those of model.onnx"),
        (MANIFEST, changed(features=[]), "it names no features"),
        (MANIFEST, lambda content: None, "there is no version 1 of the model fraud"),
    ],
)
def test_harm_is_seen_at_every_load(
    file: str, harm: Callable[[bytes], bytes | None], said: str, blobs: BlobStore, trained: Trained
) -> None:
    registry = Registry("reg", blobs)
    registry.add("fraud", trained.files)
    harmed = harm(trained.files[file])
    blobs.delete([f"fraud/1/{file}"])
    if harmed is not None:
        blobs.put(f"fraud/1/{file}", harmed)
    with pytest.raises(ConfigError, match=said):
        registry.check("fraud", 1)
    if file != NATIVE:
        with pytest.raises(ConfigError, match=said):
            registry.model("fraud", 1)


KEY, VALUE = b"\x0a\x08location", b"\x12\x0bweights.bin"


@pytest.mark.parametrize("entry", [KEY + VALUE, VALUE + KEY, VALUE + b"\x0a\x88\x00location"])
def test_weights_elsewhere_are_refused_even_if_the_digest_is_right(entry: bytes, trained: Trained) -> None:
    import hashlib

    import onnx
    from onnx.external_data_helper import set_external_data

    model = onnx.load_from_string(trained.files[MODEL])
    for tensor in model.graph.initializer:
        tensor.raw_data = onnx.numpy_helper.to_array(tensor).tobytes()
        set_external_data(tensor, "weights.bin")
        tensor.ClearField("raw_data")
    content = model.SerializeToString()
    size = len(KEY + VALUE)
    assert b"\x6a%c" % size + KEY + VALUE in content
    content = content.replace(b"\x6a%c" % size + KEY + VALUE, b"\x6a%c" % len(entry) + entry)
    if len(entry) == size:  # else the lengths of what is around it differ
        assert len(onnx.load_from_string(content).graph.initializer[0].external_data) > 0
    manifest = msgspec.structs.replace(trained.manifest, digests={MODEL: hashlib.sha256(content).hexdigest()})
    registry = Registry("reg", MemoryBlobs(random.Random(1)))
    registry.add("fraud", {MODEL: content, MANIFEST: msgspec.json.encode(manifest), CARD: b""})
    with pytest.raises(ConfigError, match="keeps its weights in other files"):
        registry.model("fraud", 1)


def test_a_registry_in_a_bucket(s3_place: str, trained: Trained) -> None:
    registry = open_registry(f"{s3_place}/", new=True)
    assert registry.names() == []
    assert [registry.add("fraud", trained.files) for _ in range(4)] == [1, 2, 3, 4]  # the server has no atomic creation
    assert open_registry(s3_place).versions("fraud") == [1, 2, 3, 4]
    assert open_registry(s3_place).model("fraud", 4).digest == trained.manifest.digest
    with pytest.raises(ConfigError, match=f"there is no version 5 of the model fraud in {s3_place}"):
        registry.model("fraud", 5)
    with pytest.raises(OutOfReachError, match="the registry s3://none-of-ours cannot be read: cannot list") as caught:
        open_registry("s3://none-of-ours").names()
    assert SECRET not in str(caught.value)


def test_an_address_and_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no registry .*/none \(name the --registry"):
        open_registry(str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()
    assert open_registry(str(tmp_path / "new"), new=True).names() == []
    with pytest.raises(ConfigError, match="of no known kind"):
        open_registry("ftp://host/models")


def test_a_manifest_outlives_its_text(trained: Trained) -> None:
    assert msgspec.json.decode(trained.files[MANIFEST], type=Manifest) == trained.manifest
