"""What a second look at copies changes: files that moved, went, came back, or are others now."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from k710.download.ytdlp import Fetched
from k710.errors import StageError
from k710.sources.index import index_videos
from k710.sources.table import is_current
from support.list_files import vid
from support.small_manifest import (
    clip,
    copies,
    manifest_of,
    outcome,
    pack,
    paths,
    put,
    record,
    refresh,
    sources,
)
from support.small_site import append, file_of

A = ("archery", "a", 0, 10)
B = ("bowling", "b", 5, 15)
KNOWN = {"status": "damaged", "detail": "broken", "tool": "probe av 1", "sha256": "0" * 64}


def known(work: Path, name: str = "a") -> tuple[Any, ...]:
    row = sources(work)[clip(name)]
    return row["status"], row["detail"], row["sha256"], row["tool"]


def gone_remark(num: int, first: Path) -> str:
    return (
        f"{num} copies that were known are not there any more, or can't be read. The first: "
        f"{first} can't be read: No such file or directory. What was moved is found by k710 index "
        "--videos DIR"
    )


# --- moved


@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_what_moved_is_found_there_and_forgotten_here(tmp_path: Path, kind: str) -> None:
    work = manifest_of(tmp_path, A, B)
    names = {f"archery/{clip('a')}.mp4": 5, f"{vid('b')}.mp4": 6}
    if kind == "folder":
        old = put(tmp_path / "old", names)
    else:
        old = pack(tmp_path / f"old.{kind}", names)
    index_videos([old], work=work)
    new = old.rename(tmp_path / old.name.replace("old", "new"))
    summary = index_videos([new], work=work)
    assert (summary.videos, summary.used, summary.duplicates, summary.remarks) == (2, 2, 0, ())
    assert {Path(row["uri"]).relative_to(tmp_path).parts[0] for row in copies(work)} == {
        "new" if kind == "folder" else new.name
    }
    assert {row["status"] for row in sources(work).values()} == {"ok"}


def test_of_a_folder_that_moved_in_part_both_parts_count(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, A, B)
    old = put(tmp_path / "old", {f"x/{clip('a')}.mp4": 5, f"y/{clip('b', 5)}.mp4": 6})
    index_videos([old], work=work)
    (old / "y").rename(tmp_path / "new")
    summary = index_videos([tmp_path / "new"], work=work)
    assert paths(work, tmp_path) == {
        clip("a"): f"old/x/{clip('a')}.mp4",
        clip("b", 5): f"new/{clip('b', 5)}.mp4",
    }
    assert (summary.used, summary.duplicates) == (2, 0)


@pytest.mark.slow
def test_a_class_folder_that_was_renamed(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, A)
    videos = put(tmp_path / "videos", {f"archery_/{clip('a')}.mp4": 5})
    index_videos([videos / "archery_"], work=work)
    (videos / "archery_").rename(videos / "archery")
    summary = index_videos([videos], work=work)
    assert (summary.used, summary.duplicates) == (1, 0)
    assert paths(work, videos)[clip("a")] == f"archery/{clip('a')}.mp4"


@pytest.mark.parametrize(
    "kind", [pytest.param("larger", marks=pytest.mark.slow), "trimmed", "in a tar"]
)
def test_a_path_that_is_gone_never_wins(tmp_path: Path, kind: str) -> None:
    work = manifest_of(tmp_path, A)
    name = f"{clip('a')}.mp4" if kind != "trimmed" else f"{vid('a')}.mp4"
    if kind == "in a tar":
        old = pack(tmp_path / "0.tar", {f"{clip('a')}.mp4": 99})
        index_videos([old], work=work)
        old.unlink()
    else:
        old = put(tmp_path / "0", {f"{clip('a')}.mp4": 99})
        index_videos([old], work=work)
        shutil.rmtree(old)
    summary = index_videos([put(tmp_path / "1", {name: 5})], work=work)
    assert paths(work, tmp_path)[clip("a")] == f"1/{name}"
    first = old if kind == "in a tar" else old / f"{clip('a')}.mp4"
    assert (summary.used, summary.remarks) == (1, (gone_remark(1, first),))
    put(tmp_path / "0", {f"{clip('a')}.mp4": 99})  # it may come back
    if kind == "in a tar":
        pack(old, {f"{clip('a')}.mp4": 99})
    refresh(work)
    assert sources(work)[clip("a")]["bytes"] == 99


def test_what_is_gone_and_has_no_other_is_missing_until_it_is_back(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, A)
    disk = put(tmp_path / "disk", {f"{clip('a')}.mp4": 5})
    index_videos([disk], work=work)
    record(work, clip("a"), **KNOWN)
    disk.rename(tmp_path / "away")
    for _ in range(2):
        summary = index_videos([put(tmp_path / "none", {})], work=work)
        assert gone_remark(1, disk / f"{clip('a')}.mp4") in summary.remarks
        view = next(view for view in summary.views if view.view == "k400/train")
        assert (view.found, view.missing, view.duplicates) == (0, 1, 0)
    (tmp_path / "away").rename(disk)
    index_videos([tmp_path / "none"], work=work)
    assert known(work) == tuple(KNOWN[name] for name in ("status", "detail", "sha256", "tool"))


def test_a_new_file_at_the_old_path_is_another(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, A)
    old = put(tmp_path / "old", {f"{clip('a')}.mp4": 5})
    index_videos([old], work=work)
    record(work, clip("a"), **KNOWN)
    old.rename(tmp_path / "new")
    put(old, {f"{clip('a')}.mp4": 7})
    index_videos([tmp_path / "new"], work=work)
    row = sources(work)[clip("a")]
    assert (row["uri"], row["bytes"]) == (f"{old}/{clip('a')}.mp4", 7)
    assert known(work) == ("ok", None, None, "index")


def test_downloads_that_moved_are_what_the_ledger_says(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, A, B)
    whole = file_of(work, "a", size=5)
    append(work, Fetched("ok", None, "whole", (whole,)))
    section = file_of(work, "b", clip("b", 5), starts_at_s=2.5, size=6)
    append(work, Fetched("ok", None, "sections", (section,)), "b", clips=((clip("b", 5), 5, 15),))
    refresh(work)
    before = sources(work)
    (work / "downloads").rename(tmp_path / "kept")
    index_videos([tmp_path / "kept"], work=work)
    for clip_id, row in sources(work).items():
        assert row["uri"].startswith(f"{tmp_path}/kept/ab/")
        assert {**row, "uri": None} == {**before[clip_id], "uri": None}
    shutil.move(tmp_path / "kept", work / "downloads")
    refresh(work)
    assert {row["status"] for row in sources(work).values()} == {"ok"}


@pytest.mark.slow
def test_of_the_same_videos_on_two_mounts_the_choice_is_by_path(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, A)
    for name in ("m2", "m1"):
        index_videos([put(tmp_path / name, {f"{clip('a')}.mp4": 5})], work=work)
    assert paths(work, tmp_path)[clip("a")] == f"m1/{clip('a')}.mp4"
    shutil.rmtree(tmp_path / "m1")
    index_videos([tmp_path / "m2"], work=work)
    assert paths(work, tmp_path)[clip("a")] == f"m2/{clip('a')}.mp4"


# --- another file of the same size


@pytest.mark.parametrize(
    ("how", "of"),
    [
        ("written anew", "shard"),
        ("another of its time", "probe"),
        pytest.param("touched", "shard", marks=pytest.mark.slow),
        pytest.param("written anew", "probe", marks=pytest.mark.slow),
    ],
)
def test_what_was_said_of_another_file_there_does_not_count(
    tmp_path: Path, how: str, of: str
) -> None:
    work = manifest_of(tmp_path, A)
    path = put(tmp_path / "videos", {f"{clip('a')}.mp4": 5}) / f"{clip('a')}.mp4"
    index_videos([path.parent], work=work)
    if of == "probe":
        record(work, clip("a"), **KNOWN)
    else:
        stamp = copies(work)[0]
        tried = {"mtime_ns": stamp["mtime_ns"], "inode": stamp["inode"], **KNOWN, "tool": "shard 1"}
        outcome(work, 0, {"clip_id": clip("a"), "stored": False, **tried})
        refresh(work)
    index_videos([path.parent], work=work)
    assert known(work)[0] == "damaged", "the same file"
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    if how == "another of its time":
        path.rename(tmp_path / "former")  # or its inode would be used again
        path.write_bytes(b"sound")
        os.utime(path, ns=times)
    elif how == "touched":
        os.utime(path, ns=(times[0], times[1] + 1))
    else:
        path.write_bytes(b"sound")
    index_videos([path.parent], work=work)
    assert known(work) == ("ok", None, None, "index")
    refresh(work)
    assert known(work) == ("ok", None, None, "index")


def test_a_member_is_another_where_its_archive_is(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, A)
    archive = pack(tmp_path / "a.tar", {f"{clip('a')}.mp4": 5})
    index_videos([archive], work=work)
    record(work, clip("a"), **KNOWN)
    index_videos([archive], work=work)
    assert known(work)[0] == "damaged"
    pack(archive, {f"{clip('a')}.mp4": 5})
    index_videos([put(tmp_path / "elsewhere", {})], work=work)
    assert known(work) == ("ok", None, None, "index")


def test_a_download_that_was_fetched_again_at_its_size_counts_anew(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, A)
    append(work, Fetched("ok", None, "whole", (file_of(work, "a", size=5),)))
    refresh(work)
    stat = (work / "downloads" / "ab" / f"{vid('a')}.mp4").stat()
    tried = {"mtime_ns": stat.st_mtime_ns, "inode": stat.st_ino}
    outcome(work, 0, {"clip_id": clip("a"), "status": "damaged", "stored": False, **tried})
    refresh(work)
    assert known(work)[0] == "damaged"
    again = Fetched("ok", None, "whole", (file_of(work, "a", size=5),))
    append(work, again, attempt=2)
    refresh(work)
    assert known(work)[0] == "ok"


# --- tables of before


def test_tables_without_copies_are_understood(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, A, B)
    index_videos([put(tmp_path / "v", {f"{clip('a')}.mp4": 5, f"{vid('b')}.mp4": 6})], work=work)
    record(work, clip("a"), **KNOWN)
    outcome(work, 0, {"clip_id": clip("b", 5), "status": "empty", "stored": False})
    refresh(work)
    before = sources(work)
    for path in work.glob("copies.parquet*"):
        path.unlink()
    shutil.rmtree(work / "tries", ignore_errors=True)
    assert not is_current(work)
    refresh(work)
    assert sources(work) == before and is_current(work)


@pytest.mark.parametrize("name", ["sources", "copies"])
def test_a_table_that_can_not_be_read_is_written_anew(tmp_path: Path, name: str) -> None:
    work = manifest_of(tmp_path, A)
    videos = put(tmp_path / "v", {f"{clip('a')}.mp4": 5})
    index_videos([videos], work=work)
    before = sources(work)
    (work / f"{name}.parquet").write_bytes(b"PAR1 and no more")
    summary = index_videos([videos], work=work)
    assert sources(work) == before
    assert [f"{name}.parquet is not the table" in line for line in summary.remarks] == [True]


@pytest.mark.parametrize("name", ["copies", "sources"])
def test_what_is_known_of_copies_is_not_lost_in_silence(tmp_path: Path, name: str) -> None:
    """Whoever may not search folders, as a shard run, says which command does."""
    work = manifest_of(tmp_path, A)
    index_videos([put(tmp_path / "v", {f"{clip('a')}.mp4": 5})], work=work)
    (work / f"{name}.parquet").write_bytes(b"PAR1 and no more")
    words = rf"{name}\.parquet is not the table.*\n.*Build it again: k710 index --videos DIR --work"
    with pytest.raises(StageError, match=words):
        refresh(work)
