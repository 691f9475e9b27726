"""The service within its bounds, on virtual time: who is asked, how often, and what a row gets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from operators.call import Breaking
from streamproc.calls.metrics import CallRegistry
from streamproc.calls.request import Request
from streamproc.calls.service import CallError, Service
from streamproc.eventlog.simulated import VirtualClock, VirtualTimeLoop
from tests.calls.specs import record, spec

GOOD = b'{"reputation":0.25,"known_bad":true}'
WELL = {"reputation": 0.25, "known_bad": True, "device_failed": False}
FAILED = {"reputation": 0.5, "known_bad": None, "device_failed": True}


class Scripted:
    """Answers after `seconds` as `script` says, attempt by attempt; the last one goes on for ever."""

    def __init__(self, *script: bytes | Exception, seconds: float = 0.01) -> None:
        self.script, self.seconds = list(script) or [GOOD], seconds
        self.asked: list[str] = []
        self.open = self.at_once = 0
        self.closed = False

    async def send(self, request: Request) -> bytes:
        self.asked.append(request.url.rpartition("=")[2])
        said = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        self.open += 1
        self.at_once = max(self.at_once, self.open)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.open -= 1
        if isinstance(said, Exception):
            raise said
        return said

    async def close(self) -> None:
        self.closed = True


class Bench:
    def __init__(self, scripted: Scripted, **changes: Any) -> None:
        self.scripted, self.registry = scripted, CollectorRegistry()
        metrics = CallRegistry(self.registry).of("device")
        self.service = Service(spec(**changes), scripted, VirtualClock(), metrics)

    async def told(self, *devices: Any) -> list[dict[str, Any]]:
        """All at once; what is added to each row."""
        answers = [self.service.answer(record(device)) for device in devices]
        found = [answer if isinstance(answer, bytes) else await answer for answer in answers]
        return [json.loads(b"{%b}" % members) for members in found]

    def count(self, result: str) -> float:
        return self.registry.get_sample_value("streamproc_calls_total", {"call": "device", "result": result}) or 0.0

    def value(self, name: str) -> float:
        return self.registry.get_sample_value(f"streamproc_call{name}", {"call": "device"}) or 0.0


def run(scenario: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(scenario)


def now() -> float:
    return asyncio.get_running_loop().time()


def test_a_row_gets_the_answer() -> None:
    async def scenario() -> None:
        bench = Bench(Scripted())
        assert await bench.told("d1", None, "d 2") == [WELL, dict.fromkeys(WELL) | {"device_failed": False}, WELL]
        assert bench.scripted.asked == ["d1", "d%202"]
        assert (bench.count("answered"), bench.count("nothing_to_ask"), bench.value("_seconds_count")) == (2, 1, 2)
        assert bench.service.answer(b"no JSON") == b""

    run(scenario())


def test_a_mistake_of_the_client_is_a_call_that_failed() -> None:
    """It must not end the worker: the same row would end the next one."""

    async def scenario() -> None:
        bench = Bench(Scripted(RuntimeError("d1 is secret"), GOOD))
        with capture_logs() as logs:
            assert await bench.told("d1") == [FAILED]
        assert [(line["event"], line["error"]) for line in logs] == [
            ("a call failed in an unknown way", "RuntimeError")
        ]
        assert "secret" not in str(logs)
        assert await bench.told("d2") == [WELL]
        assert (bench.count("failed"), bench.count("answered"), bench.value("s_in_flight")) == (1, 1, 0)

    run(scenario())


@pytest.mark.parametrize(
    ("said", "result"),
    [
        (CallError("server_error"), "server_error"),
        (CallError("refused", well=True), "refused"),
        (CallError("too_large"), "too_large"),
        (b"no JSON", "bad_answer"),
        (b'{"reputation": "0.5", "known_bad": false}', "bad_answer"),
        (b'{"reputation": 0.5}', "bad_answer"),
    ],
)
def test_what_fails_gives_the_defaults(said: Any, result: str) -> None:
    async def scenario() -> None:
        bench = Bench(Scripted(said))
        assert await bench.told("d1") == [FAILED]
        assert (bench.count(result), bench.scripted.asked) == (1, ["d1"])

    run(scenario())


@pytest.mark.parametrize("retries", [0, 1, 5])
def test_no_row_waits_longer_than_the_time_out(retries: int) -> None:
    """However its attempts end, and whether the service answers at all."""

    async def scenario() -> None:
        for scripted in (Scripted(seconds=3600), Scripted(CallError("no_connection", retriable=True), seconds=0.04)):
            bench = Bench(scripted, retries=retries, timeout_ms=100)
            began = now()
            assert await bench.told("d1") == [FAILED]
            assert now() - began <= 0.1 + 1e-9
            assert scripted.open == 0

    run(scenario())


def test_no_more_calls_at_a_time_than_are_allowed() -> None:
    async def scenario() -> None:
        bench = Bench(Scripted(seconds=0.05), in_flight=20, timeout_ms=300)
        began = now()
        assert await bench.told(*range(100)) == [WELL] * 100
        assert bench.scripted.at_once == 20
        assert now() - began == pytest.approx(0.25)  # five rounds: all of them are used
        assert bench.value("s_in_flight") == 0

    run(scenario())


def test_waiting_for_a_slot_is_part_of_the_time_out() -> None:
    """The service works, but is slow: who does not get to it in time has the defaults."""

    async def scenario() -> None:
        bench = Bench(Scripted(seconds=0.09), in_flight=10, timeout_ms=100)
        began = now()
        assert await bench.told(*range(500)) == [WELL] * 10 + [FAILED] * 490
        assert now() - began <= 0.1 + 1e-9
        assert (bench.count("answered"), bench.count("busy"), len(bench.scripted.asked)) == (10, 490, 10)
        assert bench.value("_seconds_count") == 10

    run(scenario())


async def arriving(bench: Bench, rows: int) -> list[float]:
    """One row a millisecond; how long each waited."""
    waited: list[float] = []

    async def one(number: int) -> None:
        began = now()
        await answered(bench.service.answer(record(number)))
        waited.append(now() - began)

    async with asyncio.TaskGroup() as group:
        for number in range(rows):
            group.create_task(one(number))
            await asyncio.sleep(0.001)
    return waited


@pytest.mark.parametrize("seconds", [0.01, 0.04, 0.06, 0.09])
def test_too_much_for_a_service_costs_it_no_answers(seconds: float) -> None:
    """Who would not get the answer in time is not asked about: what is asked is answered, and the breaker is still."""

    async def scenario() -> None:
        bench = Bench(Scripted(seconds=seconds), in_flight=5, timeout_ms=100)
        assert max(await arriving(bench, 5_000)) <= 0.1 + 1e-9
        assert bench.count("answered") + bench.count("busy") + bench.count("timeout") == 5_000
        assert bench.count("answered") >= 0.9 * min(5_000, 5 * 5 / seconds)
        assert bench.count("timeout") <= 10  # before it is known how long a call takes
        assert bench.service._breaker.is_closed

    run(scenario())


def test_a_hanging_service_is_left_alone_and_asked_again_with_few_slots() -> None:
    async def scenario() -> None:
        scripted = Scripted(seconds=3600)
        bench = Bench(scripted, in_flight=5, timeout_ms=100, breaking=Breaking(0.5, 20, 1_000))
        assert max(await arriving(bench, 1_000)) <= 0.1 + 1e-9
        assert (bench.count("timeout"), len(scripted.asked)) == (20 + 4, 20 + 4)  # four were on their way
        scripted.seconds = 0.001
        await asyncio.sleep(1)
        before = bench.count("answered")
        await arriving(bench, 1_000)
        assert bench.count("answered") - before >= 950

    run(scenario())


def test_what_was_cut_off_because_it_had_waited_is_no_failure_of_the_service() -> None:
    async def scenario() -> None:
        scripted = Scripted(seconds=0.03)
        bench = Bench(scripted, in_flight=1, timeout_ms=100, breaking=Breaking(0.5, 2))
        answers = [bench.service.answer(record(device)) for device in "ab"]
        await asyncio.sleep(0.01)
        scripted.seconds = 0.09  # b has 0.07 left
        assert [json.loads(b"{%b}" % await answered(answer)) for answer in answers] == [WELL, FAILED]
        assert (bench.count("timeout"), bench.value("_breaker_open")) == (1, 0)

    run(scenario())


def test_a_retry_helps_where_it_can() -> None:
    async def scenario() -> None:
        down = CallError("no_connection", retriable=True)
        bench = Bench(Scripted(down, GOOD), retries=1)
        assert await bench.told("d1") == [WELL]
        assert bench.scripted.asked == ["d1", "d1"]
        assert bench.value("_retries_total") == 1
        for script in ((down, down, GOOD), (CallError("refused", well=True), GOOD)):
            assert await Bench(Scripted(*script), retries=1).told("d1") == [FAILED]

    run(scenario())


def test_a_failing_service_does_not_get_twice_the_load() -> None:
    async def scenario() -> None:
        down = CallError("server_error", retriable=True)
        bench = Bench(Scripted(down, seconds=0), retries=5, retry_budget=0.1, breaking=Breaking(1.0, 10_000))
        for number in range(300):
            await bench.told(number)
        assert len(bench.scripted.asked) <= 300 * 1.1 + 10
        assert len(bench.scripted.asked) > 300

    run(scenario())


def test_an_answer_is_kept_for_its_time() -> None:
    async def scenario() -> None:
        bench = Bench(Scripted(), cache_ms=60_000)
        assert await bench.told("d1", "d2", "d1") == [WELL] * 3
        assert bench.scripted.asked == ["d1", "d2"]  # equal requests at a time share one
        assert bench.count("shared") == 1
        await asyncio.sleep(59.9)
        assert isinstance(bench.service.answer(record("d1", amount=5)), bytes)
        await asyncio.sleep(0.2)
        assert await bench.told("d1") == [WELL]
        assert bench.scripted.asked == ["d1", "d2", "d1"]
        assert bench.count("cached") == 1

    run(scenario())


def test_without_a_cache_each_row_is_asked_about() -> None:
    async def scenario() -> None:
        bench = Bench(Scripted())
        assert await bench.told("d1", "d1") == [WELL] * 2
        assert await bench.told("d1") == [WELL]
        assert bench.scripted.asked == ["d1"] * 3

    run(scenario())


def test_failures_are_not_kept() -> None:
    async def scenario() -> None:
        bench = Bench(Scripted(CallError("server_error"), GOOD), cache_ms=60_000)
        assert await bench.told("d1") == [FAILED]
        assert await bench.told("d1") == [WELL]

    run(scenario())


def test_a_failing_service_is_left_alone_and_tried_again() -> None:
    async def scenario() -> None:
        scripted = Scripted(CallError("server_error"))
        bench = Bench(scripted, breaking=Breaking(0.5, 10, 5_000), cache_ms=60_000)
        with capture_logs() as logs:
            assert await bench.told(*range(10)) == [FAILED] * 10
            began = now()
            assert await bench.told(*range(100, 1100)) == [FAILED] * 1000
            assert now() == began  # nobody waits for a service that is known to fail
            assert len(scripted.asked) == 10
            assert (bench.count("breaker_open"), bench.value("_breaker_open")) == (1000, 1)
            await asyncio.sleep(5)
            scripted.script = [GOOD]
            assert await bench.told(1, 2, 3) == [WELL, FAILED, FAILED]  # one trial at a time
            assert await bench.told(4) == [WELL]
            assert await bench.told(5) == [WELL]
            assert await bench.told(6, 7, 8) == [WELL] * 3
            assert bench.value("_breaker_open") == 0
        assert [(log["log_level"], log["call"]) for log in logs] == [("warning", "device"), ("info", "device")]

    run(scenario())


def test_known_answers_are_given_while_the_service_fails() -> None:
    async def scenario() -> None:
        scripted = Scripted(GOOD, CallError("server_error"))
        bench = Bench(scripted, breaking=Breaking(0.5, 4, 5_000), cache_ms=60_000)
        assert await bench.told("d1") == [WELL]
        await bench.told(1, 2, 3)
        assert await bench.told("d1", "d2") == [WELL, FAILED]

    run(scenario())


def test_refusals_do_not_open_the_breaker() -> None:
    """The service works: it does not know this device."""

    async def scenario() -> None:
        bench = Bench(Scripted(CallError("refused", well=True)), breaking=Breaking(0.1, 4))
        assert await bench.told(*range(20)) == [FAILED] * 20
        assert len(bench.scripted.asked) == 20

    run(scenario())


def test_the_end_leaves_nothing_open() -> None:
    async def scenario() -> None:
        bench = Bench(Scripted(seconds=50), in_flight=5, timeout_ms=60_000)
        answers = [bench.service.answer(record(number)) for number in range(20)]
        await asyncio.sleep(0.01)
        await bench.service.close()
        assert all(isinstance(answer, asyncio.Future) and answer.cancelled() for answer in answers)
        assert (bench.scripted.open, bench.scripted.closed) == (0, True)

    run(scenario())


def test_a_row_past_the_deadline_is_not_asked_about() -> None:
    """What a text holds is no time; a row that does not say when it came is asked about."""

    async def scenario() -> None:
        bench = Bench(Scripted(), deadline_ms=80)
        came = VirtualClock().now_ms()
        await asyncio.sleep(0.08)
        rows = [
            record("a"),
            stamped("b", came),
            stamped('x,"_arrived":1', came),
            stamped("c", 1),
        ]
        answers = [bench.service.answer(row) for row in rows]
        told = [json.loads(b"{%b}" % await answered(answer)) for answer in answers]
        assert told == [WELL, WELL, WELL, FAILED]
        await asyncio.sleep(0.001)
        assert json.loads(b"{%b}" % await answered(bench.service.answer(stamped("b", came)))) == FAILED
        assert (bench.count("past_deadline"), len(bench.scripted.asked)) == (2, 3)

    run(scenario())


def test_who_is_late_when_a_slot_is_free_is_not_asked_about() -> None:
    async def scenario() -> None:
        bench = Bench(Scripted(seconds=0.05), in_flight=1, timeout_ms=60_000, deadline_ms=80)
        came = VirtualClock().now_ms()
        answers = [bench.service.answer(stamped(device, came)) for device in "abcd"]
        told = [json.loads(b"{%b}" % await answered(answer)) for answer in answers]
        assert (told, bench.scripted.asked) == ([WELL, WELL, FAILED, FAILED], ["a", "b"])
        assert bench.count("past_deadline") == 2

    run(scenario())


def test_who_is_in_time_is_asked_about_although_another_is_late() -> None:
    """Equal requests share a call: it is made as long as one of the rows can use it."""

    async def scenario() -> None:
        bench = Bench(Scripted(seconds=0.1), in_flight=1, timeout_ms=60_000, deadline_ms=80, cache_ms=60_000)
        came = VirtualClock().now_ms()
        answers = [bench.service.answer(stamped(device, came)) for device in "ab"]
        await asyncio.sleep(0.05)
        answers.append(bench.service.answer(stamped("b", came + 50)))
        assert [json.loads(b"{%b}" % await answered(answer)) for answer in answers] == [WELL] * 3
        assert (bench.count("shared"), bench.count("past_deadline")) == (1, 0)

    run(scenario())


def test_without_a_deadline_nobody_is_late() -> None:
    async def scenario() -> None:
        bench = Bench(Scripted())
        assert json.loads(b"{%b}" % await answered(bench.service.answer(stamped("a", 1)))) == WELL

    run(scenario())


async def answered(answer: bytes | asyncio.Future[bytes]) -> bytes:
    return answer if isinstance(answer, bytes) else await answer


def stamped(device: str, came_ms: int) -> bytes:
    """As a stage writes it."""
    row = {"id": "t1", "device": device, "_arrived": came_ms, "_route": "r"}
    return json.dumps(row, separators=(",", ":")).encode()
