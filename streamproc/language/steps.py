"""Layers of items -> operators, each typed by what the steps before it add."""

from __future__ import annotations

__all__ = ["LoadedModel", "StepBuilder"]

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from models.absent import AbsentModel
from models.registry import Registered
from operators.expressions import Compiled, ExpressionOperator
from operators.operator import Operator, OutputField
from operators.patterns.operator import PatternOperator
from operators.patterns.timeouts import TimedPatternOperator
from operators.schema import Kind
from operators.score import Model, ScoreOperator
from operators.served_score import ServedScoreOperator
from operators.serving import Lineup, ServedModel
from operators.tables import LookupTable
from operators.timed.spec import AlertSpec
from operators.windows import spec as windows
from operators.windows.operator import WindowOperator
from state.errors import ConfigError
from streamproc.language.expression import compile_expression, null_comparisons
from streamproc.language.items import (
    KEY_TEXT,
    ExpressionItem,
    Item,
    PatternItem,
    PreviousItem,
    ScoreItem,
    TimedItem,
    UserItem,
    WindowItem,
    reads,
)
from streamproc.language.model import Served
from streamproc.language.pattern_steps import pattern_groups, stage_pattern
from streamproc.language.problems import Problems
from streamproc.language.timed_steps import timed_step


class LoadedModel(Model, Protocol):
    """What a model's file becomes; `digest`: SHA-256 of the file, hex."""

    digest: str


