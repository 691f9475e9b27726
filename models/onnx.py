"""Scoring by an ONNX classifier; the only importer of onnxruntime.

A model is a file with one float32 input of shape (rows, features) and an output of class probabilities of shape
(rows, 2): what skl2onnx, onnxmltools (LightGBM, XGBoost) and PyTorch write with `zipmap=False`.

onnxruntime alone, LightGBM of 300 trees x 31 leaves, 10 features, us a row at 1, 8, 64, 512, 2,000 rows: 7.6, 2.9, 2.5,
3.5, 3.5; memory arena, memory pattern, execution mode and graph level changed nothing beyond 2 %. One thread: a worker
has one core, and threads share a forest's trees, so that two change the last bits of 43 % of the scores. With one,
scores are the same to the bit at every batch size.

Where numba is installed, the trees of `ROWS_MIN` rows and more are summed by models/quickscorer.py, and onnxruntime
carries out what follows in the graph: the same scores to the bit, which is looked at when a model is loaded.
"""

from __future__ import annotations

__all__ = ["OnnxModel"]

import hashlib
import logging
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime

from models.manifest import Period
from state.compiling import can_compile, compiled
from state.errors import ConfigError

if TYPE_CHECKING:
    from models.quickscorer import QuickScorer

Matrix = npt.NDArray[np.float32]
Found = npt.NDArray[np.floating[Any]]

CLASSES = 2
ROWS_MIN = 32
"""Of a batch whose trees are summed by compiled code: it passes all nodes, however few the rows."""
_ROUNDING = 0.01
"""Of 0-100: what a sum of float32 may be beyond."""
_FAILURES_MAX = 200
"""Of a batch: to ask a model for each row that fails on all would block the worker for seconds."""
# An external tensor says where its data lies: in an entry whose key (field 1) is "location". Key and value may come in
# either order, and a length may have more bytes than it needs.
_EXTERNAL_DATA = re.compile(rb"\x0a(?:\x08|\x88\x80{0,8}\x00)location")


class _Graph(NamedTuple):
    """A session, and what of it is used."""

    session: Any
    input: str
    output: str

    def run(self, given: Matrix) -> Found:
        (found,) = self.session.run([self.output], {self.input: given})
        return found  # type: ignore[no-any-return]


class _Trees(NamedTuple):
    """The same in two parts: sums of the trees' leaves, and what follows."""

    scorer: QuickScorer
    rest: _Graph

    def run(self, given: Matrix) -> Found:
        return self.rest.run(self.scorer.sums(given))


class OnnxModel:
    """A loaded model. `digest`: SHA-256 of its file, hex; `width`: how many features it takes; `names`: which.

    `learned`: what it was trained on, if that is known. `scored_by`: "onnxruntime"; after `warm_up` "compiled trees",
    or "onnxruntime: " and why.
    """

    def __init__(
        self,
        path: Path,
        feature_names: Sequence[str] | None = None,
        digest: str | None = None,
        *,
        content: bytes | None = None,
        learned: Period | None = None,
    ) -> None:
        """Load and try the model.

        Args:
            path: the ONNX file.
            feature_names: what will be given to it, in order; None if the caller checks `width` itself.
            digest: what the file's SHA-256 (hex) must be; None takes any.
            content: the file's; None: it is read.
            learned: what it was trained on, if that is known.

        Raises:
            ConfigError: the file is missing, altered, incomplete or no such classifier; says what to do.
        """
        content = _read(path) if content is None else content
        _check_content(path, content, digest)
        self.path = path
        self.names = None if feature_names is None else tuple(feature_names)
        self.digest = hashlib.sha256(content).hexdigest()
        self.learned = learned
        session = _open(path, content)
        name, width = _input_of(path, session)
        self._graph = _Graph(session, name, _probabilities_of(path, session))
        if feature_names is not None and width is not None and width != len(feature_names):
            raise ConfigError(
                f"model {path.name} takes {width} features, the pipeline gives it {len(feature_names)}",
                hint="list the features it was trained with, in that order",
            )
        self.width = width if width is not None else len(feature_names or ())
        if self.width:
            self._try()
        self._content = content  # until `warm_up`
        self._trees: _Trees | None = None
        self.scored_by = "onnxruntime"

    @classmethod
    def load(cls, path: Path, feature_names: Sequence[str], digest: str | None = None) -> OnnxModel:
        """As the constructor, with the features named."""
        return cls(path, feature_names, digest)

    def warm_up(self) -> None:
        """Sum its trees by compiled code from now on, where that gives the same: a second once a process, results the
        same. Once it is: two threads may ask for it.
        """
        content, self._content = self._content, b""
        if content:
            self._trees, why_not = _trees_of(self.path, content, self.width, self._graph)
            self.scored_by = f"onnxruntime: {why_not}" if why_not else "compiled trees"

    def score(self, matrix: Matrix) -> npt.NDArray[np.float64]:
        """Scores 0-100 (100 times the probability of class 1), float64 (rows,); NaN where the model gives none: what it
        gives is no probability, or it fails.

        Args:
            matrix: float32 (rows, features), C-contiguous; NaN stands for a missing value.
        """
        if not len(matrix):
            return np.empty(0, np.float64)
        scores = self._chances(matrix)
        scores *= 100.0
        scores[~(np.abs(scores - 50.0) <= 50.0 + _ROUNDING)] = np.nan
        return np.clip(scores, 0.0, 100.0, out=scores)

    def _chances(self, matrix: Matrix) -> npt.NDArray[np.float64]:
        """Of class 1, as they come. onnxruntime does not say on which row it failed, so it is asked again by halves."""
        chances = np.full(len(matrix), np.nan)
        waiting, failures = [(0, len(matrix))], 0
        while waiting and failures < _FAILURES_MAX:
            start, stop = waiting.pop()
            found = self._run(matrix[start:stop])
            if found is not None:
                chances[start:stop] = found[:, 1]
                continue
            failures += 1
            if stop - start > 1:
                middle = (start + stop) // 2
                waiting += [(middle, stop), (start, middle)]
        return chances

    def _run(self, matrix: Matrix) -> Found | None:
        """(rows, CLASSES); None: it failed, or gave something else."""
        fits = len(matrix) >= ROWS_MIN and matrix.shape[1] == self.width
        try:
            found = ((fits and self._trees) or self._graph).run(matrix)
        except Exception:
            return None
        return found if found.shape == (len(matrix), CLASSES) else None

    def _try(self) -> None:
        """Score two rows: what a file declares need not be what it gives; it also warms the session up."""
        problem = None
        try:
            found = self._graph.run(np.zeros((2, self.width), np.float32))
        except Exception as error:
            problem = f"fails on two rows of zeros ({type(error).__name__})"
        else:
            if found.shape != (2, CLASSES):
                problem = f"gives probabilities of shape {found.shape} for two rows, not (2, {CLASSES})"
            elif not ((found >= 0) & (found <= 1)).all():
                problem = "gives probabilities outside 0..1"
        if problem:
            raise ConfigError(
                f"model {self.path.name} {problem}", hint="export a binary classifier with a free number of rows"
            )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"model {path} cannot be read: {error.strerror}", hint="train it, or correct its path"
        ) from None


