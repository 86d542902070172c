"""Downloads that are killed, stopped, or out of room: the next run goes on, and nothing is lost."""

import contextlib
import random
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from k710.part import Part
from k710.sources.ledger import open_ledger
from support.list_files import vid
from support.loopback import Answer, Loopback
from support.small_manifest import sources
from support.small_site import (
    VIEW,
    asked,
    download,
    fetching,
    files_below,
    good,
    lines,
    tell,
    template,
    video,
    without_proxies,
    work_of,
)

K710 = str(Path(sys.executable).with_name("k710"))
NAMES = [f"{sign}{number}" for sign in "-v" for number in range(4)]
SLOW = good(slow=(800, 0.05))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    without_proxies(monkeypatch)
    with Loopback() as server:
        yield server


def start(work: Path, server: Loopback, **options: object) -> "subprocess.Popen[str]":
    command = [K710, "download", "--views", VIEW, "--work", str(work), "--fetch", "whole"]
    command += ["--url-template", template(server), "--sleep", "0", "--workers", "2"]
    return subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        **options,  # type: ignore[call-overload]
    )


def start_until(work: Path, server: Loopback, num_lines: int) -> "subprocess.Popen[str]":
    """A run that goes on when this returns, with so many attempts in its ledger."""
    process = start(work, server)
    while process.poll() is None and len(lines(work)) < num_lines:
        time.sleep(0.01)
    assert process.poll() is None, "or else this would prove nothing"
    return process


def kill(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()


def goes_on(work: Path, server: Loopback, names: list[str]) -> None:
    """The next run fetches what is pending, and then all is there, each once."""
    download(work, fetching(server, workers=2))
    assert {row["status"] for row in sources(work).values()} == {"ok"}
    assert len(sources(work)) == len(names)
    had = Counter(line["youtube_id"] for line in lines(work) if line["status"] == "ok")
    assert had == Counter(map(vid, names))
    files = files_below(work / "downloads")
    assert {Path(name).name for name in files} == {f"{vid(name)}.mp4" for name in names}


def test_killed_in_the_middle_and_a_line_cut_short(server: Loopback, tmp_path: Path) -> None:
    work = work_of(tmp_path, NAMES)
    for name in NAMES:
        tell(server, name, SLOW)
    kill(start_until(work, server, 3))
    time.sleep(1)  # until the workers are gone with it
    before = asked(server)
    done = [line["youtube_id"] for line in lines(work)]
    (ledger,) = work.glob("ledger/*.jsonl")
    ledger.write_bytes(ledger.read_bytes()[:-20])
    time.sleep(0.5)
    assert asked(server) == before
    for name in NAMES:
        tell(server, name)
    goes_on(work, server, NAMES)
    # What was in its place when the kill came is taken as it is, its line lost or not.
    assert all(asked(server)[f"/{one}.mp4"] == before[f"/{one}.mp4"] for one in done)
    last = next(line for line in lines(work) if line["youtube_id"] == done[-1])
    assert (last["detail"], last["num_bytes"]) == ("it was there", 0)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(12))
def test_killed_at_random_moments(server: Loopback, tmp_path: Path, number: int) -> None:
    rng = random.Random(number)
    names = [f"{sign}{place}" for sign in "-v" for place in range(20)]
    work = work_of(tmp_path, names)
    for name in names:
        tell(server, name, good(slow=(1600, 0.02)))
    for _ in range(rng.randrange(2, 5)):
        process = start(work, server)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=rng.uniform(0.5, 4.0))
        kill(process)
        time.sleep(0.2)
    goes_on(work, server, names)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_in_words(server: Loopback, tmp_path: Path, number: signal.Signals) -> None:
    names = NAMES[:4]
    work = work_of(tmp_path, names)
    for name in names:
        tell(server, name, SLOW)
    process = start_until(work, server, 1)
    process.send_signal(number)
    _, said = process.communicate()
    assert process.returncode == 1
    assert said == "Stopped. Run the same k710 download again: it goes on from here.\n"
    time.sleep(0.3)
    before = len(server.seen)
    time.sleep(0.3)
    assert len(server.seen) == before
    goes_on(work, server, names)


@pytest.mark.slow
def test_a_full_disk_ends_the_run_and_no_video_is_to_blame(
    server: Loopback, tmp_path: Path
) -> None:
    work = work_of(tmp_path, ["a", "b"])
    large = Answer(body=video(100), content_type="video/mp4")
    assert len(large.body) > 30_000
    for name in "ab":
        tell(server, name, large)

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    process = start(work, server, preexec_fn=little_room)
    _, said = process.communicate()
    assert process.returncode == 1
    assert said.startswith(f"No room left to write in {work}/downloads (")
    assert "run the same command again" in said and "Traceback" not in said
    assert lines(work) == []
    goes_on(work, server, ["a", "b"])


@pytest.mark.slow
def test_a_second_run_of_the_same_part_is_refused(server: Loopback, tmp_path: Path) -> None:
    work = work_of(tmp_path, ["a"])
    with open_ledger(work, Part(1, 1), tool="x"):
        process = start(work, server)
        _, said = process.communicate()
    assert process.returncode == 1
    assert said == (
        f"Part 1/1 is being downloaded to {work} by another process.\nWait until it has ended.\n"
    )
    assert server.seen == []
