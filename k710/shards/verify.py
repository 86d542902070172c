"""Are the shards what was written? Every byte is looked at, and told where it is not.

Four things must agree: the tars, index.parquet with the tables of each shard, the plan, and the
labels of the manifest. A clip that could not be had is no fault of the shards.
"""

import contextlib
import json
import os
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import duckdb

from k710.engines.local import Failed, run_local
from k710.errors import K710Error, MediaError, printable
from k710.files import locked, sha256_of, word_os_errors
from k710.machine import usable_cores
from k710.shards.write import sample_texts
from k710.sources.outcomes import open_index, shard_name, tar_path
from k710.tables.connection import connect, connect_to_read, run
from k710.tables.reading import open_table, read_tables
from k710.tables.schemas import INDEX, MANIFEST, OUTCOMES, PLAN, table_path
from k710.tables.sidecar import Sidecar, read_sidecar
from k710.video.byte_range import ByteRange
from k710.video.container import open_video
from k710.video.decoding import decoder_log
from k710.video.probe import media_words
from k710.video.streams import take_alone

__all__ = ["Fault", "Verified", "verify_shards"]

OnProgress = Callable[[str, int, int | None], None]  # what, done, total if known
_TIMEOUT_S = 600
_MAX_SAMPLE_BYTES = 1 << 20  # of a clip's JSON


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
    source: ByteRange
    num_frames: int
    width: int
    height: int


def verify_shards(
    *,
    work: str | os.PathLike[str] = "work",
    deep: bool = False,
    workers: int | None = None,
    on_progress: OnProgress = lambda what, done, total: None,
) -> Verified:
    """Check shards against their hashes, index and plan; `deep` decodes every clip as well.

    Returns the faults found, none if all is well. It writes nothing. `on_progress` gets what is
    done, how much of it, and how much there is. StageError where there are no shards.
    """
    work = Path(work)
    if not PLAN.path(work).is_file():  # before a folder of a mistyped name is made
        with connect_to_read() as con:
            open_table(con, work, PLAN)
    # A disk that can't be written has no run at work on it.
    lock = locked(work) if os.access(work, os.W_OK) else contextlib.nullcontext()
    with word_os_errors(work), lock, connect(work, memory_limit="2GB") as con:
        return _verified(con, work, deep, workers or usable_cores(), on_progress)


def _verified(
    con: duckdb.DuckDBPyConnection, work: Path, deep: bool, workers: int, on_progress: OnProgress
) -> Verified:
    try:
        open_table(con, work, PLAN)
        open_table(con, work, MANIFEST)
    except K710Error as error:  # nothing can be told of the shards then
        words = str(error).replace(f"{work}/", "").replace("\n", " ")
        return Verified(0, 0, 0, 0, deep, (Fault(None, words),))
    rows = run(con, "select distinct shard from plan order by shard")
    planned = [row[0] for row in rows]
    # Without a sidecar of its outcomes a shard is not done, whatever else of it there is: it will
    # be made again. One that can't be read is a fault.
    made = [shard for shard in planned if _has_sidecar(work, shard)]
    faults = _stray_faults(work, planned)
    num_bytes = 0
    for number, shard in enumerate(made):
        on_progress("shards", number, len(made))
        tar = tar_path(work, shard)
        num_bytes += tar.stat().st_size if tar.is_file() else 0
        faults += [Fault(shard, what) for what in _shard_faults(con, work, shard)]
    broken = {fault.shard for fault in faults}
    sound = [shard for shard in made if shard not in broken]
    unindexed, index_faults = _index_faults(con, work, sound)
    faults += index_faults
    open_index(con, work, sound)
    num_clips = run(con, "select count(*) from index")[0][0]
    if deep:
        faults += _deep_faults(_deep_tasks(con, work), workers, on_progress)
    unfinished = len(planned) - len(made) + unindexed
    return Verified(len(made), num_clips, num_bytes, unfinished, deep, tuple(faults))


def _has_sidecar(work: Path, shard: int) -> bool:
    outcomes = table_path(work, f"outcomes/{shard_name(shard)}")
    return Path(f"{outcomes}.json").exists() or read_sidecar(outcomes) is not None