def _check_content(path: Path, content: bytes, digest: str | None) -> None:
    if digest is not None and hashlib.sha256(content).hexdigest() != digest.lower():
        raise ConfigError(
            f"model {path} is not the registered file: its SHA-256 differs", hint="restore it, or register it anew"
        )
    if _EXTERNAL_DATA.search(content):
        raise ConfigError(
            f"model {path} keeps its weights in other files, which no digest covers",
            hint="save it as one file: onnx.save(model, path, save_as_external_data=False)",
        )


def _open(path: Path, content: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    # Both remember the largest batch for nothing measurable.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ConfigError(
            f"model {path} is not an ONNX model that onnxruntime can load ({type(error).__name__})",
            hint="export it again; opset 15 and earlier always load",
        ) from None


def _input_of(path: Path, session: Any) -> tuple[str, int | None]:
    """Name and width (None: free) of the one input."""
    inputs = session.get_inputs()
    fits = len(inputs) == 1 and inputs[0].type == "tensor(float)" and len(inputs[0].shape) == 2
    if not fits or isinstance(inputs[0].shape[0], int):
        raise ConfigError(
            f"model {path.name} does not take one float32 matrix with a free number of rows",
            hint='export it with initial_types=[("x", FloatTensorType([None, features]))]',
        )
    width = inputs[0].shape[1]
    return inputs[0].name, width if isinstance(width, int) else None


def _probabilities_of(path: Path, session: Any) -> str:
    """Name of the output of class probabilities: "probabilities", else the first of two float columns."""
    found = [
        output.name
        for output in session.get_outputs()
        if output.type in ("tensor(float)", "tensor(double)") and len(output.shape) == 2 and output.shape[1] == CLASSES
    ]
    if not found:
        raise ConfigError(
            f"model {path.name} has no output of two class probabilities",
            hint="export a binary classifier with zipmap=False",
        )
    return "probabilities" if "probabilities" in found else str(found[0])


def _trees_of(path: Path, content: bytes, width: int, whole: _Graph) -> tuple[_Trees | None, str]:
    """Trees that score as the whole graph does, to the bit; None, and why not."""
    if not can_compile() or find_spec("onnx") is None:
        return None, "numba or onnx is not installed"
    problem = "its trees, compiled, give something else"
    try:
        from models.forest import UnfitError, read_forest, sample_rows
        from models.quickscorer import QuickScorer, leaf_sums

        try:
            forest = read_forest(content, width)
        except UnfitError as error:
            return None, str(error)
        rest = _open(path, forest.rest)
        trees = _Trees(QuickScorer(forest, compiled(leaf_sums)), _Graph(rest, rest.get_inputs()[0].name, whole.output))
        rows = sample_rows(forest, width)
        if trees.run(rows).tobytes() == whole.run(rows).tobytes():
            return trees, ""
    except Exception as error:  # of an import, of a compiler, or of a graph that does not come apart
        problem = f"its trees cannot be compiled ({type(error).__name__})"
    logging.getLogger("models").warning("model %s is scored by onnxruntime: %s", path.name, problem)
    return None, problem
