"""Actions as state and journal keep them: a byte each, a place in a list of names that is kept beside them.

The list is a pipeline's own and may change: what was kept under another one is read by name.
"""

from __future__ import annotations

__all__ = ["ActionCodes"]

from collections.abc import Sequence
from typing import NamedTuple


class ActionCodes(NamedTuple):
    """The actions there are now; `usual` is the place of the one told where the name that was kept is no more.

    >>> now = ActionCodes(("decline", "challenge", "approve"), usual=2)
    >>> list(now.read(bytes([0, 1, 2]), ("approve", "review", "decline")))
    [2, 2, 0]
    """

    names: tuple[str, ...] = ()
    usual: int = 0

    def read(self, codes: bytes, names: Sequence[str]) -> bytes:
        """Codes that were kept under `names`, as places in ours; "()": nobody knows under which, so as they are."""
        if not self.names or tuple(names) == self.names:
            return codes
        places = {name: place for place, name in enumerate(self.names)}
        known = [places.get(name, self.usual) for name in names] if names else list(range(len(self.names)))
        return codes.translate(bytes(known[:256]).ljust(256, bytes([self.usual])))
