"""Disks that are full, or fail: decisions go on as long as the log takes them, else the run says why it ends."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fire.bench import Subject, files_of, rss_mb
from tests.fire.disks import SmallDisk
from tests.fire.report import Running

pytestmark = [pytest.mark.matrix("disk"), pytest.mark.xdist_group("fire-disk"), pytest.mark.timeout(240)]

Make = Callable[..., Subject]
NO_SPACE = "No space left on device"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """24 MB that can be filled; where nothing can be mounted, a skip, and on CI a failure."""
    try:
        made = SmallDisk(tmp_path / "disk", 24)
    except OSError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
    yield made
    made.close()


@pytest.fixture
def make(tmp_path: Path, disk: SmallDisk, running: Running) -> Iterator[Make]:
    """Makes the subject; its processes end before the disk goes."""
    made: list[Subject] = []

    def subject(*given: object, **where: Path) -> Subject:
        made.append(Subject(tmp_path, *given, running=running, **where))  # type: ignore[arg-type]
        return made[-1]

    yield subject
    for each in made:
        each.close()


def begun(subject: Subject) -> Subject:
    """At work, all tasks restored, something flushed."""
    subject.feed(2_000)
    subject.start()
    subject.until_decided()
    return subject


def stopped_full(make: Make, disk: SmallDisk) -> tuple[Subject, int]:
    """Stopped in order, its state's disk full, with more records to decide; how many are."""
    subject = begun(make(state=disk.path / "state"))
    disk.fill()
    subject.feed(2_000)
    subject.until_decided()
    assert subject.stop() == 0
    subject.feed(2_000)
    return subject, subject.decided()


def test_a_full_state_disk_holds_nothing_up(make: Make, disk: SmallDisk) -> None:
    """It decides on from memory, says so, and writes again when there is space."""
    subject = make(state=disk.path / "state")
    subject.feed(2_000)
    subject.finish()  # so that the next start has cold keys, which are read while nothing can be written
    begun(subject)
    pid = subject.worker()
    memory, files = rss_mb(pid), files_of(pid)
    disk.fill()
    while len(subject.events()) < 2:  # the second time the store has been opened anew, in vain
        subject.feed(2_000)
        subject.until_decided()
    subject.feed(2_000)
    subject.until_decided()
    assert {entry["event"] for entry in subject.events()} == {"state could not be written, will try again"}
    assert subject.worker() == pid, "it was started again"
    assert rss_mb(pid) < memory + 150
    assert files_of(pid) <= files + 8
    assert {entry.get("error") for entry in subject.events()} == {NO_SPACE}
    disk.free()
    subject.feed(2_000)
    subject.until_decided()
    assert subject.stop() == 0, subject.campaign.logged()
    assert "discarded" not in subject.finish().stderr


@pytest.mark.soak
def test_a_full_state_disk_ends_the_run_before_memory_does(make: Make, disk: SmallDisk) -> None:
    """What cannot be written can never leave memory: at a budget and 64 MiB more it ends, and loses nothing."""
    subject = begun(make("--state-memory", "8", state=disk.path / "state"))
    assert subject.process is not None
    pid = subject.worker()
    memory = most = rss_mb(pid)
    disk.fill()
    while subject.process.poll() is None and subject.sent < 1_000_000:
        subject.feed(40_000, cards=1_000_000)
        with contextlib.suppress(OSError, IndexError):
            most = max(most, rss_mb(pid))
    assert subject.process.wait(60) == 1, subject.campaign.logged()
    assert f"error: the state's disk fails: {NO_SPACE} (give it space" in subject.campaign.logged()
    assert most < memory + 300
    disk.free()
    disk.grow(512)  # how much came meanwhile depends on the machine: its state may need more than there was
    subject.finish()


@pytest.mark.soak
def test_stopped_with_a_full_state_disk_it_ends_in_order_and_replays_later(make: Make, disk: SmallDisk) -> None:
    subject = begun(make(state=disk.path / "state"))
    disk.fill()
    subject.feed(4_000)
    subject.until_decided()
    assert subject.stop() == 0, subject.campaign.logged()
    disk.free()
    subject.feed(2_000)
    subject.finish()


@pytest.mark.slow
@pytest.mark.soak  # a minute of patience
def test_a_start_on_a_full_state_disk_says_why_it_ends(make: Make, disk: SmallDisk) -> None:
    """No offset moves; with space again it goes on."""
    subject, before = stopped_full(make, disk)
    refused = subject.campaign.command("--until-end")
    assert refused.returncode == 1, refused.stderr
    assert f"error: the state's disk fails: {NO_SPACE} (give it space" in refused.stderr
    assert subject.decided() == before
    disk.free()
    subject.finish()


