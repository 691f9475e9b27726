"""A pipeline file -> the Structs of `model`; everything wrong with it is reported at once, in order of place."""

from __future__ import annotations

__all__ = ["load_pipeline", "read_pipeline", "read_text"]

from pathlib import Path

import msgspec

from state.errors import ConfigError, Place
from streamproc.language.expression import Expr, parse
from streamproc.language.load_models import item_places, read_model
from streamproc.language.load_stages import read_stages
from streamproc.language.load_statements import check_statements, has_statements_alone
from streamproc.language.load_streams import read_streams, read_tables
from streamproc.language.load_timed import check_alerts
from streamproc.language.model import (
    Call,
    Decision,
    Model,
    Pipeline,
    Rule,
    Stage,
    Stream,
    Topics,
    UserOperator,
)
from streamproc.language.problems import Problems, nearest
from streamproc.language.reader import (
    Section,
    choice,
    duration,
    flag,
    formula,
    names,
    text,
    topic_name,
    whole,
)
from streamproc.language.yaml_tree import SIZE_MAX, Items, Mapping, Node, Scalar, parse_yaml, word

PARTITIONS_MAX = 10_000
NO_SCORE = "no_score"
"""The id of the rule that a model brings along."""
_NONE: tuple[str, ...] = ()
_NOTHING = word("", Place(""))


def load_pipeline(path: str | Path) -> Pipeline:
    """Read and check the pipeline file at `path`; expressions are parsed, not yet typed (see `compile_pipeline`).

    Raises:
        ConfigError: the file cannot be read, or is wrong; a PipelineError lists everything that is.
    """
    return read_pipeline(read_text(path), str(path))


def read_text(path: str | Path) -> str:
    """What a file of the analyst's says; a little more than its parser takes, at most.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        with open(path, encoding="utf-8-sig") as opened:
            return opened.read(SIZE_MAX + 1)
    except UnicodeDecodeError:
        raise ConfigError("not UTF-8 text", Place(str(path))) from None
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", Place(str(path))) from None


def read_pipeline(content: str, file: str) -> Pipeline:
    """The same for text at hand; `file` names it in messages, and files it names are relative to its folder.

    Raises:
        ConfigError: as `load_pipeline`.
    """
    problems = Problems()
    top = Section(parse_yaml(content, file), "the pipeline", problems)
    name = top.need("pipeline", topic_name, "pipeline", "a name for it, e.g. pipeline: card-fraud")
    streams = read_streams(top, name)
    tables = read_tables(top)
    operators = {key: _operator(section) for key, section in top.subsections("operators", "operator")}
    stages = read_stages(top, streams)
    models = {key: read_model(section) for key, section in top.subsections("models", "model")}
    decision = _decision(top)
    rules = _rules(top, decision) + _without_score(models, decision, top.problems)
    asked = bool(rules or operators) or "decision" in top or "deadline" in top
    decides, timed = asked or not has_statements_alone(stages), any(stage.told for stage in stages)
    topics, places = _topics(top, name, timed=timed, decides=decides)
    _check_topics(name, streams, stages, topics, rules, places=places, problems=problems)
    check_alerts(stages, problems)
    check_statements(stages, problems)
    partitions = top.get("partitions", whole(1, PARTITIONS_MAX), 4)
    retention = top.get("retention", duration, 0) or None
    deadline = top.get("deadline", duration, 0)
    tests = dict(zip(top.get("tests", names, _NONE), item_places(top, "tests"), strict=False))
    if len(models) > 1:
        problems.add("more than one model is not supported yet", top.key_place("models"))
    top.close()
    problems.check()
    return Pipeline(
        name,
        streams,
        stages,
        tables,
        operators,
        models,
        rules,
        decision,
        topics,
        partitions,
        retention,
        deadline,
        top.place,
        tests,
    )


def _operator(section: Section) -> UserOperator:
    like = next((key for key in section if nearest(key, ("operator",)) == "did you mean operator?"), None)
    if "operator" not in section and like:
        section.problems.add(
            f"unknown key {like!r} in {section.what}", section.key_place(like), "did you mean operator?"
        )
        return UserOperator("", {}, section.place)
    reference = section.need("operator", text, "", "./ops.py:MyOperator or package.module:MyOperator")
    options = {key: _plain(section.node(key) or _NOTHING) for key in section if key != "operator"}
    section.close()
    return UserOperator(reference, options, section.place)


def _plain(node: Node) -> object:
    """YAML as Python values, for the arguments of a user's operator."""
    if isinstance(node, Items):
        return [_plain(item) for item in node.items]
    if isinstance(node, Mapping):
        return {key: _plain(value) for key, value in node.entries.items()}
    if node.empty:
        return None
    if node.plain and node.text in ("true", "false"):
        return node.text == "true"
    for kind in (int, float) if node.plain else ():
        try:
            return kind(node.text)
        except ValueError:
            continue
    return node.text


def _decision(top: Section) -> Decision:
    usual = Decision()
    node = top.node("decision")
    if node is None:
        return usual
    section = Section(node, "decision", top.problems)
    severity = section.get("severity", names, usual.severity)
    otherwise = section.get("otherwise", text, usual.otherwise if "severity" not in section else severity[-1])
    if otherwise not in severity:
        place = getattr(section.node("otherwise"), "place", section.place)
        top.problems.add(f"action {otherwise!r} is not in severity", place, nearest(otherwise, severity))
    include = section.get("include", names, _NONE)
    section.close()
    return Decision(severity, otherwise, include, section.place, item_places(section, "include"))