def _sidecar(path: Path) -> Sidecar:
    sidecar = read_sidecar(path)
    assert sidecar is not None  # the table was opened
    return sidecar


def _words_of(error: K710Error, work: Path) -> str:
    """What is wrong with a table, without what to do about it; paths are below `work`."""
    return str(error).partition("\n")[0].rstrip(".").replace(f"{work}/", "")


def _stray_faults(work: Path, planned: Sequence[int]) -> list[Fault]:
    names = {f"{shard_name(shard)}.tar" for shard in planned}
    strays = [path.name for path in sorted((work / "shards").glob("*.tar"))]
    return [Fault(None, f"shards/{name} is in no plan") for name in strays if name not in names]


def _shard_faults(con: duckdb.DuckDBPyConnection, work: Path, shard: int) -> Iterator[str]:
    """What is wrong with one shard; where its tables are broken, that alone."""
    name = shard_name(shard)
    outcomes, index = (table_path(work, f"{folder}/{name}") for folder in ("outcomes", "shards"))
    try:
        read_tables(con, work, "places", OUTCOMES, [outcomes])
        read_tables(con, work, "indexed", INDEX, [index])
    except K710Error as error:
        yield _words_of(error, work)
        return
    planned = "select position, clip_id from plan where shard = $shard order by position"
    rows = run(con, planned, {"shard": shard})
    if rows != run(con, "select position, clip_id from places order by position"):
        yield f"the clips of outcomes/{name}.parquet are not those of the plan"
    found = run(con, "select clip_id from places where stored order by position")
    stored = [clip_id for (clip_id,) in found]
    indexed = {row[0]: row[1:] for row in run(con, 'select clip_id, "offset", bytes from indexed')}
    tar, sidecar = tar_path(work, shard), _sidecar(outcomes)
    faults = list(_tar_faults(tar, sidecar, stored, indexed))
    yield from faults or _label_faults(con, tar, sidecar, stored)


def _label_faults(
    con: duckdb.DuckDBPyConnection, tar: Path, sidecar: Sidecar, stored: Sequence[str]
) -> Iterator[str]:
    """Clips of a sound tar whose JSON says other labels than `manifest`, a table on `con`."""
    if not stored:
        return
    expected = dict(sample_texts(con, stored))
    with tarfile.open(tar, "r:") as archive:
        for member in archive:
            clip_id, _, ending = member.name.rpartition(".")
            file = archive.extractfile(member) if ending == "json" else None
            if file is None or clip_id not in expected:
                continue
            text = file.read(_MAX_SAMPLE_BYTES)
            if text != expected[clip_id] and not _agree(text, expected[clip_id]):
                words = f"says {printable(text.decode(errors='replace'))}"
                yield f"shards/{tar.name}: {member.name} {words}, and the manifest otherwise"


def _agree(text: bytes, expected: bytes) -> bool:
    """Whether a clip's JSON has the labels of the manifest, in the views that both know.

    Views come and go as the manifest is built anew, with more lists or by other rules; labels stay.
    """
    try:
        sample = json.loads(text)
        views = dict(sample["views"])
        labels = {*views.values(), None}
    except (KeyError, TypeError, ValueError, RecursionError):
        return False
    wanted = json.loads(expected)
    if views == wanted["views"]:
        return bool(sample == wanted)
    common = views.keys() & wanted["views"].keys()
    return sample.get("label") in labels and all(
        views[view] == wanted["views"][view] for view in common
    )


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
    found = _members(tar)
    expected = [f"{clip_id}.{ending}" for clip_id in wanted for ending in ("mp4", "json")]
    of_tar = sidecar.notes.get("tar_sha256"), sidecar.notes.get("tar_bytes")
    if of_tar != (sha256_of(tar), tar.stat().st_size) or of_tar[0] != sidecar.inputs.get("tar"):
        why = f": {found}" if isinstance(found, str) else ""
        yield f"shards/{tar.name} is not as it was written{why}"
    elif isinstance(found, str):
        yield f"shards/{tar.name} is no sound archive: {found}"
    elif [name for name, _, _ in found] != expected:
        yield f"shards/{tar.name} has other members than the plan says"
    else:
        for name, offset, size in found[::2]:
            if indexed[name.removesuffix(".mp4")] != (offset, size):
                yield f"shards/{tar.name}: {name} does not lie where the index says"


