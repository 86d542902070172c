"""The table of statuses: every class of statuses is read from it, in Python and in SQL."""

import csv
import io
import json
from pathlib import Path

import duckdb

from k710.download.run import AGAIN
from k710.sources.ledger import ledger_dir
from k710.sources.outcomes import done_shards
from k710.statuses import STATES, Status
from k710.tables.connection import define_common
from support.paths import ROOT
from support.small_manifest import clip, manifest_of, outcome, refresh, sources

A, B = ("archery", "a", 0, 10), ("bowling", "b", 5, 15)


def test_it_says_of_each_status_what_follows_from_it() -> None:
    by_state = {state: {s.value for s in Status if s.state == state} for state in STATES}
    assert by_state == {
        "stored": set(),  # no status says that: a finished shard does
        "to_shard": {"ok", "truncated"},
        "pending": {"missing", "transient", "blocked", "failed"},
        "final": {"gone", "private", "age", "region", "empty", "damaged", "mismatched"},
    }
    assert {s.value for s in Status if s.is_bad_copy} == {"empty", "damaged", "mismatched"}
    assert set(AGAIN) == by_state["final"] | {"truncated", "failed"}
    assert all(status.words for status in Status)


def test_a_status_is_its_text() -> None:
    assert Status("gone") is Status.GONE and f"{Status.GONE}" == "gone"
    buffer = io.StringIO()
    csv.writer(buffer).writerow([Status.GONE])
    assert buffer.getvalue().strip() == "gone" and json.dumps(Status.GONE) == '"gone"'


def test_sql_has_the_same_table() -> None:
    with duckdb.connect() as con:
        define_common(con)
        rows = con.execute("from statuses").fetchall()
    assert rows == [(s.value, s.state, s.retry, s.subject, s.is_bad_copy) for s in Status]


def test_a_work_directory_of_an_earlier_version_is_understood(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, A, B)
    refresh(work)
    outcome(work, 0, {"clip_id": clip("a"), "status": "ours", "stored": False, "uri": "/a.mp4"})
    line = {
        "ended_at": "2026-01-01T00:00:00",
        "youtube_id": clip("b")[:11],
        "attempt": 1,
        "clips": [clip("b", 5)],
        "status": "ours",
        "files": [],
        "keep": True,
    }
    ledger_dir(work).mkdir()
    (ledger_dir(work) / "001_of_001.jsonl").write_text(json.dumps(line) + "\n")
    refresh(work)
    assert {row["status"] for row in sources(work).values()} <= {"failed", "missing"}
    assert sources(work)[clip("b", 5)]["status"] == "failed"
    assert done_shards(work) == {}  # it has no tar: nothing is said of shards


def test_the_readme_explains_each_status() -> None:
    text = (ROOT / "README.md").read_text()
    assert all(f"`{status}`" in text for status in Status)
