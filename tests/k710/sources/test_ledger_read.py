"""A ledger that others wrote: of earlier versions, of clocks that are wrong, of another shape."""

import json
import tempfile
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings, strategies as st

from k710.download.ytdlp import Fetched
from k710.files import sha256_of
from k710.part import Part
from k710.sources.index import index_videos
from k710.sources.ledger import ledger_sha256, others_at_work, read_attempts
from k710.sources.table import current_sources
from support.list_files import vid
from support.small_manifest import clip, open_work, refresh, sources
from support.small_site import append, file_of, work_of

TITLE = "Video unavailable"
BARRED = "Video unavailable. This content isn't available."
DEAD = "Video unavailable. This video has been removed by the uploader"


def line(name: str = "a", **more: Any) -> dict[str, Any]:
    """An attempt at the video `name`, as an earlier version of k710 wrote it."""
    plain = {
        "ended_at": "2026-01-02T03:04:05.000006+00:00",
        "youtube_id": vid(name),
        "attempt": 1,
        "clips": [clip(name, 1, 3)],
        "status": "gone",
        "detail": DEAD,
        "kind": None,
        "files": [],
        "num_bytes": 0,
        "seconds": 0.5,
        "is_wall": False,
        "keep": True,
        "tool": "yt-dlp 2025.1.1",
    }
    return {**plain, **more}


def write(work: Path, *made: Any, file: str = "001_of_001") -> Path:
    """Write these lines, each a text or what JSON can hold."""
    path = work / "ledger" / f"{file}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = (one if isinstance(one, str) else json.dumps(one) for one in made)
    path.write_text("".join(f"{text}\n" for text in texts))
    return path


def read(work: Path) -> tuple[list[tuple[Any, ...]], list[str]]:
    """Status, words and whether they are unexplained, the oldest first; and the remarks."""
    with duckdb.connect() as con:
        remarks = read_attempts(con, work)
        columns = "status, detail, is_unexplained"
        return con.execute(f"select {columns} from attempts order by place").fetchall(), remarks


def found(work: Path) -> dict[str, str]:
    return {clip_id[:1]: row["status"] for clip_id, row in sources(work).items()}


# --- words that another version understood otherwise


def of_before(folder: Path, *details: str | None) -> Path:
    """A work directory with a ledger, and a sources.parquet that calls every video dead."""
    names = "abcdef"[: len(details)]
    work = work_of(folder, names)
    write(work, *(line(n, detail=words) for n, words in zip(names, details, strict=True)))
    refresh(work)
    path = work / "sources.parquet.json"
    sidecar = json.loads(path.read_text())
    with duckdb.connect() as con:
        con.execute(f"create table rows as from '{work}/sources.parquet'").fetchall()
        con.execute("update rows set status = 'gone' where status <> 'missing'").fetchall()
        con.execute(f"copy rows to '{work}/sources.parquet' (format parquet)").fetchall()
    del sidecar["inputs"]["refusals"]
    sidecar |= {"fingerprint": "of before", "sha256": sha256_of(work / "sources.parquet")}
    path.write_text(json.dumps(sidecar))
    return work


@pytest.mark.parametrize("keeps_ledger", [True, False])
def test_no_list_stays_dead_and_how_many_changed_is_said_once(
    tmp_path: Path, keeps_ledger: bool
) -> None:
    work = of_before(tmp_path, TITLE, BARRED, DEAD, None)
    if not keeps_ledger:  # the table alone remembers
        (work / "ledger" / "001_of_001.jsonl").unlink()
    now = {"a": "failed", "b": "blocked", "c": "gone", "d": "gone"}
    said = "2 clips of 2 videos count as pending, which an earlier version called final: "
    with open_work(work) as con:
        told = current_sources(con, work)
        rows = con.execute("select left(clip_id, 1), status from sources").fetchall()
    assert dict(rows) == now and [remark[: len(said)] for remark in told] == [said]
    summary = index_videos([_nothing(tmp_path)], work=work)
    assert [remark[: len(said)] for remark in summary.remarks] == [said]
    assert found(work) == now
    assert index_videos([_nothing(tmp_path)], work=work).remarks == ()
    assert found(work) == now


def _nothing(folder: Path) -> Path:
    (folder / "nothing").mkdir(exist_ok=True)
    return folder / "nothing"


def test_words_that_are_cut_or_have_an_id_are_enough(tmp_path: Path) -> None:
    append(work_of(tmp_path, ["a"]), Fetched("gone", f"{BARRED} {'x' * 440}..."))
    assert read(tmp_path / "work")[0][0][0] == "blocked"


