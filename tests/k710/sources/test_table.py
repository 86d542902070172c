"""sources.parquet after shard runs and downloads, and files that could be several windows."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from k710.download.ytdlp import Fetched
from k710.errors import SchemaError, StageError
from k710.sources.index import index_videos
from k710.sources.table import is_current, open_sources, refresh_sources, source_tables
from k710.tables.schemas import OUTCOMES
from support.list_files import vid
from support.small_manifest import (
    clip,
    manifest_of,
    open_work,
    outcome,
    pack,
    paths,
    put,
    record,
    refresh,
    rivals_in,
    sources,
)
from support.small_site import append, file_of
from support.small_tables import own_bytes, rewrite_table

A = ("archery", "a", 0, 10)
B = ("bowling", "b", 5, 15)
PROBED = {"tool": "probe av 1", "sha256": "0" * 64, "width": 64}


def indexed(folder: Path, files: dict[str, int], *rows: Any) -> tuple[Path, Path]:
    """A work directory whose manifest has `rows`, and the folder of `files`, indexed."""
    work = manifest_of(folder, *rows)
    videos = put(folder / "videos", files)
    index_videos([videos], work=work)
    return work, videos


# --- outcomes of shards


def test_what_is_stored_stays_as_it_was_stored(tmp_path: Path) -> None:
    work, videos = indexed(tmp_path, {f"{clip('a')}.mp4": 5, f"{clip('b', 5)}.mp4": 6}, A, B)
    seen = {"width": 320, "num_frames": 300, "duration_s": 10.0, "codec": "h264"}
    outcome(work, 0, {"clip_id": clip("a"), "stored": True, "detail": "9.2 of 10 s", **seen})
    refresh(work)
    stored = sources(work)[clip("a")]
    assert stored.items() >= {"status": "ok", "bytes": 5, "tool": "shard av 1", **seen}.items()
    (videos / f"{clip('a')}.mp4").unlink()
    put(tmp_path / "more", {f"{clip('a')}.mp4": 9})
    summary = index_videos([videos, tmp_path / "more"], work=work)
    assert sources(work)[clip("a")] == stored
    assert summary.duplicates == 1


def test_an_outcome_counts_as_long_as_the_copy_is_the_same(tmp_path: Path) -> None:
    work, videos = indexed(tmp_path, {f"{clip('a')}.mp4": 5}, A)
    broken = {"status": "damaged", "detail": "broken", "stored": False, "codec": "h264"}
    outcome(work, 3, {"clip_id": clip("a"), **broken})
    for again in (refresh, lambda work: index_videos([videos], work=work)):
        again(work)
        row = sources(work)[clip("a")]
        assert (row["status"], row["detail"], row["tool"]) == ("damaged", "broken", "shard av 1")
    put(videos, {f"{clip('a')}.mp4": 6})
    index_videos([videos], work=work)
    row = sources(work)[clip("a")]
    assert (row["status"], row["detail"], row["tool"]) == ("ok", None, "index")
    put(videos, {f"{clip('a')}.mp4": 5})
    index_videos([videos], work=work)
    assert sources(work)[clip("a")]["status"] == "damaged"


KILL = """
import os, signal, sys
from pathlib import Path
left = int(sys.argv[2])
def hook(event, args):
    global left
    writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
    if writes or event in ("os.rename", "os.remove"):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
import k710.sources.table
from k710.tables.connection import connect
with connect(Path(sys.argv[1]), memory_limit="1GB", threads=1) as con:
    sys.addaudithook(hook)
    k710.sources.table.refresh_sources(con, Path(sys.argv[1]))