class StepBuilder:
    """Builds the steps in order. `scope` grows: all columns with their types; errors go to `problems`.

    An item whose inputs could not be built is left out silently: what is wrong has been said.
    """

    def __init__(
        self,
        fields: Mapping[str, OutputField],
        lookups: dict[str, LookupTable],
        open_model: Callable[[Any], LoadedModel],
        *,
        folder: Path,
        ttl: int,
        problems: Problems,
    ) -> None:
        self.scope: dict[str, OutputField] = dict(fields)
        self.steps: list[Operator] = []
        self.alerts: list[AlertSpec] = []
        self.model_digests: dict[str, str] = {}
        self.warnings: list[str] = []
        self.lookups = lookups
        self._open_model = open_model
        self._folder = folder
        self._ttl = ttl
        self._problems = problems
        self._specs: dict[str, int] = {}

    def build(self, layers: Sequence[list[Item]]) -> None:
        """One step a layer."""
        for layer in layers:
            ready = [item for item in layer if all(column in self.scope for column in reads(item))]
            match layer[0]:
                case ExpressionItem():
                    self._expressions([item for item in layer if isinstance(item, ExpressionItem)])
                case WindowItem() | PreviousItem():
                    self._windows([item for item in ready if isinstance(item, WindowItem | PreviousItem)])
                case ScoreItem() as item if ready:
                    self._score(item)
                case TimedItem() as item if ready:
                    with self._problems.caught():
                        step, alert = timed_step(item, self.scope, self.lookups)
                        self._add(step)
                        self.alerts.append(alert)
                case PatternItem():
                    self._patterns([item for item in ready if isinstance(item, PatternItem)])
                case UserItem() as item if ready:
                    self._add(item.operator)
                case _:
                    pass

    def _add(self, step: Operator) -> None:
        self.steps.append(step)
        self.scope.update((field.name, field) for field in step.outputs)

    def _expressions(self, layer: list[ExpressionItem]) -> None:
        schemas = {name: table.schema for name, table in self.lookups.items()}
        done: list[tuple[str, Compiled]] = []
        for item in layer:
            if not all(column in self.scope for column in reads(item)):
                continue
            with self._problems.caught():
                compiled = compile_expression(item.expr, self.scope, schemas)
                if item.name.startswith("rule:") and compiled.type.kind is not Kind.BOOL:
                    raise ConfigError(f"`when` is {compiled.type}, not a condition", item.expr.place, "compare it")
                self.scope[item.name] = OutputField(item.name, compiled.type, compiled.nullable)
                done.append((item.name, compiled))
                places = null_comparisons(item.expr)
                self.warnings += [f"{place}: a comparison with NULL is never true (x IS NULL)" for place in places]
        if done:
            self._add(ExpressionOperator(done, self.lookups))

    def _patterns(self, layer: list[PatternItem]) -> None:
        """One operator for the patterns of one key, as far as one can hold them."""
        found = []
        for item in layer:
            with self._problems.caught():
                found.append(stage_pattern(item, self.scope, self.lookups, self._ttl))
        for group in pattern_groups(found):
            table = self._numbered("pattern", group[0].key)
            if group[0].timeout:
                self._add(TimedPatternOperator(group[0], table, self.lookups))
            else:
                self._add(PatternOperator(group, table, self.lookups))
        for item in layer:
            if item.declared.timeout is not None:
                self.alerts.append(AlertSpec(item.pattern, item.declared.timeout))

    def _numbered(self, kind: str, key: str) -> str:
        """The name of an operator's state: the key's, numbered from the second one on."""
        name = key.removeprefix(KEY_TEXT)
        count = self._specs[f"{kind}.{name}"] = self._specs.get(f"{kind}.{name}", 0) + 1
        return f"{kind}.{name}" + (f"_{count}" if count > 1 else "")

    def _windows(self, layer: list[WindowItem | PreviousItem]) -> None:
        """One operator for the windows of one key; a second one of the same key is numbered."""
        features: list[windows.WindowFeature] = []
        previous: list[windows.PreviousFeature] = []
        if layer and (kind := self.scope[layer[0].key].type).kind is not Kind.STRING:
            hint = f"make a feature of it: CAST({layer[0].key} AS varchar)"
            self._problems.add(f"the key {layer[0].key} is {kind}, not string", layer[0].place, hint)
            return
        for item in layer:
            try:
                if isinstance(item, WindowItem):
                    feature = self._window(item)
                    windows.check(windows.WindowSpec(item.key, item.key, (feature,)))
                    features.append(feature)
                else:
                    earlier = self._previous(item)
                    windows.check(windows.WindowSpec(item.key, item.key, (), (earlier,)))
                    previous.append(earlier)
            except ConfigError as error:
                # Windows of a group differ in their names only: what is wrong with all of them is said once.
                self._problems.add(error.message.removeprefix(f"{item.name}: "), error.place or item.place, error.hint)
        if not features and not previous:
            return
        key = layer[0].key
        count = self._specs[key] = self._specs.get(key, 0) + 1
        name = key.removeprefix(KEY_TEXT)
        spec = windows.WindowSpec(
            name if count == 1 else f"{name}_{count}", key, tuple(features), tuple(previous), self._ttl
        )
        with self._problems.caught():
            self._add(WindowOperator(spec))

    def _window(self, item: WindowItem) -> windows.WindowFeature:
        of = self.scope[item.of] if item.of else None
        self._check_where(item)
        return windows.WindowFeature(
            name=item.name,
            aggregate=windows.Aggregate(item.aggregate),
            over_ms=item.over,
            of=item.of,
            type=of.type if of else None,
            nullable=of.nullable if of else True,
            where=item.where,
            delay_ms=item.delay,
            precision_ms=item.precision,
        )

    def _previous(self, item: PreviousItem) -> windows.PreviousFeature:
        of = self.scope[item.of]
        self._check_where(item)
        return windows.PreviousFeature(item.name, item.of, of.type, item.n, of.nullable, item.where)

    def _check_where(self, item: WindowItem | PreviousItem) -> None:
        if item.where and (kind := self.scope[item.where].type).kind is not Kind.BOOL:
            place = item.places.get(item.where, item.place)
            raise ConfigError(f"`where` is {kind}, not a condition", place, "compare it")

    def _score(self, item: ScoreItem) -> None:
        """Errors of the model's file are given the place where the pipeline names it."""
        for name, place in zip(item.model.features, item.model.places, strict=True):
            if self.scope[name].type.kind is Kind.STRING:
                self._problems.add(f"model {item.name}: the feature {name} is a string", place, "give it numbers")
                return
        try:
            step, digest = self._scorer(item) if item.model.served is None else self._served(item, item.model.served)
        except ConfigError as error:
            self._problems.add(error.message, item.place, error.hint)
            return
        self.model_digests[item.name] = digest
        self._add(step)

    def _scorer(self, item: ScoreItem) -> tuple[ScoreOperator, str]:
        """The step, and its file's digest."""
        model = self._open_model(self._folder / item.model.file)
        self._check_absent(item, model, "every row")
        return ScoreOperator(item.name, model, item.model.features, item.model.tiers), model.digest

    def _served(self, item: ScoreItem, served: Served) -> tuple[ServedScoreOperator, str]:
        """The step, and a digest of the versions it starts with and their roles."""
        registry = served.address(str(self._folder))
        model = ServedModel(
            item.name,
            item.model.features,
            lambda number: self._open_model(Registered(registry, item.name, number)),
            served.roles,
        )
        self._check_lineup(item, model.lineup)
        step = ServedScoreOperator(
            model, item.model.features, item.model.tiers, self.scope[served.by], served.shadow_budget / 1000
        )
        digests = [f"{number}:{digest}" for number, digest in model.digests.items()]
        return step, " ".join([*digests, f"{served.roles.share}", served.by])

    def _check_lineup(self, item: ScoreItem, lineup: Lineup) -> None:
        """As `_check_absent`; without a shadow everything goes its way."""
        self._check_absent(item, lineup.champion.model, "every row")
        if lineup.challenger is not None:
            self._check_absent(item, lineup.challenger.model, "every row of the challenger's")
        for shadow in lineup.shadows:
            if isinstance(shadow.model, AbsentModel):
                self.warnings.append(
                    f"shadow {shadow.number} of the model {item.name} cannot be loaded: {shadow.model.error.message}; "
                    "until it can it has no scores"
                )

    def _check_absent(self, item: ScoreItem, model: object, rows: str) -> None:
        """One that is not there is borne only where the pipeline itself says what is to be done without a score."""
        if not isinstance(model, AbsentModel):
            return
        if not item.model.no_score:
            raise model.error
        when = "" if item.model.served else ", at a restart"
        self.warnings.append(
            f"model {item.name} cannot be loaded: {model.error.message}; until it can{when}, "
            f"{rows} takes its no_score: {item.model.no_score}"
        )
