"""What a shard run makes: how far it is, how the clips fared, and what it will take."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from k710.part import Part
from k710.sources.outcomes import done_shards, open_index, open_outcomes
from k710.tables.connection import make_table, run
from k710.tables.schemas import read_sql
from k710.video.encode import Encoding, bytes_per_second

__all__ = ["Fate", "ShardProgress", "ShardSummary", "ToMake", "count_to_make", "summarise"]


@dataclass(frozen=True, slots=True)
class ShardProgress:
    """How far a run is. Clips without a copy don't count."""

    clips: int  # done, those of earlier runs not counted
    clips_in_all: int
    source_bytes: int  # read for them
    shards: int  # packed


@dataclass(frozen=True, slots=True)
class Fate:
    """How the clips of one view with one status fared."""

    view: str
    status: str
    clips: int
    stored: int
    bytes: int  # of the stored ones


@dataclass(frozen=True, slots=True)
class ShardSummary:
    """What a run made, or would make (`dry_run`)."""

    views: tuple[str, ...]
    fates: tuple[Fate, ...]  # by view and status
    encoding: dict[str, Any]
    shards_made: tuple[int, ...]
    shards_in_all: int
    clips_to_make: int  # that have a copy and are not in a shard yet
    clips_without_copy: int
    hours_to_make: float  # of video
    estimated_bytes: int  # of the shards to be made
    free_bytes: int  # on the disk of the work directory
    dry_run: bool
    seconds: float
    work: str
    part: str | None = None  # like 3/16: then all of this is of its shards alone
    clips_undecided: int = 0  # that have a copy which could not be read, or told from others


@dataclass(frozen=True, slots=True)
class ToMake:
    """What the shards to be made take."""

    clips: int  # that have a copy
    without_copy: int
    seconds: int  # of the clips


_NOTHING = ToMake(0, 0, 0)


def count_to_make(con: duckdb.DuckDBPyConnection, shards: Sequence[int]) -> ToMake:
    """What these shards take. `plan`, `sources` and `manifest` must be tables on `con`."""
    values = {"shards": list(shards)}
    make_table(con, "tasks", read_sql("k710/shards/tasks.sql"), values)
    (row,) = run(con, read_sql("k710/shards/to_make.sql"))
    run(con, "drop table tasks")
    return ToMake(*row)


def summarise(
    con: duckdb.DuckDBPyConnection,
    work: Path,
    views: Sequence[str],
    *,
    encoding: Encoding,
    seconds: float,
    to_make: ToMake = _NOTHING,
    made: Sequence[int] = (),
    dry_run: bool = False,
    part: Part | None = None,
    shards: Sequence[int] | None = None,
) -> ShardSummary:
    """Sum up a run, or a part of one, which made these `shards` of the plan.

    `manifest`, `sources` and `plan` must be tables on `con`; `index` and `fared` are made.
    """
    done = sorted(shard for shard in done_shards(work) if shards is None or shard in shards)
    open_index(con, work, done)
    if shards is None or dry_run:
        make_table(con, "fared", "select clip_id, status, uri from sources")
    else:  # a part does not write sources.parquet
        open_outcomes(con, work, done)
        make_table(con, "fared", read_sql("k710/shards/part_fates.sql"))
    values = {"views": list(views), "shards": None if shards is None else list(shards)}
    rows = run(con, read_sql("k710/shards/fates.sql"), values)
    if shards is None:
        ((num_shards,),) = run(con, "select count(distinct shard) from plan")
    else:
        num_shards = len(shards)
    ((num_undecided,),) = run(con, read_sql("k710/shards/undecided.sql"), values)
    return ShardSummary(
        views=tuple(views),
        fates=tuple(Fate(*row) for row in rows),
        encoding=encoding.params(),
        shards_made=tuple(made),
        shards_in_all=num_shards,
        clips_to_make=to_make.clips,
        clips_without_copy=to_make.without_copy,
        hours_to_make=to_make.seconds / 3600,
        estimated_bytes=round(to_make.seconds * bytes_per_second(encoding)),
        free_bytes=shutil.disk_usage(work).free,
        dry_run=dry_run,
        seconds=round(seconds, 3),
        work=str(work),
        part=None if part is None else str(part),
        clips_undecided=num_undecided,
    )
