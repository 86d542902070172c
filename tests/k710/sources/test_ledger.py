"""The ledger: whole lines only, one writer for each part, and what it then says of each clip."""

import fcntl
import os
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings, strategies as st

from k710.download.ytdlp import Fetched, attempt_of
from k710.errors import StageError
from k710.part import Part
from k710.sources import ledger
from k710.sources.ledger import FetchedFile, ledger_sha256, open_ledger, read_attempts
from support.list_files import vid
from support.paths import PYTHONPATH
from support.small_manifest import clip, manifest_of, refresh, sources
from support.small_site import a_task, append, file_of, lines, work_of


def attempts(work: Path) -> list[tuple[Any, ...]]:
    with duckdb.connect() as con:
        read_attempts(con, work)
        columns = "youtube_id, attempt, status, detail"
        return con.execute(f"select {columns} from attempts order by ended_at").fetchall()


# --- lines


def test_a_line_has_all_of_an_attempt(tmp_path: Path) -> None:
    file = FetchedFile("/w/downloads/ab/a.mp4", 7, 1.5, ("one", "two"))
    fetched = Fetched("ok", None, "sections", (file,), 9, 0.25, False)
    append(tmp_path, fetched, attempt=3, keep=False)
    (line,) = lines(tmp_path)
    assert line.pop("ended_at").endswith("+00:00")
    assert line == {
        "youtube_id": vid("a"),
        "attempt": 3,
        "clips": [f"{vid('a')}_000001_000003"],
        "status": "ok",
        "detail": None,
        "kind": "sections",
        "files": [
            {
                "uri": "/w/downloads/ab/a.mp4",
                "num_bytes": 7,
                "starts_at_s": 1.5,
                "clips": ["one", "two"],
            }
        ],
        "num_bytes": 9,
        "seconds": 0.25,
        "is_wall": False,
        "keep": False,
        "site": "http://x/{id}",
        "tool": "yt-dlp 1",
    }


@settings(max_examples=25)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), max_size=5))
def test_any_words_come_back_as_they_went_in(details: list[str]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        for number, detail in enumerate(details):
            append(Path(temporary), Fetched("gone", detail.replace("\0", "")), attempt=number)
        found = [row[3] for row in attempts(Path(temporary))]
    assert found == [detail.replace("\0", "") for detail in details]


@pytest.mark.parametrize("cut", [1, 30, 90, -20, -2])
def test_a_line_that_a_kill_cut_short_costs_no_other(tmp_path: Path, cut: int) -> None:
    for number in (1, 2):
        append(tmp_path, Fetched("transient", "no"), attempt=number)
    (path,) = tmp_path.glob("ledger/*.jsonl")
    whole = path.read_bytes()
    last = whole.splitlines()[1]
    path.write_bytes(whole[: len(whole) - len(last) - 1] + last[:cut])
    assert [row[1] for row in attempts(tmp_path)] == [1]
    append(tmp_path, Fetched("gone", "yes"), attempt=3)
    assert [row[1] for row in attempts(tmp_path)] == [1, 3]


def test_what_a_power_cut_leaves_costs_no_other_line(tmp_path: Path) -> None:
    append(tmp_path, Fetched("gone", "one"))
    (path,) = tmp_path.glob("ledger/*.jsonl")
    path.write_bytes(path.read_bytes() + bytes(100))
    append(tmp_path, Fetched("gone", "two"))
    assert [row[3] for row in attempts(tmp_path)] == ["one", "two"]


_APPEND = """
import sys
from pathlib import Path
from k710.files import word_os_errors
from k710.sources.ledger import open_ledger
from k710.part import Part
from support.small_site import a_task
from k710.download.ytdlp import Fetched, attempt_of
work = Path(sys.argv[1])
with word_os_errors(work), open_ledger(work, Part(1, 1), tool="x") as ledger:
    for number in range(100):
        task = a_task(work, "http://x", attempt=number)
        ledger.append(attempt_of(task, Fetched("gone", "no"), keep=True))
        print(number)
"""


def test_a_full_disk_is_said_and_loses_no_line(tmp_path: Path) -> None:
    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, 1_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    done = subprocess.run(
        [sys.executable, "-c", _APPEND, str(tmp_path)],
        preexec_fn=little_room,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
    )
    assert "StageError: No room left to write in" in done.stderr
    kept = [row[1] for row in attempts(tmp_path)]
    assert kept and kept == [int(word) for word in done.stdout.split()]
    append(tmp_path, Fetched("gone", "later"), attempt=100)
    assert [row[1] for row in attempts(tmp_path)] == [*kept, 100]


def test_its_hash_is_another_after_each_line_and_in_each_file(tmp_path: Path) -> None:
    hashes = [ledger_sha256(tmp_path)]
    for part in (1, 2):
        with open_ledger(tmp_path, Part(part, 2), tool="x") as ledger:
            hashes.append(ledger_sha256(tmp_path))
            ledger.append(attempt_of(a_task(tmp_path, "x"), Fetched("gone", None), keep=True))
            hashes.append(ledger_sha256(tmp_path))
    assert len(set(hashes)) == 5
    assert ledger_sha256(tmp_path) == hashes[-1]


# --- one writer for each part


def test_a_part_that_is_at_work_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "_WAIT_S", 0.3)
    with open_ledger(tmp_path, Part(3, 16), tool="x"):
        with pytest.raises(StageError) as error, open_ledger(tmp_path, Part(3, 16), tool="x"):
            pass
        with open_ledger(tmp_path, Part(4, 16), tool="x"):
            pass
    assert str(error.value) == (
        f"Part 3/16 is being downloaded to {tmp_path} by another process.\nWait until it has ended."
    )
    with open_ledger(tmp_path, Part(3, 16), tool="x"):
        pass