# --- clocks


def test_a_line_that_is_dated_ahead_hides_none_that_came_later(tmp_path: Path) -> None:
    work = work_of(tmp_path, ["a", "b"])
    ahead = "2999-01-01T00:00:00+00:00"
    write(work, line("a", ended_at=ahead, detail=DEAD))
    append(work, Fetched("transient", "HTTP Error 503"), attempt=2)
    refresh(work)
    assert found(work) == {"a": "transient", "b": "missing"}
    # Nor one in another file, which is all that there is to go by.
    write(work, line("b", ended_at=ahead, detail=DEAD), file="001_of_002")
    write(work, line("b", detail="HTTP Error 503"), file="002_of_002")
    refresh(work)
    assert found(work) == {"a": "transient", "b": "transient"}


def test_a_file_that_was_fetched_again_by_an_earlier_clock_is_the_one_there(tmp_path: Path) -> None:
    work = work_of(tmp_path, ["a"])
    for year, size in ((2030, 5), (2020, 7)):
        file = file_of(work, "a", size=size)
        append(work, Fetched("ok", None, "whole", (file,)))
        path = work / "ledger" / "001_of_001.jsonl"
        made = [json.loads(text) for text in path.read_text().splitlines()]
        made[-1]["ended_at"] = f"{year}-01-01T00:00:00+00:00"
        write(work, *made)
    refresh(work)
    assert [row["bytes"] for row in sources(work).values()] == [7]


# --- shapes

WRONG: list[dict[str, Any]] = [
    {"status": "of another version"},
    {"status": 7},
    {"status": None},
    {"youtube_id": "../../../up"},
    {"youtube_id": vid("a") + "\n"},
    {"attempt": -1},
    {"attempt": 2**40},
    {"attempt": "first"},
    {"clips": "all"},
    {"clips": [None]},
    {"clips": {"a": 1}},
    {"files": None},
    {"files": [None]},
    {"files": [7]},
    {"files": [{"uri": "/x", "num_bytes": -1, "starts_at_s": 0.0, "clips": []}]},
    {"files": [{"uri": "/x", "num_bytes": 1, "starts_at_s": float("nan"), "clips": []}]},
    {"files": [{"uri": None, "num_bytes": 1, "starts_at_s": 0.0, "clips": []}]},
    {"kind": "halves"},
    {"num_bytes": -1},
    {"seconds": float("inf")},
    {"ended_at": "yesterday"},
    {"ended_at": "99999-01-01"},
    {"keep": None},
]


def test_a_line_of_another_shape_costs_no_other_and_is_said(tmp_path: Path) -> None:
    path = write(tmp_path, line(), *(line(**wrong) for wrong in WRONG), line())
    rows, remarks = read(tmp_path)
    assert rows == [("gone", DEAD, False)] * 2
    assert remarks == [
        f"{len(WRONG):,} of the lines in {path} are no attempts that k710 wrote, and don't count; "
        "the first is line 2."
    ]


@pytest.mark.parametrize(
    "text",
    ["[]", "7", "null", "{}", "\0" * 50, "[" * 100_000, '{"a":' * 9_000, "\udcff", '"x', "\ufeff"],
    ids=repr,
)
def test_what_is_no_line_at_all_costs_no_other(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, line())
    path.write_bytes(path.read_bytes() * 2 + text.encode(errors="surrogateescape"))
    append(tmp_path, Fetched("gone", DEAD))
    assert read(tmp_path) == ([("gone", DEAD, False)] * 3, [])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)


@settings(max_examples=20)
@given(st.dictionaries(st.sampled_from([*line(), "x"]), JSON, min_size=1, max_size=3))
def test_whatever_a_line_says_it_is_read_or_left_out(changed: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        write(Path(temporary), line(), line(**changed), line())
        rows, remarks = read(Path(temporary))
    assert len(rows) in (2, 3) and len(remarks) <= 3 - len(rows)
    assert rows[0] == rows[-1] == ("gone", DEAD, False)


def test_names_that_are_no_parts_and_folders_are_left_alone(tmp_path: Path) -> None:
    write(tmp_path, line())
    for name in ("a_of_b", "005_of_003", "0_of_0", "9" * 50 + "_of_1"):
        write(tmp_path, line(), file=name)
    (tmp_path / "ledger" / "folder.jsonl").mkdir()
    (tmp_path / "ledger" / "nowhere.jsonl").symlink_to(tmp_path / "nowhere")
    assert others_at_work(tmp_path, Part(1, 1)) == []
    assert len(read(tmp_path)[0]) == 5 and ledger_sha256(tmp_path)
