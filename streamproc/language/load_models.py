"""The `models:` of a pipeline file."""

from __future__ import annotations

__all__ = ["item_places", "read_model"]

from state.errors import Place
from streamproc.language.model import Challenger, Model, Served
from streamproc.language.problems import nearest
from streamproc.language.reader import Section, duration, each, identifier, names, number, text, whole
from streamproc.language.yaml_tree import Items

_NONE: tuple[str, ...] = ()
_VERSIONS = 999_999_999
_SHARE_MIN = 0.0001
_BUDGET_MS = 5
_SHADOWS_MAX = 8
_SERVED = ("challenger", "shadow", "by", "shadow_budget")


def read_model(section: Section) -> Model:
    """A model: an ONNX file, or a version in a registry."""
    file, served = _source(section)
    features = section.need("features", names, _NONE, "the model's inputs, in its order")
    tiers = _tiers(section)
    no_score = section.get("no_score", text, "")
    signs = [_constrained(section, key, features) for key in ("increasing", "decreasing")]
    for feature in sorted(set(signs[0]) & set(signs[1])):
        section.problems.add(f"{feature} is both increasing and decreasing", section.key_place("decreasing"))
    section.close()
    places = item_places(section, "features")
    return Model(file, features, tiers, section.place, places, no_score, signs[0], signs[1], served)


def _source(section: Section) -> tuple[str, Served | None]:
    """The file, or what is served."""
    if "registry" not in section and "version" not in section:
        section.know("registry", "version")  # so that a misspelt one is told what is right
        for key in _SERVED:
            if key in section:
                section.node(key)
                place = section.key_place(key)
                section.problems.add(f"{key} is of registered versions", place, "registry: and version: for the file")
        return section.need("file", text, "", "an ONNX file, relative to the pipeline", ("registry",)), None
    if "file" in section:
        section.get("file", text, "")
        section.problems.add(
            f"{section.what} has a file and a registered version", section.key_place("file"), "remove one of them"
        )
    registry = section.need("registry", text, "", "the --registry of `streamproc train`, relative to the pipeline")
    version = section.need("version", whole(1, _VERSIONS), 1, "see `streamproc models list`")
    challenger = None
    if (node := section.node("challenger")) is not None:
        rival = Section(node, "challenger", section.problems)
        challenger = Challenger(
            rival.need("version", whole(1, _VERSIONS), 1, "see `streamproc models list`"),
            rival.need("share", number(_SHARE_MIN, 1), 0.1, "of the keys: 0.1 is every tenth"),
        )
        rival.close()
    none: tuple[int, ...] = ()
    shadows = section.get("shadow", each(whole(1, _VERSIONS)), none)
    if len(shadows) > _SHADOWS_MAX:
        section.problems.add(f"a model has at most {_SHADOWS_MAX} shadows", section.key_place("shadow"))
    by = section.get("by", identifier, "")
    budget = section.get("shadow_budget", duration, _BUDGET_MS)
    return "", Served(registry, version, challenger, tuple(dict.fromkeys(shadows)), by, budget)


def _tiers(section: Section) -> dict[str, float]:
    node = section.node("tiers")
    if node is None:
        return {}
    tier = Section(node, "tiers", section.problems)
    before = len(section.problems.errors)
    tiers = {key: tier.need(key, number(0, 100), 0.0) for key in tier}
    bounds = list(tiers.values())
    read = len(section.problems.errors) == before
    if read and (bounds != sorted(bounds) or len(set(bounds)) < len(bounds)):
        section.problems.add("tiers must rise: {low: 0, medium: 40, ...}", tier.place)
    elif read and bounds and bounds[0] != 0:
        section.problems.add("the first tier must begin at 0", tier.place)
    return tiers


def _constrained(section: Section, key: str, features: tuple[str, ...]) -> tuple[str, ...]:
    found = section.get(key, names, _NONE)
    for feature, place in zip(found, item_places(section, key), strict=False):
        if features and feature not in features:
            section.problems.add(f"{key}: {feature} is none of the features", place, nearest(feature, features))
    return found


def item_places(section: Section, key: str) -> tuple[Place, ...]:
    """The places of a list's items."""
    node = section.node(key)
    items = node.items if isinstance(node, Items) else [node]
    return tuple(item.place for item in items if item)
