"""Which versions of a registered model score: a champion, a challenger for a share of the keys, shadows beside them.

    champion     scores what nobody else does
    challenger   scores a share of the keys, always the same ones, and so decides on them
    shadow       scores every row, and changes nothing: to be compared

Roles stand in the pipeline's file, and change while it runs by records of the topic `<pipeline>.models`, one a model
(`ROLES`). What a record names is opened beside the loop (`prepare`) and holds between two batches (`apply`), so a
transaction is of one line-up. Who cannot open it goes on as before, and says so.
"""

from __future__ import annotations

__all__ = [
    "ROLES",
    "ROLES_TABLE",
    "Lineup",
    "RegisteredModel",
    "Roles",
    "ServedModel",
    "Version",
    "before",
    "changed",
    "roles_of_row",
    "row_of_roles",
]

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from models.absent import AbsentModel
from operators.schema import DataType, Kind
from operators.score import warm_up
from operators.tables import TableSchema
from state.errors import ConfigError
from state.hashing import stable_hashes64

ROLES_TABLE = "streamproc:models"
"""No table of a pipeline can be called so."""
ROLES = TableSchema(
    ROLES_TABLE,
    "model",
    {
        "model": DataType(Kind.STRING),
        "champion": DataType(Kind.INT64),
        "challenger": DataType(Kind.INT64),
        "share": DataType(Kind.FLOAT64),
        "shadows": DataType(Kind.STRING),
        "before": DataType(Kind.STRING),
        "added_by": DataType(Kind.STRING),
        "added_at": DataType(Kind.STRING),
        "reason": DataType(Kind.STRING),
    },
)
"""The records of `<pipeline>.models`: see operators/live_tables.py. `before`: the roles that a record has replaced."""
_VERSION = re.compile(r"[1-9][0-9]{0,8}")
_PARTS = 10_000
"""Shares are parts of ten thousand."""


