"""Every wrong input is refused with its place, what is wrong, and what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from state.errors import ConfigError
from streamproc.language import PipelineError, load_pipeline
from tests.language.helpers import BASE, changed, compiled

MODEL = "models:\n  fraud: {file: f.onnx, features: [amount]}\nrules:\n"


def refused(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        compiled(text)
    return str(caught.value).splitlines()


CASES = [
    # the top
    ("partition_by:", "partion_by:", "p.yaml:13:1: unknown key 'partion_by' in the pipeline (did you mean"),
    ("pipeline: cards", "pipeline: my cards", "p.yaml:1:11: 'my cards' cannot name a topic"),
    ("pipeline: cards", "pipeline: cards\npatterns: [a]", "p.yaml:2:11: patterns must be a mapping of names"),
    ("pipeline: cards", "pipeline: cards\nsql: SELECT 1", "p.yaml:2:6: sql must be a mapping of names"),
    ("pipeline: cards", "pipeline: cards\npartitions: many", "p.yaml:2:13: 'many' is not a whole number from 1 to"),
    ("pipeline: cards", "pipeline: cards\nretention: 7 days", "p.yaml:2:12: '7 days' is not a duration"),
    ("pipeline: cards", "pipeline: cards\ntopics: {outputs: x}", "p.yaml:2:10: unknown key 'outputs' in topics"),
    ("pipeline: cards", "pipeline: cards\npipeline: b", "p.yaml:2:1: 'pipeline' is given twice (first in line 1)"),
    ("partition_by: card_id\n", "", "p.yaml:1:1: the pipeline lacks 'partition_by' (the field of transactions that"),
    (
        "pipeline: cards",
        "pipeline\uff1acards",
        "mapping values are not allowed here ('\uff1a' is a full-width sign: write ':')",
    ),
    (
        "then: decline",
        "then\uff1adecline",
        "'then\uff1adecline' in rule burst ('\uff1a' is a full-width sign: write ':')",
    ),
    ("spend_count_1m >= 5", 'card_id = "x"', "unknown column 'x' (text stands in single quotes: 'x')"),
    (
        "spend_count_1m >= 5",
        'amount > "amonut"',
        "unknown column 'amonut' (text stands in single quotes: 'amonut'; did you mean amount?)",
    ),
    # streams
    ("amount: decimal(2)", "amount: decimal", "unknown type 'decimal'; did you mean decimal(2)?"),
    ("amount: decimal(2)", "amount: flaot64", "p.yaml:9:15: unknown type 'flaot64'; did you mean float64?"),
    ("amount: decimal(2)", "amount: decimal(20)", "decimal(20) has too many decimals"),
    (
        "amount: decimal(2)",
        "amount: {type: string, form: a}",
        "unknown key 'form' in field amount (did you mean from?)",
    ),
    ("amount: decimal(2)", "amount: {type: int64, pan: true}", "a card number (pan) must be a string"),
    ("amount: decimal(2)", "amount: {type: int64, required: yes}", "'yes' is neither true nor false"),
    ("amount: decimal(2)", "amount: {type: int64, from: card_id}", "amount and card_id both come from 'card_id'"),
    ("amount: decimal(2)", "a-mount: int64", "'a-mount' is not a name"),
    ("id: transaction_id\n", "id: transction_id\n", "p.yaml:4:9: id: there is no field 'transction_id' (did you mean"),
    ("event_time: event_time\n", "event_time: amount\n", "event_time: the field amount is decimal(2), not timestamp"),
    (
        "    id: transaction_id\n",
        "    id: transaction_id\n    format: protobuf\n",
        "format 'protobuf' is not supported yet",
    ),
    (
        "    id: transaction_id\n",
        "    id: transaction_id\n    extra: drop\n",
        "unknown value 'drop' (one of ignore, refuse)",
    ),
    ("    id: transaction_id\n", "    id: transaction_id\n    deduplicate: 24 h\n", "'24 h' is not a duration"),
    ("partition_by: card_id", "partition_by: cardid", "there is no field 'cardid' (did you mean card_id?)"),
    ("partition_by: card_id", "partition_by: amount", "partition_by: amount is decimal(2), not string or int64"),
    ("partition_by: card_id", "partition_by: card_id\nper: price", "the key price is float64, not string"),
    ("partition_by: card_id", "partition_by: card_id\nper: crad_id", "p.yaml:14:6: per: there is no field or feature"),
    # features
    (
        "aggregates: [count, sum]",
        "aggregates: [count, avg]",
        "p.yaml:15:43: unknown aggregate 'avg' (did you mean mean?)",
    ),
    ("aggregates: [count, sum]", "aggregates: [count, summ]", "unknown aggregate 'summ' (did you mean sum?)"),
    ("aggregates: [count, sum]", "aggregate: [count]", "'aggregate' in feature spend (did you mean aggregates?)"),
    ("aggregates: [count, sum], ", "", "feature spend lacks 'aggregates' (aggregates: [count, sum])"),
    ("over: [1m, 5m]", "over: [1m, 5min]", "p.yaml:15:60: '5min' is not a duration; write a number and a unit"),
    ("over: [1m, 5m]", "over: [1m, 60s]", "the window 60s is listed twice"),
    ("over: [1m, 5m]", "within: 5m", "unknown key 'within' in feature spend"),
    (", over: [1m, 5m]", "", "feature spend lacks 'over'"),
    ("over: [1m, 5m]", "over: 5m, precision: 7s", "a window must be a multiple of its precision"),
    ("over: [1m, 5m]", "over: 5m, name: '{agregate}_{over}'", "{agregate} is not known"),
    ("over: [1m, 5m]", "over: 5m, name: '{over}'", "is not a name (letters, digits and _"),
    ("over: [1m, 5m]", "over: [1m, 5m], name: '{aggregate}'", "two features are called count"),
    ("over: [1m, 5m]", "over: 5m, where: amount + 1", "`where` is decimal(2), not a condition"),
    ("over: [1m, 5m]", "over: 5m, per: crad_id", "unknown column 'crad_id' (did you mean card_id?)"),
    (
        "{of: amount,",
        "{of: price,",
        "p.yaml:15:3: sum of float64 would not be exact (declare the field as decimal(n))",
    ),
    ("{of: amount,", "{of: '*',", "sum needs a column, not *"),
    ("{of: amount,", "{of: amonut,", "unknown column 'amonut' (did you mean amount?)"),
    ("  jump: amount", "  spend_sum_5m: amount", "two features are called spend_sum_5m (first in line 15)"),
    ("  jump: amount", "  price: amount", "'price' exists already (it is a field of the stream)"),
    (
        "jump: amount / previous(amount)",
        "jump: {count: '*', over: [1d, 7d]}",
        "p.yaml:16:22: feature jump: count: takes one window only; for several use of:/aggregates: "
        "(several: {of: '*', aggregates: [count], over: [1d, 7d]})",
    ),
    ("jump: amount / previous(amount)", "jump: {count: '*', sum: amount, over: 1m}", "feature jump has two aggregates"),
    ("jump: amount / previous(amount)", "jump: {avg: amount, over: 1m}", "did you mean mean?"),
    ("jump: amount / previous(amount)", "jump: [amount]", "feature jump must be an expression or a mapping"),
    ("jump: amount / previous(amount)", "jump: amount / previous(country)", "previous() of a string is not kept"),
    (
        "jump: amount / previous(amount)",
        "jump: amount / previous(amount, 17)",
        "previous(x, n) takes a number n from 1 to 16",
    ),
    ("jump: amount / previous(amount)", "jump: amount / previous()", "previous() takes one or two arguments"),
    (
        "jump: amount / previous(amount)",
        "jump: first_seen(country, 30)",
        "first_seen(x, over) takes a duration as text",
    ),
    ("jump: amount / previous(amount)", "jump: amount / previous(amuont)", "p.yaml:16:27: unknown column 'amuont'"),
    (
        "jump: amount / previous(amount)",
        "jump: amount / spend_sum_2m",
        "p.yaml:16:18: unknown column 'spend_sum_2m' (did",
    ),
    ("jump: amount / previous(amount)", "jump: amount +* 2", "p.yaml:16:"),
    ("jump: amount / previous(amount)", "jump: amount || 2 > country", "p.yaml:16:"),
    (
        "jump: amount / previous(amount)",
        "jump: b + 1\n  b: c + 1\n  c: jump + 1",
        "in a circle: jump -> b -> c -> jump",
    ),
    # rules and the decision
    ("then: decline", "then: decilne", "p.yaml:18:50: unknown action 'decilne' (did you mean decline?)"),
    ("then: decline", "then: decline, mode: shadow, final: true", "a shadow rule cannot be final"),
    ("then: decline", "then: decline, mode: test", "unknown mode 'test' (one of live, shadow)"),
    ("then: decline", "them: decline", "unknown key 'them' in rule burst (did you mean then?)"),
    (
        "then: decline}",
        "then: decline}\n  - {id: burst, when: amount > 1, then: review}",
        "a rule 'burst' exists already (in line 18)",
    ),
    ("when: spend_count_1m >= 5", "when: spend_count_1m", "p.yaml:18:23: `when` is int64, not a condition"),
    ("when: spend_count_1m >= 5", "when: country in (FR, DE)", "a comma ends a value inside { }: quote it"),
    ("when: spend_count_1m >= 5", "when: country in table(blocked)", "table blocked"),
    ("when: spend_count_1m >= 5", "when: score > 90", "unknown column 'score'"),
    ("otherwise: approve", "otherwise: accept", "action 'accept' is not in severity"),
    (
        "include: [amount, jump]",
        "include: [amount, jmup]",
        "p.yaml:19:88: include: unknown column 'jmup' (did you mean",
    ),
    ("include: [amount, jump]", "include: [amount, score]", "include: score is always there (leave it out)"),
    ("include: [amount, jump]", "include: [amount, amount]", "amount is listed twice"),
    ("then: decline", "then: decline, to: journal", "rule burst: to: cards.journal is the journal topic"),
    ("pipeline: cards", "pipeline: cards\ntopics: {journal: cards.transactions}", "journal is the stream's topic too"),
    # tables, models, operators
    ("rules:\n", "tables: {t: {key: k, file: no.csv}}\nrules:\n", "p.yaml:17:13: table t: there is no file no.csv"),
    ("rules:\n", MODEL.replace("[amount]", "[amount, x]"), "p.yaml:18:44: unknown column 'x'"),
    ("rules:\n", "  late: previous(score)\n" + MODEL, "p.yaml:17:9: state cannot depend on a model's score"),
    ("rules:\n", MODEL.replace("[amount]", "[country]"), "model fraud: the feature country is a string"),
    ("rules:\n", MODEL.replace("[amount]", "[amount], tiers: {a: 0, b: 90, c: 50}"), "tiers must rise"),
    ("rules:\n", MODEL.replace("[amount]", "[amount], tiers: {a: 10}"), "the first tier must begin at 0"),
    ("rules:\n", MODEL.replace("file: f.onnx", "champion: fraud@12"), "unknown key 'champion' in model fraud"),
    ("rules:\n", "operators: {o: {operator: ops.py}}\nrules:\n", "'ops.py' does not name an operator (./ops.py:MyOp"),
    ("rules:\n", "operators: {o: {operator: './ops.py:Op'}}\nrules:\n", "there is no file ops.py"),
    ("rules:\n", "operators: {o: {operator: './../x.py:Op'}}\nrules:\n", "lies outside the pipeline's folder"),
    ("rules:\n", "operators: {o: {operator: 'os.path:join'}}\nrules:\n", "join is not an Operator"),
    ("rules:\n", "operators: {o: {operator: 'no_such.thing:Op'}}\nrules:\n", "no_such.thing cannot be imported"),
]


@pytest.mark.parametrize(("old", "new", "message"), CASES, ids=[f"{i}-{c[2][:40]}" for i, c in enumerate(CASES)])
def test_a_wrong_input_is_named(old: str, new: str, message: str) -> None:
    found = refused(changed((old, new)))
    assert any(message in line for line in found), found
    assert all(line.startswith("p.yaml:") for line in found), found


def test_the_right_pipeline_is_right() -> None:
    assert compiled(BASE).pipeline == "cards"


def test_errors_come_together_and_in_order() -> None:
    text = changed(
        ("amount: decimal(2)", "amount: decimals"), ("[count, sum]", "[count, avg]"), ("otherwise", "otherwize")
    )
    found = refused(text)
    assert [line.split(": ")[0] for line in found] == ["p.yaml:9:15", "p.yaml:15:43", "p.yaml:19:50"]


def test_columns_and_types_come_together_and_only_once() -> None:
    """What follows from an error is not an error of its own."""
    text = changed(
        (
            "  jump: amount / previous(amount)",
            "  jump: amuont + 1\n  twice: jump * 2\n  bad: country + 1\n  worse: bad + 1",
        ),
        ("spend_count_1m >= 5", "twice > 5"),
        ("jump]", "twice, worse]"),
    )
    found = refused(text)
    assert len(found) == 2, found
    assert "p.yaml:16:9: unknown column 'amuont'" in found[0]
    assert found[1].startswith("p.yaml:18:")


@pytest.mark.parametrize(
    "change",
    [
        ("partition_by: card_id", "partition_by: crad_id"),
        ("partition_by: card_id", "partition_by: card_id\nper: price"),
        ("{of: amount,", "{of: price,"),
        ("rules:\n", "  x: country in table(t)\ntables: {t: {key: k, file: no.csv}}\nrules:\n"),
    ],
)
def test_what_concerns_many_features_is_said_once(change: tuple[str, str]) -> None:
    assert len(refused(changed(change))) == 1


def test_one_error_is_also_the_first() -> None:
    with pytest.raises(PipelineError) as caught:
        compiled(changed(("then: decline", "then: stop")))
    assert caught.value.place == ("p.yaml", 18, 50)
    assert caught.value.hint == "one of decline, review, approve"
    assert len(caught.value.errors) == 1


def test_what_belongs_into_a_stage_stands_beside_stages() -> None:
    stage = "  - {name: %s, partition_by: card_id}\n"
    found = refused(changed(("partition_by: card_id\n", "stages:\n" + stage % "a" + stage % "b")))
    assert any("'features' stands beside 'stages'" in line for line in found)


def test_a_place_inside_a_block_of_text() -> None:
    text = changed(
        (
            "  - {id: burst, when: spend_count_1m >= 5, then: decline}",
            "  - id: burst\n    when: >\n      amount > 1\n      and amuont > 2\n    then: decline",
        )
    )
    assert refused(text) == ["p.yaml:21:11: unknown column 'amuont' (did you mean amount?)"]


@pytest.mark.parametrize(
    ("csv", "message"),
    [
        ("kk,v\n1,2\n", "t.csv:1:1: there is no column 'k' (did you mean kk?)"),
        ("k,v\na,1\nb,x\n", "t.csv:3:1: a value of v is not decimal(2)"),
        ("k,v\na,1.005\n", "t.csv:2:1: a value of v is not decimal(2)"),
        ("k,v\na,1\na,2\n", "t.csv:3:1: the key stands there twice (first in line 2)"),
        ("k,v\n,1\n", "t.csv:2:1: the key k is empty"),
        ("", "t.csv:1:1: there is no column 'k'"),
    ],
)
def test_a_wrong_table(tmp_path: Path, csv: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(csv)
    text = changed(("rules:\n", "tables: {t: {key: k, file: t.csv, columns: {v: decimal(2)}}}\nrules:\n"))
    with pytest.raises(ConfigError) as caught:
        compiled(text, str(tmp_path / "p.yaml"))
    assert message in str(caught.value)


def test_no_value_of_a_table_is_shown(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("k,v\n4111111111111111,secret\n4111111111111111,1\n")
    text = changed(("rules:\n", "tables: {t: {key: k, file: t.csv, columns: {v: int64}}}\nrules:\n"))
    with pytest.raises(ConfigError) as caught:
        compiled(text, str(tmp_path / "p.yaml"))
    assert "secret" not in str(caught.value)
    assert "4111" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_pipeline(tmp_path / "none.yaml")


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        load_pipeline(tmp_path / "p.yaml")
