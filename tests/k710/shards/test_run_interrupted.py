"""Killed at any moment, stopped, out of room: the next run goes on, and the bytes are the same."""

import contextlib
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from k710.shards.verify import verify_shards
from support.small_shards import (
    TRAIN,
    VAL,
    all_made,
    all_ready,
    copy_of,
    name_of,
    shard,
    statuses,
    tars,
)

K710 = str(Path(sys.executable).with_name("k710"))


@pytest.fixture(scope="module")
def untouched() -> Path:
    """A work directory with sources and no shards, never written to."""
    return all_ready()


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, bytes]:
    """The bytes of a run that nothing disturbs."""
    return tars(all_made())


def start(work: Path, before: Callable[[], None] = lambda: None) -> "subprocess.Popen[str]":
    command = [K710, "shard", "--views", "k400/train,k400/val", "--work", str(work)]
    command += ["--shard-size", "500kB", "--workers", "2"]

    def prepare() -> None:
        # What a shell starts in the background ignores Ctrl-C, and so would this.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        before()

    return subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=prepare,
    )


def kill_at(work: Path, seconds: float) -> None:
    """Start a run and kill it after that long, if it is still running."""
    process = start(work)
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
    process.communicate()


def staged(work: Path) -> dict[str, int]:
    found = {}
    with contextlib.suppress(FileNotFoundError):  # the folder is cleared
        for path in work.glob("staging/*.json"):
            with contextlib.suppress(FileNotFoundError):  # packed since
                found[path.name] = path.stat().st_mtime_ns
    return found


def start_until_staged(work: Path) -> "subprocess.Popen[str]":
    """A run that goes on when this returns, with a clip staged."""
    process = start(work)
    while process.poll() is None and not staged(work):
        time.sleep(0.002)
    return process


def goes_on(work: Path, undisturbed: dict[str, bytes]) -> None:
    shard(work)
    assert tars(work) == undisturbed
    assert not (work / "staging").exists()
    assert not list(work.rglob("*.tmp"))
    assert set(statuses(work).values()) == {"ok"}
    assert verify_shards(work=work, deep=True, workers=1).faults == ()


@pytest.mark.slow
@pytest.mark.parametrize("number", range(20))
def test_killed_at_random_moments(
    untouched: Path, tmp_path: Path, undisturbed: dict[str, bytes], number: int
) -> None:
    rng = random.Random(number)
    work = copy_of(untouched, tmp_path / "work")
    for _ in range(rng.randrange(1, 4)):
        kill_at(work, rng.uniform(0.4, 2.0))
    goes_on(work, undisturbed)


def test_killed_when_clips_are_staged_redoes_none_of_them(
    untouched: Path, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    work = copy_of(untouched, tmp_path / "work")
    process = start_until_staged(work)
    process.kill()
    process.communicate()
    time.sleep(1)  # until the workers have seen it
    before = staged(work)
    assert before, "or else this would prove nothing"
    process = start(work)
    after: dict[str, int] = {}
    while process.poll() is None:
        after |= {n: t for n, t in staged(work).items() if n in before}
        time.sleep(0.02)
    process.communicate()
    assert all(before[name] == at for name, at in after.items())
    goes_on(work, undisturbed)


def test_staged_bytes_that_are_damaged_are_made_again(
    untouched: Path, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    work = copy_of(untouched, tmp_path / "work")
    process = start_until_staged(work)
    process.kill()
    process.communicate()
    for path in work.glob("staging/*.mp4"):
        path.write_bytes(b"as after a power cut")
    for path in work.glob("staging/*.json"):
        path.write_bytes(path.read_bytes()[:50] if path.stem < "m" else path.read_bytes())
    goes_on(work, undisturbed)


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM]
)
def test_stopped_in_words(
    untouched: Path, tmp_path: Path, undisturbed: dict[str, bytes], number: signal.Signals
) -> None:
    work = copy_of(untouched, tmp_path / "work")
    process = start_until_staged(work)
    process.send_signal(number)
    _, said = process.communicate()
    assert process.returncode == 1
    assert said == "Stopped. Run the same k710 shard again: it goes on from here.\n"
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True)
    assert str(work) not in running.stdout
    goes_on(work, undisturbed)


def test_a_full_disk_is_said_and_loses_nothing(
    untouched: Path, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    work = copy_of(untouched, tmp_path / "work")

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    process = start(work, little_room)
    _, said = process.communicate()
    assert process.returncode == 1
    assert "run the same command again" in said
    assert "Traceback" not in said
    goes_on(work, undisturbed)


def test_a_worker_that_is_killed_costs_nothing(
    untouched: Path, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    work = copy_of(untouched, tmp_path / "work")
    process = start_until_staged(work)
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True
    )
    for word in found.stdout.split()[:1]:
        os.kill(int(word), signal.SIGKILL)
    process.communicate()
    assert process.returncode == 0
    goes_on(work, undisturbed)
    assert set(statuses(work)) == {name_of(row) for row in [*TRAIN, *VAL]}
