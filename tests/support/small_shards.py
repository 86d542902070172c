"""Small videos named as clips of a small manifest, and what shards made of them hold."""

import atexit
import glob
import io
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import duckdb

import k710
from k710.shards.clip import PlannedClip
from k710.shards.encode_clip import ClipSettings, ClipTask
from k710.shards.run import make_shards
from k710.shards.summary import ShardSummary
from k710.sources.clip_source import ChosenCopy, ClipSource
from k710.sources.index import index_videos
from k710.video.byte_range import ByteRange
from k710.video.cut import Window
from k710.video.encode import Encoding
from support.list_files import Row, vid, write_lists
from support.made_videos import Format, make_video, moving_noise

SECONDS = 2
FPS = 10
TRAIN: Sequence[Row] = [
    (label, f"{label[0]}{number}", 10 * number, 10 * number + SECONDS)
    for label in ("archery", "bowling", "yoga", "zumba")
    for number in range(3)
]
VAL: Sequence[Row] = [("archery", "-v", 3, 3 + SECONDS), ("zumba", "w", 4, 4 + SECONDS)]
# Where a law is of clips, and not of many shards: one shard, and quicker.
FEW: Mapping[str, Sequence[Row]] = {"train": TRAIN[:3], "val": VAL[:1]}
SMALL: Mapping[str, Any] = {"shard_bytes": 500_000, "workers": 1}


def name_of(row: Row) -> str:
    """The clip_id of an annotation row."""
    _, short_id, start, end = row
    return f"{vid(short_id)}_{start:06d}_{end:06d}"


def write_video(path: Path, seconds: float = SECONDS, *, seed: int = 0) -> Path:
    """Write an MP4 of moving noise; the same arguments give the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_video_bytes(seconds, seed))
    return path


@cache
def _video_bytes(seconds: float, seed: int) -> bytes:
    quick = Format(options={"preset": "ultrafast"}, gop=5)
    numbers = range(round(seconds * FPS))
    video = make_video(
        io.BytesIO(), numbers, format=quick, rate=FPS, size=(72, 48), draw=moving_noise(seed)
    )
    return video.getvalue()


def write_videos(folder: Path, rows: Sequence[Row]) -> Path:
    """A video for each row, in class folders."""
    for number, row in enumerate(rows):
        write_video(folder / row[0] / f"{name_of(row)}.mp4", seed=number)
    return folder


def build(folder: Path, *, train: Sequence[Row] = TRAIN, val: Sequence[Row] = VAL) -> Path:
    """`folder`/work with a manifest of these lists, which is built once."""
    write_lists(folder / "annotations", {"k400/train": train, "k400/val": val})
    shutil.copytree(_built(tuple(train), tuple(val)), folder / "work", dirs_exist_ok=True)
    return folder / "work"


@cache
def _built(train: tuple[Row, ...], val: tuple[Row, ...]) -> Path:
    folder = _kept()
    lists = write_lists(folder / "annotations", {"k400/train": train, "k400/val": val})
    k710.build_manifest(lists, work=folder / "work")
    return folder / "work"


def _kept() -> Path:
    """A folder that is there until all tests are done."""
    folder = Path(tempfile.mkdtemp(prefix="k710-tests-"))
    atexit.register(shutil.rmtree, folder)
    return folder


def ready(
    folder: Path, *, train: Sequence[Row] = TRAIN, val: Sequence[Row] = VAL, **options: Any
) -> Path:
    """A work directory with manifest and sources: every clip has a copy."""
    work = build(folder, train=train, val=val)
    index_videos([write_videos(folder / "videos", [*train, *val])], work=work, **options)
    return work


def without_copies(folder: Path) -> Path:
    """A work directory in which no clip has a copy: its shards are made at once, and are empty."""
    work = build(folder)
    (folder / "nothing").mkdir()
    index_videos([folder / "nothing"], work=work)
    return work


@cache
def all_ready() -> Path:
    """What `ready` makes, once for all tests: to be copied, never written to.

    A copy goes on with the same videos/, and those are not to be changed either.
    """
    return ready(_kept())


@cache
def all_made() -> Path:
    """The same with its shards made by one run that nothing disturbed."""
    work = copy_of(all_ready(), all_ready().parent / "made")
    shard(work)
    return work


def shard(work: Path, views: Sequence[str] = ("k400/train", "k400/val"), **options: Any) -> Any:
    """`make_shards` with several small shards."""
    summary: ShardSummary = make_shards(views, work=work, **{**SMALL, **options})
    return summary


def clip_task(source: Path, window: Window, folder: Path, **known: Any) -> ClipTask:
    """The task of a clip whose copy is the file `source`, of which `known` is known."""
    settings = known.pop("settings", None) or ClipSettings(Encoding(), str(folder))
    copy = ChosenCopy(str(source), **known)
    clip = PlannedClip(0, 0, True, 0, ClipSource("clip", window, "ok", None, copy, "index"))
    return ClipTask(clip, ByteRange(str(source)), settings)


def tars(work: Path) -> dict[str, bytes]:
    """Name and bytes of all that must not depend on anything but inputs."""
    paths = [*(work / "shards").glob("*.tar"), *(work / "shards").glob("*.parquet")]
    paths += [work / "index.parquet", work / "plan.parquet"]
    return {path.name: path.read_bytes() for path in sorted(paths)}


def rows_of(work: Path, table: str, columns: str = "*") -> list[tuple[Any, ...]]:
    """All rows of a table of `work`."""
    path = glob.escape(str(work / f"{table}.parquet"))
    with duckdb.connect() as con:
        return con.execute(f"select {columns} from read_parquet($path)", {"path": path}).fetchall()


def statuses(work: Path) -> dict[str, str]:
    """clip_id -> status."""
    return dict(rows_of(work, "sources", "clip_id, status"))


def copy_of(work: Path, to: Path) -> Path:
    """A copy of a work directory."""
    shutil.copytree(work, to)
    return to
