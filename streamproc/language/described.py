"""A model's features in words: the analyst's, else what the pipeline computes."""

from __future__ import annotations

__all__ = ["described"]

from streamproc.language.model import ExpressionFeature, Pipeline, Stage, WindowGroup, window_names

_LONG = 120


def described(pipeline: Pipeline) -> dict[str, str]:
    """Of each feature of the models that is not a field as it came."""
    made: dict[str, str] = {}
    for stage in pipeline.stages:
        for name, feature in stage.features.items():
            if isinstance(feature, ExpressionFeature):
                if feature.expression.column != name:
                    made[name] = _short(feature.expression.sql)
            else:
                made |= _windows(name, feature, stage)
    found: dict[str, str] = {}
    for model in pipeline.models.values():
        found |= {name: made[name] for name in model.features if name in made} | model.describe
    return found


def _windows(name: str, group: WindowGroup, stage: Stage) -> dict[str, str]:
    of = group.of.sql if group.of is not None else ""
    where = f" where {group.where.sql}" if group.where is not None else ""
    key = group.per or stage.per
    return {
        column: _short(f"{aggregate}{f' of {of}' if of else ''} in {group.over[over]} of {key}{where}")
        for column, aggregate, over in window_names(name, group)
    }


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONG else f"{text[: _LONG - 3]}..."
