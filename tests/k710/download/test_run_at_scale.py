"""Many videos, one in twenty failing in each way, killed half-way: the sum is right in the end."""

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.list_files import vid
from support.loopback import Answer, Loopback
from support.small_manifest import sources
from support.small_site import (
    VIEW,
    good,
    lines,
    tell,
    template,
    without_proxies,
    work_of,
)

WAYS: dict[str, tuple[Answer, ...]] = {
    "gone": (Answer(status=404),),
    "gone too": (Answer(status=410),),
    "blocked": (Answer(status=403),),
    "busy once": (Answer(status=429), good()),
    "broken": (Answer(status=500),),
    "cut": (good(cut=1500),),
    "page": (Answer(body=b"<html><title>Sign in</title></html>", content_type="text/html"),),
    "hung up": (Answer(status=0),),
}
STATUSES = {
    "gone": "gone",
    "gone too": "gone",
    "blocked": "blocked",
    "busy once": "ok",
    "broken": "transient",
    "cut": "transient",
    "page": "failed",
    "hung up": "transient",
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    without_proxies(monkeypatch)
    with Loopback() as server:
        yield server


def way_of(number: int) -> str | None:
    """How a video fails: of 20 in a row, one in each way."""
    return dict(enumerate(WAYS)).get(number % 20)


def start(work: Path, server: Loopback, workers: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "k710_cli", "download", "--views", VIEW, "--work", str(work)]
    command += ["--url-template", template(server), "--sleep", "0", "--backoff", "0.01"]
    command += ["--workers", str(workers), "--retries", "1", "--walls", "1000000"]
    return subprocess.Popen([*command, "--fetch", "whole"], stdout=subprocess.DEVNULL)


def num_lines(work: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in work.glob("ledger/*.jsonl"))


def largest_mb(pid: int) -> float:
    """The memory of the largest process of a run."""
    sizes = [0.0]
    for one in (pid, *Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
        text = Path(f"/proc/{one}/status").read_text()
        sizes += [int(line.split()[1]) / 1e3 for line in text.splitlines() if "VmRSS" in line]
    return max(sizes)


def watched(process: "subprocess.Popen[bytes]", work: Path, kill_at: int | None) -> list[float]:
    """Let a run go on to its end, or kill it; the memory of its largest process all along."""
    seen = []
    while process.poll() is None:
        try:
            seen.append(largest_mb(process.pid))
        except OSError:  # one has ended meanwhile
            continue
        if kill_at is not None and num_lines(work) >= kill_at:
            process.send_signal(signal.SIGKILL)
            process.wait()
        time.sleep(0.05)
    assert process.returncode == (0 if kill_at is None else -signal.SIGKILL)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize(("num_videos", "workers"), [(40, 2), (2_000, 8)])
@pytest.mark.timeout(1800)
def test_the_ledger_adds_up(
    server: Loopback, tmp_path: Path, num_videos: int, workers: int
) -> None:
    names = [f"-{number}" if number % 3 else f"v{number}" for number in range(num_videos)]
    work = work_of(tmp_path, names)
    fails = {name: way_of(number) for number, name in enumerate(names)}
    for name, way in fails.items():
        tell(server, name, *(WAYS[way] if way else (good(),)))
    watched(start(work, server, workers), work, kill_at=num_videos // 2)
    seen = watched(start(work, server, workers), work, kill_at=None)

    told = {clip_id[:11]: row["status"] for clip_id, row in sources(work).items()}
    assert told == {vid(name): STATUSES[way] if way else "ok" for name, way in fails.items()}
    rows = lines(work)
    assert {row["youtube_id"]: row["status"] for row in rows} == told
    had = Counter(row["youtube_id"] for row in rows if row["status"] == "ok")
    assert set(had.values()) == {1}
    attempts = Counter(row["youtube_id"] for row in rows)
    # A run makes two of each that may pass, and the second run those of the first again.
    assert max(attempts.values()) <= 4
    # One look and one fetch; what was in flight at the kill comes once more.
    size = len(good().body)
    bodies = Counter(seen.path for seen in server.seen if seen.sent == size)
    assert sum(count > 2 for count in bodies.values()) <= workers
    assert max(bodies.values()) <= 4
    if num_videos > 1_000:
        early, late = (max(part) for part in (seen[: len(seen) // 4], seen[-len(seen) // 4 :]))
        print(f"largest process: {early:.0f} MB early, {late:.0f} MB late")
        assert late < early * 1.2
