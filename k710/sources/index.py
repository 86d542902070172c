"""Which clips of the manifest are there, in which files, and which are missing."""

import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from k710.files import locked, word_os_errors
from k710.machine import usable_cores
from k710.sources.archives import LACKING
from k710.sources.find import Remarks, find_copies, roots_of
from k710.sources.name_patterns import add_pattern, check_pattern
from k710.sources.seen import look_at_known, see
from k710.sources.table import SourceInputs, source_tables, write_sources
from k710.statuses import Status
from k710.tables.connection import connect, connect_to_read, make_table, run
from k710.tables.reading import open_table
from k710.tables.schemas import COPIES, MANIFEST, SOURCES, read_sql

if TYPE_CHECKING:
    from k710.sources.clip_source import ClipSource

__all__ = ["IndexSummary", "ViewCoverage", "index_videos"]

OnProgress = Callable[[str, int, int | None], None]  # what, done, total if known
SHOWN_UNKNOWN = 5
_BATCH_COPIES = 50_000
_SAVE_S = 60  # of probing, that a kill may cost
_HOW_NAMED = (
    "a clip is called ID_000012_000022.mp4, a whole video ID.mp4, where ID is YouTube's; other "
    "names are read by --name-pattern"
)


@dataclass(frozen=True, slots=True)
class ViewCoverage:
    """How much of one view there is. A clip counts in each view that it is in."""

    view: str
    clips: int
    found: int  # clips with a copy, sound or not
    missing: int  # the others
    duplicates: int  # copies that its clips could have been taken from as well
    statuses: dict[str, int]  # status -> clips


@dataclass(frozen=True, slots=True)
class IndexSummary:
    """What was found; `asdict` of it is what `--json` prints."""

    views: tuple[ViewCoverage, ...]
    videos: int  # copies that are known: used + duplicates + unknown
    used: int
    duplicates: int  # copies of clips that another copy was chosen for
    unknown: int  # videos whose names are those of no clip in the manifest
    unknown_first: tuple[str, ...]  # some of them, the first by path
    remarks: tuple[str, ...]  # damaged archives, and what else was not taken
    work: str


def index_videos(
    videos: Sequence[str | os.PathLike[str]],
    *,
    work: str | os.PathLike[str] = "work",
    probe: bool = False,
    name_pattern: str | None = None,
    workers: int | None = None,
    memory_limit: str = "2GB",
    on_progress: OnProgress = lambda what, done, total: None,
) -> IndexSummary:
    """Find each clip of the manifest in folders, .tar and .tar.gz archives, and single videos.

    Writes sources.parquet and copies.parquet to `work`; copies that they knew elsewhere than in
    `videos` stay known, but come after those that can be read. Nothing is unpacked, and without
    `probe` no video is opened. `name_pattern` is a regular expression with groups id, start and
    end, for names that say their clip in another way; it is remembered for `videos`, "" forgets it.
    `workers` archives are read at a time, or copies probed; None: one for each core. `on_progress`
    is called with what is done, how much of it, and of how much. StageError where there is no
    manifest, or `work` is in use; SourceError where a path, or a folder below one, can't be read,
    and for a wrong pattern.
    """
    if isinstance(videos, str | os.PathLike):
        raise ValueError("videos is a list of paths, not one")
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, and is {workers}")
    if name_pattern:
        check_pattern(name_pattern)
    roots = [_below(root) for root in roots_of(videos)]
    work = Path(work)
    with connect_to_read() as con:  # before a folder of a mistyped name is made
        open_table(con, work, MANIFEST)
    unreadable: list[str] = []
    with (
        word_os_errors(work),
        locked(work),
        connect(work, memory_limit=memory_limit) as con,
        source_tables(con, work, on_unreadable=unreadable.append) as inputs,
    ):
        patterns = add_pattern(inputs.name_patterns, roots, name_pattern)
        inputs = replace(inputs, name_patterns=patterns)
        remarks = Remarks()
        workers = workers or usable_cores()
        _find(con, work, roots, remarks, workers, on_progress)
        on_progress("writing", 0, None)
        write_sources(con, work, inputs)
        if probe:
            _probe(con, work, inputs, workers, on_progress)
        lost = [f"{what} What it knew of copies elsewhere is lost." for what in unreadable]
        return _summary(con, work, [*lost, *remarks.lines(), *inputs.remarks])


def _find(
    con: duckdb.DuckDBPyConnection,
    work: Path,
    roots: Sequence[str],
    remarks: Remarks,
    workers: int,
    on_progress: OnProgress,
) -> None:
    """Fill `seen`: what there is at `roots`, and what the tables know elsewhere."""
    run(con, f"insert into seen by name\n{read_sql('k710/sources/kept.sql')}", {"roots": roots})
    kept = run(con, "select distinct uri, member, bytes from seen where precedence = 3")
    on_progress("looking at known copies", 0, None)
    look_at_known(con, kept, is_opened=False)
    copies = find_copies(
        [root.rstrip("/") or "/" for root in roots],
        remarks,
        workers=workers,
        on_archive=lambda done, total: on_progress("reading archives", done, total),
    )
    num_found = 0
    # Shards are no copies of what is in them.
    own = tuple(_below(os.path.abspath(work / name)) for name in ("shards", "staging"))
    copies = (copy for copy in copies if not copy.uri.startswith(own))
    while batch := list(itertools.islice(copies, _BATCH_COPIES)):
        see(
            con,
            [
                (copy.uri, copy.member, copy.bytes, copy.stamp.mtime_ns, copy.stamp.inode, None, 2)
                for copy in batch
            ],
        )
        num_found += len(batch)
        on_progress("looking for videos", num_found, None)


