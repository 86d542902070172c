"""Are the shards what was written? Every byte is looked at, and told where it is not.

Three things must agree: the tars, index.parquet with the tables of each shard, and the plan. A clip
that could not be had is no fault of the shards.
"""

import os
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from k710.cut import decoder_log
from k710.engines import Failed, run_local
from k710.errors import MediaError
from k710.files import locked, sha256_of, word_os_errors
from k710.located import Located
from k710.probe import media_words
from k710.shard_files import shard_name, tar_path
from k710.tables import Sidecar, connect, open_table, read_sidecar, table_path
from k710.video import open_video

__all__ = ["Fault", "Verified", "verify_shards"]

_TIMEOUT_S = 600


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is not as it was written; `shard` None: in a table of all shards."""

    shard: int | None
    what: str


@dataclass(frozen=True, slots=True)
class Verified:
    """What was looked at, and what is wrong with it."""

    shards: int
    clips: int
    bytes: int  # of the tars
    unfinished: int  # planned shards that are not made yet: no fault
    deep: bool
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class _DeepTask:
    """A clip to be decoded."""

    shard: int
    clip_id: str
    source: Located
    num_frames: int
    width: int
    height: int


def verify_shards(
    *,
    work: str | os.PathLike[str] = "work",
    deep: bool = False,
    workers: int | None = None,
    on_progress: Callable[[str, int, int | None], None] = lambda what, done, total: None,
) -> Verified:
    """Check shards against their hashes, index and plan; `deep` decodes every clip as well.

    Returns the faults found, none if all is well. It writes nothing. `on_progress` gets what is
    done, how much of it, and how much there is. StageError where there are no shards.
    """
    work = Path(work)
    faults: list[Fault] = []
    with word_os_errors(work), locked(work), connect(work, memory_limit="2GB") as con:
        shards = _shards(con, work)
        made = {shard: sidecar for shard, sidecar in shards.items() if sidecar is not None}
        num_bytes = 0
        for number, (shard, sidecar) in enumerate(sorted(made.items())):
            on_progress("shards", number, len(made))
            faults += [Fault(shard, what) for what in _shard_faults(con, work, shard, sidecar)]
            num_bytes += sidecar.notes.get("tar_bytes") or 0
        faults += _index_faults(con, work, sorted(made))
        broken = {fault.shard for fault in faults}
        clips = _deep_tasks(con, work, [shard for shard in made if shard not in broken])
        if deep:
            faults += _deep_faults(clips, workers or os.cpu_count() or 1, on_progress)
        return Verified(
            shards=len(made),
            clips=len(clips),
            bytes=num_bytes,
            unfinished=len(shards) - len(made),
            deep=deep,
            faults=tuple(faults),
        )


def _shards(con: Any, work: Path) -> dict[int, Sidecar | None]:
    """Every planned shard with the sidecar of its outcomes, None where it isn't made."""
    open_table(con, work, "plan")
    rows = con.execute("select distinct shard from plan order by shard").fetchall()
    return {
        shard: read_sidecar(table_path(work, f"outcomes/{shard_name(shard)}")) for (shard,) in rows
    }


def _shard_faults(con: Any, work: Path, shard: int, sidecar: Sidecar) -> Iterator[str]:
    """What is wrong with one shard; where its tables are broken, that alone."""
    name = shard_name(shard)
    outcomes = table_path(work, f"outcomes/{name}")
    index = table_path(work, f"shards/{name}")
    index_sidecar = read_sidecar(index)
    if not outcomes.is_file() or sha256_of(outcomes) != sidecar.sha256:
        yield f"outcomes/{name}.parquet is not as it was written"
        return
    if index_sidecar is None or not index.is_file() or sha256_of(index) != index_sidecar.sha256:
        yield f"shards/{name}.parquet is not as it was written"
        return
    planned = "select position, clip_id from plan where shard = $shard order by position"
    had = "select position, clip_id from read_parquet($path) order by position"
    rows = con.execute(planned, {"shard": shard}).fetchall()
    if rows != con.execute(had, {"path": os.path.abspath(outcomes)}).fetchall():
        yield f"the clips of outcomes/{name}.parquet are not those of the plan"
    stored = "select clip_id from read_parquet($path) where stored order by position"
    wanted = [row[0] for row in con.execute(stored, {"path": os.path.abspath(outcomes)}).fetchall()]
    places = 'select clip_id, "offset", bytes from read_parquet($path)'
    indexed = {
        row[0]: row[1:] for row in con.execute(places, {"path": os.path.abspath(index)}).fetchall()
    }
    yield from _tar_faults(tar_path(work, shard), sidecar, wanted, indexed)


