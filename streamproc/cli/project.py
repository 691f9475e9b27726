"""What a new project consists of, and where it comes from: files that are shipped below `configs`."""

from __future__ import annotations

__all__ = ["make_project", "project_files"]

import os
import re
import shutil
from importlib.metadata import version
from pathlib import Path
from tempfile import mkdtemp

from state.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / "configs"
PIPELINE, TEMPLATE = CONFIGS / "card_fraud", CONFIGS / "project"
_PLACES = {
    "gitignore": ".gitignore",
    "gitlab-ci.yml": ".gitlab-ci.yml",
    "github.yml": ".github/workflows/check.yml",
}
"""Files of the template that have another name in a project: under their own they would be at work here already."""
_PIPELINE_NAME = re.compile(rb"^pipeline: .*$", re.MULTILINE)


def project_files(name: str) -> dict[str, bytes]:
    """Path in the project -> contents; `name`: the project's, and its pipeline's."""
    found = {path: (PIPELINE / path).read_bytes() for path in _paths(PIPELINE)}
    words = {b"{name}": name.encode(), b"{version}": version("streamproc").encode()}
    for path in _paths(TEMPLATE):
        content = (TEMPLATE / path).read_bytes()
        for word, meant in words.items():
            content = content.replace(word, meant)
        found[_PLACES.get(path, path)] = content
    found["pipeline.yaml"] = _PIPELINE_NAME.sub(b"pipeline: " + name.encode(), found["pipeline.yaml"], count=1)
    return found


def _paths(folder: Path) -> list[str]:
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in files if not any(part.startswith((".", "__")) for part in path.parts))


def make_project(parent: Path, name: str) -> list[str]:
    """Write the project below `parent`, whole or not at all; the paths in it.

    Raises:
        ConfigError: there is something of that name, or it cannot be written.
    """
    target = parent / name
    if os.path.lexists(target):
        raise ConfigError(f"{target} exists already", hint="choose another name")
    files = project_files(name)
    draft = None
    try:
        draft = Path(mkdtemp(prefix=f".{name}-", dir=parent))
        draft.chmod(0o777 & ~_umask())
        for path, content in files.items():
            (draft / path).parent.mkdir(parents=True, exist_ok=True)
            (draft / path).write_bytes(content)
        draft.rename(target)
    except OSError as error:
        raise ConfigError(f"{target} cannot be made: {error.strerror}", hint="go where you may write") from None
    finally:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)
    return list(files)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
