"""Operator classes of the user: from a file beside the pipeline, or from an installed package. Nothing else.

What may be loaded is decided here, on the worker, from the pipeline's own folder: never from a topic.
"""

from __future__ import annotations

__all__ = ["OperatorLoader", "load_operator"]

import importlib
import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from operators.operator import Operator
from state.errors import ConfigError, Place
from streamproc.language.problems import nearest

OperatorLoader = Callable[[str, Path, Place], Callable[..., Operator]]
"""(reference, the pipeline's folder, where it is named) -> the class."""

_FILE = re.compile(r"\./([A-Za-z0-9_./-]+\.py):([A-Za-z_]\w*)")
_PACKAGE = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)")


def load_operator(reference: str, folder: Path, place: Place) -> Callable[..., Operator]:
    """The operator class that `reference` names: `./ops.py:MyOperator` or `package.module:MyOperator`.

    Raises:
        ConfigError: no such file, module or class, a file outside the folder, or not an Operator.
    """
    if match := _FILE.fullmatch(reference):
        module = _from_file(folder, match[1], place)
    elif match := _PACKAGE.fullmatch(reference):
        module = _from_package(match[1], place)
    else:
        raise ConfigError(
            f"{reference!r} does not name an operator", place, "./ops.py:MyOperator or package.module:MyOperator"
        )
    found = getattr(module, match[2], None)
    if found is None:
        classes = [n for n, v in vars(module).items() if isinstance(v, type) and issubclass(v, Operator)]
        raise ConfigError(f"there is no class {match[2]} in {match[1]}", place, nearest(match[2], classes))
    if not (isinstance(found, type) and issubclass(found, Operator)):
        raise ConfigError(f"{match[2]} is not an Operator", place, "subclass operators.operator.Operator")
    return found


def _from_file(folder: Path, name: str, place: Place) -> ModuleType:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ConfigError(f"{name} lies outside the pipeline's folder", place)
    if not path.is_file():
        raise ConfigError(f"there is no file {name}", place)
    title = "streamproc_user_" + re.sub(r"\W", "_", str(path))
    spec = importlib.util.spec_from_file_location(title, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[title] = module  # before it runs: dataclasses and pickle look there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[title]
        raise ConfigError(f"{name} cannot be loaded: {type(error).__name__}: {error}", place) from error
    return module


def _from_package(name: str, place: Place) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise ConfigError(f"{name} cannot be imported: {type(error).__name__}: {error}", place) from error