def _tar_faults(
    tar: Path,
    sidecar: Sidecar,
    wanted: Sequence[str],
    indexed: Mapping[str, tuple[int, int]],
) -> Iterator[str]:
    if set(wanted) != set(indexed):
        yield f"shards/{tar.stem}.parquet has other clips than outcomes/{tar.stem}.parquet"
    if not wanted:
        if tar.exists():
            yield f"shards/{tar.name} should not be there: no clip of it could be had"
        return
    if not tar.is_file():
        yield f"shards/{tar.name} is missing"
        return
    if sha256_of(tar) != sidecar.notes.get("tar_sha256"):
        yield f"shards/{tar.name} is not as it was written{_first_difference(tar, wanted, indexed)}"
        return
    found = _members(tar)
    expected = [f"{clip_id}.{ending}" for clip_id in wanted for ending in ("mp4", "json")]
    if isinstance(found, str):
        yield f"shards/{tar.name} is no sound archive: {found}"
    elif [name for name, _, _ in found] != expected:
        yield f"shards/{tar.name} has other members than the plan says"
    else:
        for name, offset, size in found[::2]:
            if indexed[name.removesuffix(".mp4")] != (offset, size):
                yield f"shards/{tar.name}: {name} does not lie where the index says"


def _members(tar: Path) -> list[tuple[str, int, int]] | str:
    try:
        with tarfile.open(tar, "r:") as archive:
            return [(member.name, member.offset_data, member.size) for member in archive]
    except (tarfile.TarError, EOFError, ValueError) as error:
        return str(error)


def _first_difference(
    tar: Path, wanted: Sequence[str], indexed: Mapping[str, tuple[int, int]]
) -> str:
    """Where the tar's structure breaks, if it does; which clip it is, the index can't say."""
    found = _members(tar)
    if isinstance(found, str):
        return f": {found}"
    names = [name for name, _, _ in found]
    expected = [f"{clip_id}.{ending}" for clip_id in wanted for ending in ("mp4", "json")]
    return "" if names == expected else ": it has other members"


def _index_faults(con: Any, work: Path, made: Sequence[int]) -> list[Fault]:
    """index.parquet must be the union of the shards' own tables."""
    path = table_path(work, "index")
    sidecar = read_sidecar(path)
    if sidecar is None or not path.is_file() or sha256_of(path) != sidecar.sha256:
        return [Fault(None, "index.parquet is not as it was written, or not finished")]
    paths = [table_path(work, f"shards/{shard_name(shard)}") for shard in made]
    there = [os.path.abspath(path) for path in paths if path.is_file()]
    query = (
        "(from read_parquet($all) except from read_parquet($index)) union all "
        "(from read_parquet($index) except from read_parquet($all))"
    )
    try:
        differing = con.execute(
            f"select count(*) from ({query})", {"all": there, "index": os.path.abspath(path)}
        ).fetchall()[0][0]
    except duckdb.Error:
        return []  # a broken table of a shard: said before
    if differing:
        return [
            Fault(None, f"index.parquet differs from the shards' own tables in {differing} rows")
        ]
    return []


# --- deep


def _deep_tasks(con: Any, work: Path, shards: Sequence[int]) -> list[_DeepTask]:
    if not shards:
        return []
    paths = [os.path.abspath(table_path(work, f"shards/{shard_name(s)}")) for s in shards]
    rows = con.execute(
        'select shard, clip_id, "offset", bytes, num_frames, width, height '
        'from read_parquet($paths) order by shard, "offset"',
        {"paths": paths},
    ).fetchall()
    return [
        _DeepTask(
            shard, clip_id, Located(str(tar_path(work, shard)), offset, size), frames, width, height
        )
        for shard, clip_id, offset, size, frames, width, height in rows
    ]


def _deep_faults(
    clips: Sequence[_DeepTask],
    workers: int,
    on_progress: Callable[[str, int, int | None], None],
) -> list[Fault]:
    faults = []
    results = run_local(_decoded, clips, workers=workers, timeout_s=_TIMEOUT_S)
    with closing(results):
        for number, (clip, what) in enumerate(results, start=1):
            on_progress("clips decoded", number, len(clips))
            if isinstance(what, Failed):
                what = f"could not be decoded: {what.why}"
            if what is not None:
                faults.append(Fault(clip.shard, f"{clip.clip_id} {what}"))
    return sorted(faults, key=lambda fault: (fault.shard, fault.what))


def _decoded(clip: _DeepTask) -> str | None:
    """What is wrong with a clip, every frame of it decoded."""
    num_frames = 0
    try:
        with (
            decoder_log() as log,
            clip.source.opened() as file,
            open_video(file) as (container, stream),
        ):
            for frame in container.decode(stream):
                num_frames += 1
                if frame.is_corrupt:
                    return f"has a corrupt picture, number {num_frames - 1}"
            if log:
                return f"can't be decoded cleanly: {log[0][2].strip()}"
            size = (stream.codec_context.width, stream.codec_context.height)
    except MediaError as error:
        return f"can't be decoded: {media_words(error)}"
    if num_frames != clip.num_frames:
        return f"has {num_frames} frames, and the index says {clip.num_frames}"
    if size != (clip.width, clip.height):
        return f"is {size[0]}x{size[1]}, and the index says {clip.width}x{clip.height}"
    return None