"""


@pytest.mark.parametrize("every", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_before_any_of_its_writes_no_copy_is_forgotten(tmp_path: Path, every: int) -> None:
    begun, _ = indexed(tmp_path, {f"{clip('a')}.mp4": 5, f"{clip('b', 5)}.mp4": 6}, A, B)
    broken = {"status": "damaged", "detail": "broken", "stored": False}
    outcome(begun, 0, {"clip_id": clip("a"), **broken})
    for step in range(1, 30, every):
        work = tmp_path / str(step)
        shutil.copytree(begun, work)
        run = subprocess.run([sys.executable, "-B", "-c", KILL, work, str(step)])
        refresh(work)
        found = {clip_id: (row["status"], row["uri"]) for clip_id, row in sources(work).items()}
        assert {status for status, uri in found.values() if uri} == {"damaged", "ok"}
        assert not list(work.glob("*.next")) and not list(work.glob("*.tmp"))
        if run.returncode == 0:
            break
        assert run.returncode == -signal.SIGKILL
    assert 3 < step < 29


def test_of_several_outcomes_that_of_the_last_shard_counts(tmp_path: Path) -> None:
    work, _ = indexed(tmp_path, {f"{clip('a')}.mp4": 5, f"{clip('b', 5)}.mp4": 5}, A, B)
    for shard, status in ((2, "truncated"), (10, "ok"), (1, "damaged")):
        rows = [{"clip_id": clip("a"), "status": status, "stored": shard != 1}]
        if shard == 10:
            rows.append({"clip_id": clip("b", 5), "status": "failed", "stored": False})
        outcome(work, shard, *rows)
    refresh(work)
    found = {clip_id: row["status"] for clip_id, row in sources(work).items()}
    assert found == {clip("a"): "ok", clip("b", 5): "failed"}


def test_a_copy_that_was_gone_counts_again_when_it_is_there(tmp_path: Path) -> None:
    work, videos = indexed(tmp_path, {f"{clip('a')}.mp4": 5}, A)
    record(work, clip("a"), **PROBED)
    before = sources(work)[clip("a")]
    videos.rename(tmp_path / "away")
    outcome(work, 0, {"clip_id": clip("a"), "status": "missing", "detail": "no", "stored": False})
    refresh(work)
    (tmp_path / "other").mkdir()
    for again in (refresh, lambda work: index_videos([tmp_path / "other"], work=work)):
        again(work)
        row = sources(work)[clip("a")]
        assert row["status"] == "missing"
        assert row["detail"] == "can't be read: No such file or directory"
    (tmp_path / "away").rename(videos)
    assert is_current(work), "nobody has looked"
    refresh(work)
    assert sources(work)[clip("a")] == before, "what a probe said of it holds"


def test_outcomes_of_shards_that_are_not_done_do_not_count(tmp_path: Path) -> None:
    work, _ = indexed(tmp_path, {f"{clip('a')}.mp4": 5}, A)
    outcome(work, 0, {"clip_id": clip("a"), "status": "damaged", "stored": False})
    (work / "outcomes" / "000000.parquet.json").unlink()
    refresh(work)
    assert sources(work)[clip("a")]["status"] == "ok"


def test_outcomes_that_can_not_be_read_are_said(tmp_path: Path) -> None:
    work, _ = indexed(tmp_path, {f"{clip('a')}.mp4": 5}, A)
    outcome(work, 0, {"clip_id": clip("a"), "status": "damaged", "stored": False})
    path = work / "outcomes" / "000000.parquet"
    good = path.read_bytes()
    path.write_bytes(good[:200])
    with pytest.raises(StageError, match=r"000000\.parquet is not the table that 000000"):
        refresh(work)
    own_bytes(path)
    with pytest.raises(StageError, match=r"000000\.parquet can't be read \(.*\)\.\nRemove it, and"):
        refresh(work)
    path.write_bytes(good)
    rewrite_table(path, "select * exclude (detail) from whole")
    with pytest.raises(SchemaError, match="column detail should be VARCHAR and is missing"):
        refresh(work)
    path.write_bytes(good)
    own_bytes(path, schema=dict(OUTCOMES.columns))
    refresh(work)


# --- refresh


def test_a_refresh_searches_no_folder_and_changes_nothing(tmp_path: Path) -> None:
    work, videos = indexed(tmp_path, {f"{clip('a')}.mp4": 5, f"{vid('b')}.mp4": 6}, A, B)
    pack(videos / "a.tar", {f"x/{clip('a')}.mp4": 9})
    index_videos([videos], work=work)
    before = (work / "sources.parquet").read_bytes()
    for path in videos.iterdir():
        path.unlink()
    refresh(work)
    assert (work / "sources.parquet").read_bytes() == before


def test_without_copies_every_clip_is_missing(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, A, B)
    refresh(work)
    assert {row["status"] for row in sources(work).values()} == {"missing"}


def test_a_refresh_needs_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"manifest\.parquet\.\nBuild it: k710 build-manifest"):
        refresh(tmp_path)


def test_a_refresh_leaves_nothing_on_the_connection(tmp_path: Path) -> None:
    work, _ = indexed(tmp_path, {f"{clip('a')}.mp4": 5}, A)
    with open_work(work) as con:
        con.execute("create temp table mine (x int)").fetchall()
        refresh_sources(con, work)
        tables = {name for (name,) in con.execute("show tables").fetchall()}
        assert tables == {"mine", "statuses", "manifest", "sources"}
        with pytest.raises(ZeroDivisionError), source_tables(con, work):
            _ = 1 / 0
        assert {name for (name,) in con.execute("show tables").fetchall()} == tables


# --- downloads


def test_what_a_download_found_out_stays_until_there_is_a_copy(tmp_path: Path) -> None:
    work, videos = indexed(tmp_path, {}, A, B)
    record(work, clip("a"), status="private", detail="Private video", tool="download 1")
    record(work, clip("b", 5), status="transient", tool="download 1")
    refresh(work)
    found = {clip_id: row["status"] for clip_id, row in sources(work).items()}
    assert found == {clip("a"): "private", clip("b", 5): "transient"}
    summary = index_videos([put(videos, {f"{clip('b', 5)}.mp4": 1})], work=work)
    rows = sources(work)
    assert (rows[clip("a")]["status"], rows[clip("a")]["detail"]) == ("private", "Private video")
    assert (rows[clip("b", 5)]["status"], rows[clip("b", 5)]["tool"]) == ("ok", "index")
    view = next(view for view in summary.views if view.view == "k400/train")
    assert (view.found, view.missing, view.statuses) == (1, 1, {"ok": 1, "private": 1})


def test_a_download_counts_whatever_its_name(tmp_path: Path) -> None:
    work, _ = indexed(tmp_path, {f"{vid('a')}.mp4": 50}, A, B)
    file = file_of(work, "b", clip("b", 5), starts_at_s=3.0, size=9)
    append(work, Fetched("ok", None, "sections", (file,)), "b", clips=((clip("b", 5), 5, 15),))
    refresh(work)
    index_videos([put(tmp_path / "more", {f"{vid('b')}.mp4": 10})], work=work)
    row = sources(work)[clip("b", 5)]
    assert (row["trimmed"], row["starts_at_s"]) == (None, None), "the larger one"
    index_videos([put(tmp_path / "more", {f"{vid('b')}.mp4": 1})], work=work)
    row = sources(work)[clip("b", 5)]
    assert (row["uri"], row["trimmed"], row["starts_at_s"]) == (file.uri, False, 3.0)
    index_videos([put(tmp_path / "more", {f"{clip('b', 5)}.mp4": 1})], work=work)
    assert paths(work, tmp_path)[clip("b", 5)] == f"more/{clip('b', 5)}.mp4"


def whole(work: Path, name: str, *, size: int = 5, **more: Any) -> str:
    """An attempt that left the whole video; returns its path."""
    file = file_of(work, name, size=size)
    append(work, Fetched("ok", None, "whole", (file,)), name, **more)
    return file.uri


def test_the_downloads_are_copies_whether_they_are_indexed_or_not(tmp_path: Path) -> None:
    work, _ = indexed(tmp_path, {}, A, B)
    uri = whole(work, "a")
    section = file_of(work, "b", clip("b", 5), starts_at_s=2.5)
    append(work, Fetched("ok", None, "sections", (section,)), "b", clips=((clip("b", 5), 5, 15),))
    refresh(work)
    before = sources(work)
    assert (before[clip("a")]["uri"], before[clip("a")]["starts_at_s"]) == (uri, 0.0)
    assert (before[clip("b", 5)]["uri"], before[clip("b", 5)]["starts_at_s"]) == (section.uri, 2.5)
    index_videos([work / "downloads"], work=work)
    after = sources(work)
    for row, other in zip(before.values(), after.values(), strict=True):
        assert {**row, "tool": None} == {**other, "tool": None}
    Path(uri).unlink()
    index_videos([work / "downloads"], work=work)
    assert sources(work)[clip("a")]["status"] == "missing"


def test_a_copy_of_the_users_that_is_trimmed_comes_before_a_download(tmp_path: Path) -> None:
    work, _ = indexed(tmp_path, {f"{clip('a')}.mp4": 5}, A)
    whole(work, "a", size=500)
    refresh(work)
    assert paths(work, tmp_path)[clip("a")] == f"videos/{clip('a')}.mp4"


def test_a_video_that_is_fetched_again_counts_anew(tmp_path: Path) -> None:
    work, _ = indexed(tmp_path, {}, A)
    whole(work, "a")
    refresh(work)
    outcome(work, 0, {"clip_id": clip("a"), "status": "damaged", "stored": False})
    refresh(work)
    assert sources(work)[clip("a")]["status"] == "damaged"
    whole(work, "a", size=7, attempt=2)
    refresh(work)
    row = sources(work)[clip("a")]
    assert (row["status"], row["bytes"]) == ("ok", 7)


def test_a_failure_to_fetch_it_again_leaves_the_copy_as_it_was(tmp_path: Path) -> None:
    work, _ = indexed(tmp_path, {}, A)
    whole(work, "a")
    refresh(work)
    outcome(work, 0, {"clip_id": clip("a"), "status": "damaged", "stored": False})
    append(work, Fetched("gone", "410"), attempt=2)
    refresh(work)
    assert sources(work)[clip("a")]["status"] == "damaged"


def test_a_video_that_went_is_a_copy_of_none_that_is_not_stored(tmp_path: Path) -> None:
    work, _ = indexed(tmp_path, {}, A, ("bowling", "a", 40, 50))
    whole(work, "a", keep=False, clips=((clip("a"), 0, 10),))
    refresh(work)
    assert {row["status"] for row in sources(work).values()} == {"ok"}
    outcome(work, 0, {"clip_id": clip("a"), "stored": True})
    refresh(work)
    rows = sources(work)
    assert rows[clip("a")]["status"] == "ok"
    assert (rows[clip("a", 40)]["status"], rows[clip("a", 40)]["uri"]) == ("missing", None)
    whole(work, "a", keep=False, clips=((clip("a", 40), 40, 50),), attempt=2)
    refresh(work)
    assert sources(work)[clip("a", 40)]["status"] == "ok"


# --- a file named after its id alone

TWO = (A, ("bowling", "a", 40, 50))


def test_a_trimmed_file_that_could_be_two_windows_is_none_of_them(tmp_path: Path) -> None:
    work, videos = indexed(tmp_path, {f"x/{vid('a')}.mp4": 5}, *TWO)
    record(work, clip("a"), trimmed=True, starts_at_s=0.0, **PROBED)
    for again in (refresh, lambda work: index_videos([videos], work=work)):
        again(work)
        for clip_id, row in sources(work).items():
            assert (row["status"], row["trimmed"], row["tool"]) == ("missing", True, "index")
            assert row["detail"] == (
                "this trimmed copy could be any of 2 windows: rename it to ID_start_end, "
                f"like {clip_id}"
            )
    summary = index_videos([videos], work=work)
    assert summary.remarks == (
        "2 missing clips have a copy that can't be used; `detail` in sources.parquet says why. "
        f"The first: {clip('a')}",
    )
    (videos / "x" / f"{vid('a')}.mp4").rename(videos / "x" / f"{clip('a', 40)}.mp4")
    index_videos([videos], work=work)
    assert paths(work, videos) == {clip("a"): None, clip("a", 40): f"x/{clip('a', 40)}.mp4"}
    assert sources(work)[clip("a")]["detail"] is None


@pytest.mark.parametrize("folder", ["bowling", "Bowling", "bowling.tar:", "val/bowling.tar.gz:./"])
def test_its_folder_can_tell_which_window_it_is(tmp_path: Path, folder: str) -> None:
    work = manifest_of(tmp_path, *TWO)
    videos = tmp_path / "videos"
    archive, colon, inside = folder.rpartition(":")
    if colon:
        pack(videos / archive, {f"{inside}{vid('a')}.mp4": 5})
    else:
        put(videos, {f"{folder}/{vid('a')}.mp4": 5})
    index_videos([videos], work=work)
    assert rivals_in(work) == {clip("a"): 2}
    record(work, clip("a"), clip("a", 40), trimmed=True, starts_at_s=40.0, **PROBED)
    rows = sources(work)
    assert (rows[clip("a")]["status"], rows[clip("a")]["uri"]) == ("missing", None)
    assert (rows[clip("a", 40)]["status"], rows[clip("a", 40)]["width"]) == ("ok", 64)


@pytest.mark.parametrize("folder", ["archery", "yoga", "vol_00", "no-class"])
def test_a_folder_that_names_no_window_or_several_does_not_tell(
    tmp_path: Path, folder: str
) -> None:
    rows = (("archery", "a", 0, 10), ("archery", "a", 40, 50))
    work, _ = indexed(tmp_path, {f"{folder}/{vid('a')}.mp4": 5}, *rows)
    assert rivals_in(work) == {clip("a"): 2, clip("a", 40): 2}
    record(work, clip("a"), trimmed=True, starts_at_s=0.0, **PROBED)
    assert {row["status"] for row in sources(work).values()} == {"missing"}


def test_a_window_of_another_length_can_not_be_it(tmp_path: Path) -> None:
    work, _ = indexed(tmp_path, {f"{vid('a')}.mp4": 5}, A, ("yoga", "a", 40, 47))
    assert rivals_in(work) == {}
    record(work, clip("a", 40, 47), trimmed=True, starts_at_s=40.0, duration_s=7.0, **PROBED)
    rows = sources(work)
    assert (rows[clip("a")]["status"], rows[clip("a")]["uri"]) == ("missing", None)
    assert rows[clip("a", 40, 47)]["status"] == "ok"


def test_a_whole_video_stays_the_copy_of_all(tmp_path: Path) -> None:
    work, _ = indexed(tmp_path, {f"{vid('a')}.mp4": 5}, *TWO)
    record(work, clip("a"), trimmed=False, starts_at_s=0.0, **PROBED)
    assert [row["status"] for row in sources(work).values()] == ["ok", "ok"]


def test_a_copy_that_is_another_window_makes_room_for_the_next(tmp_path: Path) -> None:
    files = {f"x/{vid('a')}.mp4": 9, f"y/{vid('a')}.mkv": 5}
    work, videos = indexed(tmp_path, files, *TWO)
    with open_work(work) as con, source_tables(con, work):
        pass
    record(work, clip("a"), clip("a", 40), trimmed=True, starts_at_s=0.0, **PROBED)
    index_videos([videos], work=work)
    assert set(paths(work, videos).values()) == {f"y/{vid('a')}.mkv"}


def test_rivals_are_only_of_files_whose_window_is_not_known(tmp_path: Path) -> None:
    rows = (*TWO, ("yoga", "b", 0, 10), ("yoga", "b", 50, 60), ("yoga", "c", 0, 10))
    files = {
        f"{vid('a')}.mp4": 5,
        f"{clip('b')}.mp4": 5,
        f"{vid('b')}.mp4": 5,
        f"{vid('c')}.mp4": 5,
    }
    work, _ = indexed(tmp_path, files, *rows)
    assert rivals_in(work) == {clip("a"): 2, clip("a", 40): 2, clip("b", 50): 2}
    record(work, clip("a"), trimmed=False, starts_at_s=0.0, **PROBED)
    assert rivals_in(work) == {clip("a", 40): 2, clip("b", 50): 2}


def test_a_table_of_other_rules_is_not_read_on(tmp_path: Path) -> None:
    work, _ = indexed(tmp_path, {f"{clip('a')}.mp4": 5}, A)
    sidecar = work / "sources.parquet.json"
    sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), "fingerprint": "of others"}))
    with open_work(work) as con:
        with pytest.raises(StageError, match=r"another version of k710\.\n.*k710 index --videos"):
            open_sources(con, work)
        assert not is_current(work)
        refresh_sources(con, work)
        open_sources(con, work)