def _below(root: str) -> str:
    return root.rstrip("/") + "/"


# --- probe


def _probe(
    con: duckdb.DuckDBPyConnection,
    work: Path,
    inputs: SourceInputs,
    workers: int,
    on_progress: OnProgress,
) -> None:
    """Look into each chosen copy that isn't known, and write the tables with what was seen."""
    # These import PyAV, which takes its time.
    from k710.sources.clip_source import ClipSource
    from k710.sources.probe_all import probe_copies

    # A file that is no good, or turns out to be another window, makes room for the next copy.
    while rows := run(con, read_sql("k710/sources/unprobed.sql")):
        chosen = [ClipSource.from_row(*row) for row in rows]
        seen: list[ClipSource] = []
        num_done = 0
        save_at = time.monotonic() + _SAVE_S
        found = probe_copies(chosen, work / ".probe", workers=workers)
        try:
            for some in found:
                seen += some
                num_done += len(some)
                on_progress("probing", num_done, len(chosen))
                if time.monotonic() > save_at:
                    _save(con, work, inputs, seen)
                    seen = []
                    save_at = time.monotonic() + _SAVE_S
        finally:  # on Ctrl-C too
            found.close()
            _save(con, work, inputs, seen)


def _save(
    con: duckdb.DuckDBPyConnection,
    work: Path,
    inputs: SourceInputs,
    clips: Sequence["ClipSource"],
) -> None:
    """Write the tables with what a probe made of these clips' copies."""
    if not clips:
        return
    # These could not be read: where they lie is known, and no more.
    lost = [clip for clip in clips if clip.status == Status.MISSING and clip.detail != LACKING]
    see(
        con,
        [
            (clip.copy.uri, clip.copy.member, clip.copy.num_bytes, None, None, clip.detail, 0)
            for clip in lost
        ],
    )
    names = [*SOURCES.columns, "mtime_ns", "inode"]
    columns = map(list, zip(*(clip.stamped_row() for clip in clips), strict=True))
    con.register("batch", pa.table(list(columns), names=names))
    run(con, "insert into probed by name select * from batch")
    con.unregister("batch")
    write_sources(con, work, inputs)


# --- summary


def _summary(con: duckdb.DuckDBPyConnection, work: Path, remarks: Sequence[str]) -> IndexSummary:
    open_table(con, work, COPIES)
    make_table(con, "copy_fates", read_sql("k710/sources/copy_fates.sql"))
    fates = dict(
        run(con, "select fate, count(*) from copy_fates where fate is not null group by fate")
    )
    num_gone = fates.pop("gone", 0)
    unknown = run(
        con,
        "select uri, member from copy_fates where fate = 'unknown' "
        f"order by uri, member nulls first limit {SHOWN_UNKNOWN}",
    )
    lines = [*remarks, *_name_remarks(con)]
    if num_gone:
        ((first, why),) = run(
            con, "select min(uri), arg_min(why, uri) from copy_fates where fate = 'gone'"
        )
        lines.append(
            f"{num_gone:,} copies that were known are not there any more, or can't be read. The "
            f"first: {first} {why}. What was moved is found by k710 index --videos DIR"
        )
    unclear, example = run(
        con,
        "select count(*), min(clip_id) from sources where status = 'missing' and uri is not null",
    )[0]
    if unclear:
        lines.append(
            f"{unclear:,} missing clips have a copy that can't be used; `detail` in "
            f"sources.parquet says why. The first: {example}"
        )
    return IndexSummary(
        views=_coverage(con),
        videos=sum(fates.values()),
        used=fates.get("used", 0),
        duplicates=fates.get("duplicate", 0),
        unknown=fates.get("unknown", 0),
        unknown_first=tuple(uri if not member else f"{uri}: {member}" for uri, member in unknown),
        remarks=tuple(lines),
        work=str(work),
    )


def _name_remarks(con: duckdb.DuckDBPyConnection) -> Iterator[str]:
    """Which names are not understood, and how they must be."""
    for those, words in (
        ("num_readings = 0", f"names say no clip: {_HOW_NAMED}"),
        ("num_readings > 1", "names are those of several videos"),
        ("is_of_wanted_video", "names say a window (in seconds) that no list has of the video"),
    ):
        ((num, first),) = run(
            con,
            f"select count(*), min(place) from copy_fates where fate = 'unknown' and {those}",
        )
        if num:
            yield f"{num:,} not taken, because their {words}. The first: {first}"


def _coverage(con: duckdb.DuckDBPyConnection) -> tuple[ViewCoverage, ...]:
    rows = run(con, read_sql("k710/sources/coverage.sql"))
    views = []
    for view, of_view in itertools.groupby(rows, key=lambda row: row[0]):
        _, statuses, clips, found, duplicates = zip(*of_view, strict=True)
        views.append(
            ViewCoverage(
                view=view,
                clips=sum(clips),
                found=sum(found),
                missing=sum(clips) - sum(found),
                duplicates=sum(duplicates),
                statuses=dict(zip(statuses, clips, strict=True)),
            )
        )
    return tuple(views)