def _rules(top: Section, decision: Decision) -> tuple[Rule, ...]:
    node = top.node("rules")
    if node is None or (isinstance(node, Scalar) and node.empty):
        return ()
    if not isinstance(node, Items):
        top.problems.add("rules must be a list", node.place, "- {id: ..., when: ..., then: ...}")
        return ()
    rules: dict[str, Rule] = {}
    for item in node.items:
        rule = _rule(Section(item, "rule", top.problems), decision)
        if rule.id == NO_SCORE:
            hint = "models: {name: {no_score: review}}"
            top.problems.add(f"a rule {NO_SCORE!r} comes with each model", rule.place, hint)
        if rule.id in rules:
            first = rules[rule.id].place.line
            top.problems.add(f"a rule {rule.id!r} exists already", rule.place, f"in line {first}")
        rules[rule.id] = rule
    return tuple(rules.values())


def _without_score(models: dict[str, Model], decision: Decision, problems: Problems) -> tuple[Rule, ...]:
    """The last rule of a pipeline with a model: a row that it fails on is never approved as if it had a low score.

    A late row is none: it was not scored on purpose, for others have answered it.
    """
    rules = []
    for name, model in models.items():
        action = model.no_score
        if action and action not in decision.severity:
            problems.add(
                f"no_score: action {action!r} is not in severity", model.place, nearest(action, decision.severity)
            )
        elif not action and decision.otherwise in decision.severity:
            action = decision.severity[max(decision.severity.index(decision.otherwise) - 1, 0)]
        when = parse(f"{name}.failed", model.place)
        rules.append(Rule(id=NO_SCORE, when=when, then=action, reason="the model gives no score", place=model.place))
    return tuple(rules)


def _rule(section: Section, decision: Decision) -> Rule:
    name = section.need("id", text, "")
    section.what = f"rule {name}" if name else "rule"
    rule = Rule(
        id=name,
        when=section.need("when", formula, _no_expression(section.place)),
        then=section.need("then", choice("action", *decision.severity), ""),
        reason=section.get("reason", text, name),
        final=section.get("final", flag, False),
        mode=section.get("mode", choice("mode", "live", "shadow"), "live"),
        to=section.get("to", topic_name, None),
        place=section.place,
    )
    if rule.final and rule.mode == "shadow":
        section.problems.add("a shadow rule cannot be final: it changes nothing", section.key_place("final"))
    section.close()
    return rule


def _no_expression(place: Place) -> Expr:
    """Stands for an expression that was refused; problems.check() comes before anyone looks at it."""
    return Expr(None, "", place)  # type: ignore[arg-type]


def _check_topics(
    pipeline: str, streams: dict[str, Stream], stages: tuple[Stage, ...], topics: Topics, rules: tuple[Rule, ...],
    *, places: dict[str, Place], problems: Problems,
) -> None:  # fmt: skip
    """No topic has two uses: what is written must not be read as input, nor mixed."""
    uses: dict[str, str] = {}
    for name, stream in streams.items():
        if stream.topic in uses:
            problems.add(
                f"topic {stream.topic} is {uses[stream.topic]} topic too", stream.topic_place, "give each its own"
            )
        uses.setdefault(stream.topic, "the stream's" if len(streams) == 1 else f"the stream {name}'s")
    for kind, topic in msgspec.structs.asdict(topics).items():
        if not topic:
            continue
        if topic in uses:
            problems.add(f"topics: {kind} is {uses[topic]} topic too", places.get(kind), topic)
        uses.setdefault(topic, f"the {kind}")
    steps: list[tuple[str, Stage | Call]] = []
    for stage in stages[1:]:
        steps += [*(("call", call) for call in stage.asked), ("stage", stage)]
    for what, step in {step.name: (what, step) for what, step in reversed(steps)}.values():
        if (topic := f"{pipeline}.{step.name}") in uses:
            problems.add(f"{what} {step.name}: {topic} is {uses[topic]} topic too", step.place, "choose another name")
        uses.setdefault(topic, f"the {what} {step.name}'s")
    for rule in rules:
        if rule.to and (topic := f"{pipeline}.{rule.to}") in uses:
            problems.add(f"rule {rule.id}: to: {topic} is {uses[topic]} topic", rule.place, "choose another name")
    uses |= {f"{pipeline}.{rule.to}": f"the side output {rule.to}'s" for rule in rules if rule.to}
    for entry in (one for stage in stages for one in stage.statements.values()):
        if (topic := entry.topic or f"{pipeline}.{entry.name}") in uses:
            problems.add(f"sql {entry.name}: {topic} is {uses[topic]} topic", entry.place, "choose another name")
        uses.setdefault(topic, f"the statement {entry.name}'s")


def _topics(top: Section, pipeline: str, *, timed: bool, decides: bool) -> tuple[Topics, dict[str, Place]]:
    """The topics and their places. Those of alerts and late rows are there where something is `timed`; that of
    decisions where some are made, or it is named.
    """
    section = Section(top.node("topics") or _NOTHING, "topics", top.problems)
    kinds = ("decisions", "dead_letters", "journal", *(("alerts", "late") if timed else ()))
    usual = {kind: f"{pipeline}.{kind}" for kind in kinds} | ({} if decides else {"decisions": ""})
    found = Topics(**{kind: section.get(kind, topic_name, usual[kind]) for kind in kinds})
    section.close()
    return found, {kind: getattr(section.node(kind), "place", top.key_place("streams")) for kind in kinds}