def test_a_restore_waits_for_space(make: Make, disk: SmallDisk) -> None:
    """A start while the disk is full is paused, not crashed, and goes on by itself."""
    subject, before = stopped_full(make, disk)
    subject.process = subject.campaign.start(subject.campaign.directory / "marks")
    subject.until(lambda: subject.said("the state's disk fails, trying again"))
    assert subject.decided() == before
    disk.free()
    subject.until_decided()
    assert subject.stop() == 0
    assert not subject.said("worker died")
    subject.finish()


@pytest.mark.soak
def test_a_full_log_ends_the_run_with_what_to_do(make: Make, disk: SmallDisk) -> None:
    """Fails closed: what is not in the log is not decided, and no offset says otherwise."""
    subject = begun(make(log=disk.path / "log"))
    subject.feed(4_000)
    subject.until_decided()
    assert subject.stop() == 0
    subject.feed(2_000)
    before = subject.decided()
    disk.fill()
    refused = subject.campaign.command("--until-end")
    assert refused.returncode == 1, refused.stderr
    last = refused.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert last.endswith("(the disk is full: free space and start again)")
    assert subject.decided() == before
    disk.free()
    subject.finish()


def test_the_log_fills_up_under_a_run(make: Make, disk: SmallDisk) -> None:
    """Room for the next records, not for their decisions."""
    subject = begun(make(log=disk.path / "log"))
    assert subject.process is not None
    subject.process.send_signal(19)  # SIGSTOP: until the disk is full
    os.kill(subject.worker(), 19)
    subject.feed(4_000)
    disk.fill()
    os.kill(subject.worker(), 18)
    subject.process.send_signal(18)
    assert subject.process.wait(60) == 1, subject.campaign.logged()
    assert "the disk is full: free space and start again" in subject.campaign.logged()
    before = subject.decided()
    assert before < subject.sent
    disk.free()
    subject.finish()


def test_a_full_checkpoint_store_holds_nothing_up(make: Make, disk: SmallDisk) -> None:
    """The next checkpoint is as good as the one that failed, and a restore takes the last whole one."""
    store = disk.path / "blobs"
    subject = begun(make("--checkpoints", f"file:{store}", "--checkpoint-seconds", "1"))

    feed_until(subject, lambda: _manifests(store) >= 4)
    disk.fill()
    feed_until(subject, lambda: subject.said("no checkpoint was written, will try again"))
    whole = _manifests(store)
    disk.free()
    feed_until(subject, lambda: _manifests(store) > whole)
    assert subject.stop() == 0, subject.campaign.logged()
    assert not subject.said("worker died")
    subject.finish()


@pytest.mark.soak
def test_a_checkpoint_store_that_is_full_at_the_start_holds_nothing_up(make: Make, disk: SmallDisk) -> None:
    store = disk.path / "blobs"
    store.mkdir()
    disk.fill()
    subject = begun(make("--checkpoints", f"file:{store}", "--checkpoint-seconds", "1"))
    assert subject.said("the checkpoints' store does not answer yet")
    disk.free()
    feed_until(subject, lambda: _manifests(store) > 0)
    assert subject.stop() == 0, subject.campaign.logged()
    subject.finish()


def _manifests(store: Path) -> int:
    return len(list(store.glob("*/*/manifests/*")))


def feed_until(subject: Subject, reached: Callable[[], bool]) -> None:
    """What is flushed with a batch goes into the next checkpoint."""
    while not reached():
        subject.feed(2_000)
        subject.until_decided()


def test_writes_that_fail_with_another_error(make: Make, disk: SmallDisk) -> None:
    """A limit on the size of files, put on the running process: RocksDB's and SQLite's writes fail, as with EIO.

    The log says no first: the run ends with a reason, nothing is lost.
    """
    subject = begun(make())
    pid = subject.worker()
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    assert soft == resource.RLIM_INFINITY
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (20_000, hard))
    subject.feed(2_000)
    assert subject.process is not None
    assert subject.process.wait(60) == 1, subject.campaign.logged()
    last = subject.campaign.logged().strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert "the disk failed: check it and start again" in last
    assert subject.decided() < subject.sent
    subject.finish()


@pytest.mark.soak
def test_a_read_only_state_disk(make: Make, disk: SmallDisk) -> None:
    """As after an error of the file system: refused with a reason at the start."""
    subject = begun(make(state=disk.path / "state"))
    assert subject.stop() == 0
    subject.feed(2_000)
    before = subject.decided()
    disk.read_only(True)
    refused = subject.campaign.command("--until-end")
    assert refused.returncode in (1, 2), refused.stderr
    assert "Read-only file system" in refused.stderr.strip().splitlines()[-1]
    assert subject.decided() == before
    disk.read_only(False)
    subject.finish()
