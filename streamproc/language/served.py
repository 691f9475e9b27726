"""A model in a registry, as the analyst wrote it; see model.py."""

from __future__ import annotations

__all__ = ["Challenger", "Served"]

from pathlib import Path

import msgspec

from models.registry import is_address
from operators.serving import Roles


class Challenger(msgspec.Struct, frozen=True):
    """A version that scores a `share` of the keys."""

    version: int
    share: float


class Served(msgspec.Struct, frozen=True):
    """Which versions of a model in a registry score at the start; a topic may change it.

    `registry`: a directory, relative to the pipeline. `version`: the champion. `by`: the column whose value says which
    keys the challenger has; "": what payments are keyed by. `shadow_budget`: what shadows may take of the time of a
    batch, ms.
    """

    registry: str
    version: int
    challenger: Challenger | None = None
    shadow: tuple[int, ...] = ()
    by: str = ""
    shadow_budget: int = 5

    def address(self, folder: str) -> str:
        """Where the registry is, for a pipeline in `folder`."""
        return self.registry if is_address(self.registry) else str(Path(folder) / self.registry)

    @property
    def roles(self) -> Roles:
        """Those at the start."""
        if (rival := self.challenger) is None:
            return Roles(self.version, shadows=self.shadow)
        return Roles(self.version, rival.version, rival.share, self.shadow)
