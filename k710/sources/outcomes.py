"""The outcomes that shard runs leave, one table for each shard: how each of its clips fared.

    shards/000000.tar           the clips that are kept
    shards/000000.parquet       its rows of index.parquet
    tries/000000.parquet        one row per copy that was tried for a place
    outcomes/000000.parquet     one row per place, kept or not

The sidecar of the last is written last: with it the shard is done.
"""

import hashlib
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from k710.statuses import FORMER_NAMES
from k710.tables.connection import run
from k710.tables.reading import read_tables
from k710.tables.schemas import INDEX, OUTCOMES, TRIES, table_path
from k710.tables.sidecar import Sidecar, read_sidecar, require_shape

__all__ = [
    "HEADER_BYTES",
    "done_shards",
    "is_header_of",
    "open_index",
    "open_outcomes",
    "outcomes_sha256",
    "read_outcomes",
    "rename_statuses",
    "shard_name",
    "tar_path",
]


HEADER_BYTES = tarfile.BLOCKSIZE
"""Before the bytes of each member of a shard."""


def shard_name(shard: int) -> str:
    """`000000`: the name of a shard's files without their endings."""
    return f"{shard:06d}"


def tar_path(work: Path, shard: int) -> Path:
    """Where the shard's tar lies."""
    return work / "shards" / f"{shard_name(shard)}.tar"


def is_header_of(header: bytes, clip_id: str) -> bool:
    """Whether the `HEADER_BYTES` before some bytes of a shard say that those are this clip's."""
    return header[:100].rstrip(b"\0") == f"{clip_id}.mp4".encode()


@dataclass(frozen=True, slots=True)
class _Params:
    encoding: dict[str, str | int | bool | None]
    versions: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Notes:
    tar_bytes: int | None
    tar_sha256: str | None
    num_stored: int


@dataclass(frozen=True, slots=True)
class _OfShard:
    """What the sidecar of a shard's outcomes says."""

    params: _Params
    notes: _Notes


def done_shards(work: Path) -> dict[int, Sidecar]:
    """The shards that are whole, each with the sidecar of its outcomes.

    Sizes are looked at, not bytes: `k710 verify` does that.
    """
    done = {}
    for path in sorted((work / "outcomes").glob("[0-9]*.parquet")):
        sidecar = read_sidecar(path)
        if sidecar is None or not path.stem.isdigit():
            continue
        shard = int(path.stem)
        tar = tar_path(work, shard)
        size = require_shape(sidecar, path, _OfShard).notes.tar_bytes
        there = tar.stat().st_size if tar.is_file() else None
        if there == size and read_sidecar(table_path(work, f"shards/{path.stem}")) is not None:
            done[shard] = sidecar
    return done


def open_index(con: duckdb.DuckDBPyConnection, work: Path, shards: Sequence[int]) -> None:
    """Make `index` a table on `con`: the rows of these shards, by the shards' own tables."""
    paths = [table_path(work, f"shards/{shard_name(shard)}") for shard in shards]
    read_tables(con, work, "index", INDEX, paths)


def open_outcomes(con: duckdb.DuckDBPyConnection, work: Path, shards: Sequence[int]) -> None:
    """Make `outcomes` a table on `con`: all rows of these shards, none where there are none."""
    paths = [table_path(work, f"outcomes/{shard_name(shard)}") for shard in shards]
    read_tables(con, work, "outcomes", OUTCOMES, paths)
    rename_statuses(con, "outcomes")


def read_outcomes(
    con: duckdb.DuckDBPyConnection, work: Path, shards: Sequence[int] | None = None
) -> None:
    """Make `recorded` and `recorded_tries` tables on `con`: the outcomes and tries of these shards.

    None: of all shards, be their tars there or not.
    """
    if shards is None:
        names = [path.stem for path in _outcome_files(work)]
    else:
        names = [shard_name(shard) for shard in shards]
    outcomes = [table_path(work, f"outcomes/{name}") for name in names]
    read_tables(con, work, "recorded", OUTCOMES, outcomes)
    rename_statuses(con, "recorded")
    tries = [table_path(work, f"tries/{name}") for name in names]
    # Earlier versions left none.
    there = [path for path in tries if read_sidecar(path) is not None and path.is_file()]
    read_tables(con, work, "recorded_tries", TRIES, there)


def rename_statuses(con: duckdb.DuckDBPyConnection, table: str) -> None:
    """Give statuses of a temporary table that an earlier version wrote their present names."""
    for former, status in FORMER_NAMES.items():
        run(
            con,
            f"update {table} set status = $now where status = $former",
            {"now": status.value, "former": former},
        )


def _outcome_files(work: Path) -> dict[Path, str]:
    """The outcomes of the shards that are done, each with its hash."""
    sidecars = {path: read_sidecar(path) for path in sorted((work / "outcomes").glob("*.parquet"))}
    return {path: sidecar.sha256 for path, sidecar in sidecars.items() if sidecar is not None}


def outcomes_sha256(work: Path) -> str:
    """A hash of all outcomes that there are: what `sources.parquet` notes as its input."""
    lines = [f"{path.name} {sha256}\n" for path, sha256 in _outcome_files(work).items()]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