def test_parts_of_another_number_at_work_are_refused(tmp_path: Path) -> None:
    with (
        open_ledger(tmp_path, Part(3, 16), tool="x"),
        pytest.raises(StageError) as error,
        open_ledger(tmp_path, Part(1, 1), tool="x"),
    ):
        pass
    assert str(error.value) == (
        f"Part 3/16 is being downloaded to {tmp_path} by another process, and this is part "
        "1/1: they would fetch the same videos.\n"
        "Wait until it has ended, or use the same number of parts."
    )
    with open_ledger(tmp_path, Part(1, 1), tool="x"):
        pass


def test_a_reader_takes_no_lock_and_leaves_none(tmp_path: Path) -> None:
    with open_ledger(tmp_path, Part(1, 1), tool="x") as ledger:
        ledger.append(attempt_of(a_task(tmp_path, "x"), Fetched("gone", None), keep=True))
        assert len(attempts(tmp_path)) == 1
    with (tmp_path / "ledger" / "001_of_001.jsonl").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


# --- what the ledger says of each clip: attempts in, rows of sources.parquet out

GONE = "This video does not exist"
A1, A2, B = clip("a", 1, 3), clip("a", 5, 7), clip("b", 1, 3)
TWO = ((A1, 1, 3), (A2, 5, 7))


def a_work(folder: Path) -> Path:
    rows = (("yoga", "a", 1, 3), ("yoga", "a", 5, 7), ("yoga", "b", 1, 3))
    return manifest_of(folder, *rows)


def told(work: Path) -> dict[str, tuple[str, str | None]]:
    refresh(work)
    return {clip_id: (row["status"], row["detail"]) for clip_id, row in sources(work).items()}


def test_a_failure_concerns_every_window_of_its_id(tmp_path: Path) -> None:
    work = a_work(tmp_path)
    append(work, Fetched("private", "Private video"))
    private = ("private", "Private video")
    assert told(work) == {A1: private, A2: private, B: ("missing", None)}
    assert sources(work)[A2]["tool"] == "yt-dlp 1"


def test_the_last_attempt_counts(tmp_path: Path) -> None:
    work = a_work(tmp_path)
    append(work, Fetched("transient", "503"))
    append(work, Fetched("blocked", "not a bot"), attempt=2)
    assert told(work)[A1] == ("blocked", "not a bot")
    append(work, Fetched("gone", GONE), attempt=1)  # a later run of a work without this ledger
    assert told(work)[A1] == ("gone", GONE)


def test_a_whole_video_is_a_copy_of_every_window_of_its_id(tmp_path: Path) -> None:
    work = a_work(tmp_path)
    file = file_of(work, "a")
    append(work, Fetched("ok", None, "whole", (file,)))
    assert told(work) == {A1: ("ok", None), A2: ("ok", None), B: ("missing", None)}
    row = sources(work)[A2]
    assert (row["uri"], row["bytes"], row["trimmed"], row["starts_at_s"], row["tool"]) == (
        *(file.uri, 1, False, 0.0),
        "yt-dlp 1",
    )


def test_sections_are_copies_of_what_lies_in_them_alone(tmp_path: Path) -> None:
    work = a_work(tmp_path)
    file = file_of(work, "a", A1, starts_at_s=0.4)
    append(work, Fetched("ok", "the video ends after 4 s", "sections", (file,)), clips=TWO)
    assert told(work) == {
        A1: ("ok", None),
        A2: ("empty", "the video ends after 4 s"),
        B: ("missing", None),
    }
    assert sources(work)[A1]["starts_at_s"] == 0.4


def test_sections_of_one_window_say_nothing_of_another(tmp_path: Path) -> None:
    work = a_work(tmp_path)
    append(work, Fetched("ok", None, "sections", (file_of(work, "a", A1),)), clips=TWO[:1])
    assert told(work)[A2] == ("missing", None)


def test_a_copy_is_worth_more_than_a_later_failure(tmp_path: Path) -> None:
    work = a_work(tmp_path)
    append(work, Fetched("ok", None, "sections", (file_of(work, "a", A1),)), clips=TWO[:1])
    append(work, Fetched("gone", GONE), clips=TWO[1:], attempt=2)
    assert told(work) == {A1: ("ok", None), A2: ("gone", GONE), B: ("missing", None)}


def test_a_ledger_of_ids_that_are_in_no_list_is_harmless(tmp_path: Path) -> None:
    work = work_of(tmp_path, ["a"])
    append(work, Fetched("gone", GONE), "zz")
    append(work, Fetched("ok", None, "whole", (file_of(work, "zy"),)), "zy")
    assert told(work) == {clip("a", 1, 3): ("missing", None)}