class RegisteredModel(Protocol):
    """A version as it was opened. Its `names`, if any, are the features it takes, in its order; else the pipeline's."""

    digest: str

    def score(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """See `operators.score.Model`."""
        ...


class Roles(msgspec.Struct, frozen=True):
    """Versions by role. `share`: of the keys that the challenger has, 0 to 1."""

    champion: int
    challenger: int | None = None
    share: float = 0.0
    shadows: tuple[int, ...] = ()

    @property
    def versions(self) -> tuple[int, ...]:
        """Each once, the champion first."""
        rivals = () if self.challenger is None else (self.challenger,)
        return tuple(dict.fromkeys((self.champion, *rivals, *self.shadows)))


class Version(NamedTuple):
    """`picks`: which of the pipeline's features it takes, in its order; None: all, as they are."""

    number: int
    model: RegisteredModel
    picks: npt.NDArray[np.intp] | None

    def score(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Scores 0-100 of rows of all features."""
        return self.model.score(matrix if self.picks is None else np.ascontiguousarray(matrix[:, self.picks]))


class Lineup(NamedTuple):
    """Roles with what plays them."""

    roles: Roles
    champion: Version
    challenger: Version | None
    shadows: tuple[Version, ...]

    @property
    def versions(self) -> tuple[Version, ...]:
        """The champion first; one of two roles twice."""
        rivals = () if self.challenger is None else (self.challenger,)
        return (self.champion, *rivals, *self.shadows)

    @property
    def missing(self) -> ConfigError | None:
        """Why the first of those that could not be opened is not there; None: all are."""
        return next((one.model.error for one in self.versions if isinstance(one.model, AbsentModel)), None)


class ServedModel:
    """A model of which several versions may be at work. `lineup`: who plays now."""

    def __init__(
        self, name: str, features: Sequence[str], open_version: Callable[[int], RegisteredModel], roles: Roles
    ) -> None:
        """Open what the pipeline's file names.

        Args:
            name: the model's name in the pipeline.
            features: what the pipeline gives it, in that order.
            open_version: opens one from the registry.
            roles: those of the file, which hold where the topic says nothing.

        Raises:
            ConfigError: a version is missing, damaged, or takes features that the pipeline does not give.
        """
        self.name = name
        self._features = {feature: number for number, feature in enumerate(features)}
        self._open = open_version
        self._start = roles
        self._salt = f"{name}\0"
        self._known: dict[int, Version] = {}
        self._is_warm = False
        self.lineup = self._waiting = self._assembled(roles)

    @property
    def digests(self) -> dict[str, str]:
        """Of the versions at work now: SHA-256 of each one's file, hex."""
        return {str(one.number): one.model.digest for one in self.lineup.versions}

    def prepare(self, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> str | None:
        """Open what the topic's rows name, by model; without one, the file's roles hold again. It blocks.

        Returns why it goes on as before, or None. To be asked again then: what cannot be opened now may be there later.
        """
        row = rows.get(self.name)
        try:
            roles = roles_of_row(row[0]) if row else self._start
            same = roles == self._waiting.roles
            if not same or self._waiting.missing:
                lineup = self._assembled(roles)
                if same or not lineup.missing:
                    self._waiting = lineup
                if lineup.missing:
                    raise lineup.missing
        except ConfigError as error:
            return f"model {self.name}: {error.message}"
        return None

    def apply(self) -> None:
        """From now on, what was prepared is at work."""
        self.lineup = self._waiting

    def warm_up(self) -> None:
        """Make ready the versions that are open, and all that will be, for many batches."""
        self._is_warm = True  # from here on `prepare`, which another thread may be in, does the same for what it opens
        _warm_up_all(self._known)

    def challenged(self, keys: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Which rows the challenger has, by their keys; the same key in every process and release."""
        share = self.lineup.roles.share
        places = stable_hashes64([self._salt + key for key in keys]).view(np.uint64) % np.uint64(_PARTS)
        return places < np.uint64(round(share * _PARTS))

    def _assembled(self, roles: Roles) -> Lineup:
        """Versions that are open already are not opened again; those without a role are let go. One that was absent may
        be there now.
        """
        open_now = {n: one for n, one in self._known.items() if not isinstance(one.model, AbsentModel)}
        known = {number: open_now.get(number) or self._opened(number) for number in roles.versions}
        challenger = None if roles.challenger is None else known[roles.challenger]
        self._known = known
        if self._is_warm:
            _warm_up_all(known)
        return Lineup(roles, known[roles.champion], challenger, tuple(known[number] for number in roles.shadows))

    def _opened(self, number: int) -> Version:
        model = self._open(number)
        names: tuple[str, ...] | None = getattr(model, "names", None)
        if names is None or names == tuple(self._features):
            return Version(number, model, None)
        if missing := [name for name in names if name not in self._features]:
            raise ConfigError(
                f"version {number} of the model {self.name} was trained with {', '.join(missing)}, which the pipeline "
                "does not give it",
                hint=f"add it to the features of {self.name}",
            )
        return Version(number, model, np.array([self._features[name] for name in names], np.intp))


def _warm_up_all(known: Mapping[int, Version]) -> None:
    """Those that are warm do nothing."""
    for one in known.values():
        warm_up(one.model)


def roles_of_row(row: Mapping[str, Any]) -> Roles:
    """The roles that a record of the topic gives.

    >>> roles_of_row({"model": "fraud", "champion": 12, "challenger": 13, "share": 0.1, "shadows": "14,15"})
    Roles(champion=12, challenger=13, share=0.1, shadows=(14, 15))

    Raises:
        ConfigError: no version of it can be meant.
    """
    champion, challenger = row.get("champion"), row.get("challenger")
    share = row.get("share") or 0.0
    told = [part.strip() for part in (row.get("shadows") or "").split(",") if part.strip()]
    numbers = [champion, *([] if challenger is None else [challenger])]
    if champion is None or min(numbers) < 1 or not all(map(_VERSION.fullmatch, told)):
        raise ConfigError("its roles name no versions", hint="use `streamproc models activate`")
    if not 0 <= share <= 1 or (challenger is None) != (share == 0):
        raise ConfigError("its roles have a challenger without a share of 0 to 1, or a share without a challenger")
    return Roles(champion, challenger, share, tuple(dict.fromkeys(map(int, told))))


def row_of_roles(model: str, roles: Roles, replaced: Roles) -> dict[str, Any]:
    """What `roles_of_row` reads; `replaced`: what `before` gives."""
    return {
        "model": model,
        "champion": roles.champion,
        "challenger": roles.challenger,
        "share": roles.share or None,
        "shadows": ",".join(map(str, roles.shadows)) or None,
        "before": msgspec.json.encode(replaced).decode(),
    }


def before(row: Mapping[str, Any]) -> Roles:
    """The roles that a record has replaced.

    Raises:
        ConfigError: it does not say.
    """
    try:
        return msgspec.json.decode(row.get("before") or "", type=Roles)
    except msgspec.DecodeError:
        raise ConfigError("what was at work before is not known", hint="use `streamproc models activate`") from None


def changed(roles: Roles, version: int, role: str, share: float = 0.0) -> Roles:
    """The roles with `version` as `champion`, `challenger`, `shadow`, or out of work (`none`); it has one role.

    >>> changed(Roles(12, 13, 0.1, (14,)), 13, "champion")
    Roles(champion=13, challenger=None, share=0.0, shadows=(14,))

    Raises:
        ConfigError: the champion would be gone.
    """
    if role != "champion" and version == roles.champion:
        raise ConfigError(f"version {version} is the champion", hint="make another one the champion first")
    rival = (roles.challenger, roles.share) if roles.challenger != version else (None, 0.0)
    if role == "challenger":
        rival = (version, share)
    shadows = tuple(number for number in roles.shadows if number != version)
    return Roles(
        version if role == "champion" else roles.champion, *rival, (*shadows, version) if role == "shadow" else shadows
    )