def _members(tar: Path) -> list[tuple[str, int, int]] | str:
    """Name, offset and size of each member; or what is wrong with the archive."""
    try:
        with tarfile.open(tar, "r:") as archive:
            return [(member.name, member.offset_data, member.size) for member in archive]
    except (tarfile.TarError, EOFError, ValueError) as error:
        return printable(str(error))


def _index_faults(
    con: duckdb.DuckDBPyConnection, work: Path, sound: Sequence[int]
) -> tuple[int, list[Fault]]:
    """How many shards the index doesn't have yet, and what is wrong with it.

    It must be the union of the shards' own tables, as far as the last run that ended knew them.
    """
    path = INDEX.path(work)
    if not path.exists() and read_sidecar(path) is None:
        return len(sound), []  # no run has ended yet
    try:
        sidecar = open_table(con, work, INDEX, name="whole")
    except K710Error as error:
        return 0, [Fault(None, _words_of(error, work))]
    indexed = sidecar.notes.get("shards")
    if not isinstance(indexed, list):
        return 0, [Fault(None, "index.parquet is not that of all shards")]
    known = [shard for shard in sound if shard in indexed]
    open_index(con, work, known)
    differing, repeated = run(
        con,
        "with whole as (select * exclude (file_row_number) from whole) "
        "select (select count(*) from ((from index except from whole) union all "
        "(select whole.* from whole semi join (select distinct shard from index) using (shard) "
        "except from index))), (select count(*) - count(distinct clip_id) from whole)",
    )[0]
    faults = []
    if differing:
        words = f"index.parquet differs from the shards' own tables in {differing} rows"
        faults.append(Fault(None, words))
    if repeated:
        faults.append(Fault(None, f"index.parquet has {repeated} clips more than once"))
    return len(sound) - len(known), faults


# --- deep


def _deep_tasks(con: duckdb.DuckDBPyConnection, work: Path) -> list[_DeepTask]:
    rows = run(
        con,
        'select shard, clip_id, "offset", bytes, num_frames, width, height '
        'from index order by shard, "offset"',
    )
    return [
        _DeepTask(shard, clip_id, ByteRange(str(tar_path(work, shard)), offset, size), *facts)
        for shard, clip_id, offset, size, *facts in rows
    ]


def _deep_faults(
    clips: Sequence[_DeepTask],
    workers: int,
    on_progress: OnProgress,
) -> list[Fault]:
    faults: list[tuple[int, str]] = []
    results = run_local(_decoded, clips, workers=workers, timeout_s=_TIMEOUT_S)
    with closing(results):
        for number, (clip, what) in enumerate(results, start=1):
            on_progress("clips decoded", number, len(clips))
            if isinstance(what, Failed):
                what = f"could not be decoded: {what.why}"
            if what is not None:
                tar = f"shards/{shard_name(clip.shard)}.tar"
                faults.append((clip.shard, f"{tar}: {clip.clip_id} {printable(what)}"))
    return [Fault(*fault) for fault in sorted(faults)]


def _decoded(clip: _DeepTask) -> str | None:
    """What is wrong with a clip, every frame of it decoded; its sound is not looked at."""
    num_frames = 0
    size = (clip.width, clip.height)
    try:
        with (
            decoder_log() as log,
            clip.source.opened() as file,
            open_video(file) as (container, stream),
        ):
            take_alone(stream)
            log.clear()  # of what FFmpeg tried when it opened the file
            for frame in container.decode(stream):
                num_frames += 1
                if size == (clip.width, clip.height):
                    size = (frame.width, frame.height)
                if frame.is_corrupt:
                    return f"has a corrupt picture, number {num_frames - 1}"
            if log:
                return f"can't be decoded cleanly: {log[0][2].strip()}"
    except MediaError as error:
        return f"can't be decoded: {media_words(error)}"
    if num_frames != clip.num_frames:
        return f"has {num_frames} frames, and the index says {clip.num_frames}"
    if size != (clip.width, clip.height):
        return f"is {size[0]}x{size[1]}, and the index says {clip.width}x{clip.height}"
    return None
