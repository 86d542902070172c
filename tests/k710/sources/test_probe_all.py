"""What `--probe` says of copies in folders and archives, and that it goes on where it stopped."""

import hashlib
import io
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from k710.engines.local import Failed
from k710.sources import probe_all as probing
from k710.sources.clip_source import ChosenCopy, ClipSource
from k710.sources.index import index_videos
from k710.sources.probe_all import ProbeTask, probe_copies, probe_task
from k710.video.byte_range import ByteRange
from k710.video.cut import Window
from support.list_files import vid
from support.made_videos import Format, make_video
from support.small_manifest import clip, copies, manifest_of, outcome, refresh, sources
from support.small_shards import write_video

TOOL = f"probe av {av.__version__}"


@cache
def video(seconds: int, *, fps: int = 4) -> bytes:
    """An MP4 of that length, 32 x 16, as small as can be."""
    return make_video(
        io.BytesIO(),
        range(seconds * fps),
        format=Format(codec="mpeg4"),
        rate=fps,
        size=(32, 16),
        draw=lambda number, _: np.full((16, 32, 3), number % 256, np.uint8),
    ).getvalue()


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def pack(path: Path, files: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def archery(*names: str) -> list[tuple[str, str, int, int]]:
    return [("archery", name, 10, 20) for name in names]


def no_probe(*_: Any, **__: Any) -> Iterator[Any]:
    raise AssertionError("probed again")


def test_each_copy_is_looked_into_wherever_it_lies(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, *archery("a", "b", "c", "d", "e", "f", "g"))
    videos = tmp_path / "videos"
    write(videos / f"{clip('a', 10)}.mp4", video(10))
    write(videos / f"{clip('b', 10)}.mp4", b"no video at all" * 50)
    write(videos / f"{clip('c', 10)}.mp4", b"")
    pack(
        videos / "d.tar",
        {"x": b"x", f"{clip('d', 10)}.mp4": video(7), f"{vid('e')}.mp4": video(30)},
    )
    pack(
        videos / "f.tar.gz", {"x": b"x", f"{clip('f', 10)}.mp4": video(10), f"{vid('e')}.mkv": b"x"}
    )
    told: list[tuple[str, int, int | None]] = []
    summary = index_videos(
        [videos], work=work, probe=True, workers=2, on_progress=lambda *call: told.append(call)
    )
    rows = sources(work)
    statuses = {clip_id[0]: (row["status"], row["trimmed"]) for clip_id, row in rows.items()}
    assert statuses == {
        "a": ("ok", True),
        "b": ("damaged", True),
        "c": ("empty", True),
        "d": ("truncated", True),
        "e": ("ok", False),
        "f": ("ok", True),
        "g": ("missing", None),
    }
    assert {row["tool"] for row in rows.values() if row["uri"]} == {TOOL}
    facts = ("width", "height", "fps", "num_frames", "duration_s", "codec", "starts_at_s")
    assert [rows[clip("e", 10)][name] for name in facts] == [32, 16, 4.0, 120, 30.0, "mpeg4", 0.0]
    assert [rows[clip("f", 10)][name] for name in facts] == [32, 16, 4.0, 40, 10.0, "mpeg4", 10.0]
    assert len(rows[clip("a", 10)]["sha256"]) == 64
    view = next(view for view in summary.views if view.view == "k400/train")
    assert (view.found, view.missing) == (6, 1)
    assert view.statuses == {"damaged": 1, "empty": 1, "missing": 1, "ok": 3, "truncated": 1}
    assert told[-1] == ("probing", 6, 6)
    assert {path.name for path in work.iterdir() if path.name.startswith(".")} == {".lock"}


def test_what_was_looked_into_is_not_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = manifest_of(tmp_path, *archery("a", "b"))
    write(tmp_path / "videos" / f"{clip('a', 10)}.mp4", video(10))
    write(tmp_path / "videos" / f"{vid('b')}.mp4", video(30))
    index_videos([tmp_path / "videos"], work=work, probe=True, workers=1)
    before = (work / "sources.parquet").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(probing, "probe_copies", no_probe)
        index_videos([tmp_path / "videos"], work=work, probe=True, workers=1)
        refresh(work)
        assert (work / "sources.parquet").read_bytes() == before
        # Nor what a shard run has decoded.
        write(tmp_path / "videos" / f"{clip('a', 10)}.mp4", video(8))
        index_videos([tmp_path / "videos"], work=work)
        outcome(work, 0, {"clip_id": clip("a", 10), "status": "damaged", "stored": False})
        index_videos([tmp_path / "videos"], work=work, probe=True, workers=1)
        assert sources(work)[clip("a", 10)]["status"] == "damaged"
    write(tmp_path / "videos" / f"{clip('a', 10)}.mp4", video(10))
    index_videos([tmp_path / "videos"], work=work, probe=True, workers=1)
    assert (work / "sources.parquet").read_bytes() == before


def test_a_file_that_is_another_window_makes_room_for_the_next_copy(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, ("archery", "a", 10, 20), ("bowling", "a", 40, 50))
    videos = tmp_path / "videos"
    write(videos / "bowling" / f"{vid('a')}.mp4", video(10, fps=8))
    write(videos / "whole" / f"{vid('a')}.mp4", video(60, fps=1))
    assert len(video(10, fps=8)) > len(video(60, fps=1))
    index_videos([videos], work=work, probe=True, workers=1)
    rows = sources(work)
    chosen = {clip_id: Path(row["uri"]).parent.name for clip_id, row in rows.items()}
    assert chosen == {clip("a", 10): "whole", clip("a", 40): "bowling"}
    assert [row["trimmed"] for row in rows.values()] == [False, True]
    assert [row["starts_at_s"] for row in rows.values()] == [0.0, 40.0]
    assert {row["status"] for row in rows.values()} == {"ok"}


def test_where_one_copy_is_no_good_the_next_is_looked_into(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, *archery("a", "b"))
    videos = tmp_path / "videos"
    write(videos / "1" / f"{clip('a', 10)}.mp4", video(6, fps=60))  # kept, if there is no other
    write(videos / "2" / f"{clip('a', 10)}.mp4", b"no video at all" * 900)
    pack(videos / "3.tar", {f"{clip('a', 10)}.mp4": video(10)})
    broken = videos / "4" / f"{clip('b', 10)}.mp4"
    write(broken, bytes(len(video(10))))
    index_videos([videos], work=work, probe=True, workers=1)
    known = [(row["status"], row["place"], Path(row["uri"]).name) for row in copies(work)[:3]]
    assert known[0] == ("ok", 1, "3.tar") and {row[0] for row in known[1:]} == {
        "truncated",
        "damaged",
    }
    before = sources(work)
    assert before[clip("b", 10)]["status"] == "damaged"
    with broken.open("r+b") as file:  # mended, and of the size it had
        file.write(video(10))
    index_videos([videos], work=work, probe=True, workers=1)
    row = sources(work).pop(clip("b", 10))
    assert (row["status"], row["sha256"]) == ("ok", hashlib.sha256(video(10)).hexdigest())
    assert sources(work)[clip("a", 10)] == before[clip("a", 10)]


def test_what_was_seen_is_written_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = manifest_of(tmp_path, *archery("a", "b"))
    for name in ("a", "b"):
        write(tmp_path / "videos" / f"{clip(name, 10)}.mp4", video(10))
    monkeypatch.setattr("k710.sources.index._SAVE_S", 0)
    probed: list[int] = []

    def look(what: str, done: int, total: int | None) -> None:
        if what == "probing":
            probed.append(sum(row["tool"] == TOOL for row in sources(work).values()))

    index_videos([tmp_path / "videos"], work=work, probe=True, workers=1, on_progress=look)
    assert probed[:2] == [0, 1]
    assert {row["status"] for row in sources(work).values()} == {"ok"}


def test_a_stop_costs_only_what_was_under_way(tmp_path: Path) -> None:
    names = [f"v{number}" for number in range(6)]
    work = manifest_of(tmp_path, *archery(*names))
    files = {f"{clip(name, 10)}.mp4": video(10) for name in names}
    pack(tmp_path / "a.tar.gz", files)

    def stop(what: str, done: int, total: int | None) -> None:
        if what == "probing" and done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index_videos([tmp_path / "a.tar.gz"], work=work, probe=True, workers=1, on_progress=stop)
    tools = [row["tool"] for row in sources(work).values()]
    assert sorted(tools) == ["index"] * 3 + [TOOL] * 3
    assert not (work / ".probe").exists()
    told: list[int | None] = []
    index_videos(
        [tmp_path / "a.tar.gz"],
        work=work,
        probe=True,
        workers=1,
        on_progress=lambda what, done, total: told.append(total) if what == "probing" else None,
    )
    assert set(told) == {3}
    assert {row["tool"] for row in sources(work).values()} == {TOOL}


def test_a_copy_that_kills_its_worker_is_tried_again_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = manifest_of(tmp_path, *archery("a"))
    write(tmp_path / "videos" / f"{vid('a')}.mp4", video(10))

    def failing(function: Any, tasks: Any, **_: Any) -> Iterator[Any]:
        yield from ((task, Failed("the worker died (SIGKILL)")) for task in tasks)

    with monkeypatch.context() as patch:
        patch.setattr(probing, "run_local", failing)
        index_videos([tmp_path / "videos"], work=work, probe=True, workers=1)
    row = sources(work)[clip("a", 10)]
    assert (row["status"], row["detail"]) == ("failed", "the worker died (SIGKILL)")
    index_videos([tmp_path / "videos"], work=work, probe=True, workers=1)
    row = sources(work)[clip("a", 10)]
    assert (row["status"], row["trimmed"]) == ("ok", True)


def chosen(uri: Path, member: str | None, **known: Any) -> ClipSource:
    known = {"trimmed": True, "starts_at_s": 10.0, "num_bytes": 3, **known}
    copy = ChosenCopy(str(uri), member, **known)
    return ClipSource(clip("a", 10), Window(10, 20), "ok", None, copy, "index")


@pytest.mark.parametrize(
    ("name", "member", "status", "detail"),
    [
        ("none.mp4", None, "missing", "can't be read: No such file or directory"),
        ("none.tar", "a", "missing", "the archive can't be read: No such file or directory"),
        ("a.tar", "b", "missing", "it is no longer in the archive"),
        ("a.tar", "a", "missing", "it is no longer in the archive"),  # of another size
        ("cut.tar", "b", "damaged", "the archive is cut short"),
    ],
)
def test_copies_that_are_gone_since_they_were_found(
    tmp_path: Path, name: str, member: str | None, status: str, detail: str
) -> None:
    pack(tmp_path / "a.tar", {"a": b"four"})
    (tmp_path / "cut.tar").write_bytes((tmp_path / "a.tar").read_bytes()[:1024])
    work = [chosen(tmp_path / name, member)]
    ((found,),) = (some for some in probe_copies(work, tmp_path / "scratch", workers=1) if some)
    row = found.row()
    assert row[:3] == (clip("a", 10), status, detail)
    assert row[5:8] == (True if member is None else None, 10.0, 3)


def test_members_are_unpacked_a_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{number:02d}" for number in range(30)]
    pack(tmp_path / "a.tar.gz", {name: b"123" for name in names})
    scratch = tmp_path / "scratch"
    most = 0

    def serial(function: Any, tasks: Any, **_: Any) -> Iterator[Any]:
        nonlocal most
        for task in tasks:
            most = max(most, len(list(scratch.iterdir())))
            assert b"".join(task.source.chunks()) == b"123"
            yield task, Failed("")

    monkeypatch.setattr(probing, "run_local", serial)
    wanted = [replace(chosen(tmp_path / "a.tar.gz", name), clip_id=name) for name in names]
    rows = [row for rows in probe_copies(wanted, scratch, workers=1) for row in rows]
    assert [row.clip_id for row in rows] == names
    assert most == 1 and not scratch.exists()


@pytest.mark.parametrize(
    ("starts_at_s", "seconds", "status", "detail"),
    [
        *((7.5, 13, "ok", None), (7.5, 9, "truncated", "6.5 of 10 s")),
        *((12.5, 10, "truncated", "7.5 of 10 s"), (3.5, 5, "empty", "the video ends at 8.5 s")),
    ],
)
def test_the_window_in_a_section_of_the_video(
    tmp_path: Path, starts_at_s: float, seconds: int, status: str, detail: str | None
) -> None:
    write(tmp_path / "a.mp4", video(seconds))
    section = chosen(tmp_path / "a.mp4", None, trimmed=False, starts_at_s=starts_at_s)
    (found,) = probe_task(ProbeTask(ByteRange(str(tmp_path / "a.mp4")), (section,)))
    assert (found.status, found.detail, found.trimmed) == (status, detail, False)


def test_a_length_that_fits_windows_of_two_lengths_says_of_neither(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, ("archery", "a", 0, 10), ("bowling", "a", 20, 29))
    write_video(tmp_path / "videos" / f"{vid('a')}.mp4", 9.5)
    index_videos([tmp_path / "videos"], work=work, probe=True, workers=1)
    rows = sources(work).values()
    assert [row["status"] for row in rows] == ["missing", "missing"]
    assert all("could be any of 2 windows" in row["detail"] for row in rows)
