"""The outcomes that shard runs leave, one table for each shard: how each of its clips fared.

    shards/000000.tar           the clips that are kept
    shards/000000.parquet       its rows of index.parquet
    outcomes/000000.parquet     one row per place, kept or not

The sidecar of the last is written last: with it the shard is done.
"""

import glob
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import duckdb

from k710.errors import SchemaError, StageError
from k710.tables.connection import run
from k710.tables.schemas import INDEX, OUTCOMES, Table, table_path
from k710.tables.sidecar import Sidecar, parquet_pattern, read_sidecar

__all__ = [
    "done_shards",
    "open_index",
    "open_outcomes",
    "outcomes_dir",
    "outcomes_sha256",
    "read_outcomes",
    "shard_name",
    "tar_path",
]


def outcomes_dir(work: Path) -> Path:
    """Where shard runs leave one table of outcomes for each shard, NNNNNN.parquet."""
    return work / "outcomes"


def shard_name(shard: int) -> str:
    """`000000`: the name of a shard's files without their endings."""
    return f"{shard:06d}"


def tar_path(work: Path, shard: int) -> Path:
    """Where the shard's tar lies."""
    return work / "shards" / f"{shard_name(shard)}.tar"


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
        size = sidecar.notes.get("tar_bytes")
        there = tar.stat().st_size if tar.is_file() else None
        if there == size and read_sidecar(table_path(work, f"shards/{path.stem}")) is not None:
            done[shard] = sidecar
    return done


def open_outcomes(con: duckdb.DuckDBPyConnection, work: Path, shards: Sequence[int]) -> None:
    """Make `outcomes` a table on `con`: all rows of these shards, none where there are none."""
    _open_shard_tables(con, work, OUTCOMES, "outcomes", shards)


def open_index(con: duckdb.DuckDBPyConnection, work: Path, shards: Sequence[int]) -> None:
    """Make `index` a table on `con`: the rows of these shards, by the shards' own tables."""
    _open_shard_tables(con, work, INDEX, "shards", shards)


def _open_shard_tables(
    con: duckdb.DuckDBPyConnection, work: Path, table: Table, folder: str, shards: Sequence[int]
) -> None:
    run(con, f"create or replace temp table {table.name} ({table.declaration()})")
    if shards:
        paths = [parquet_pattern(table_path(work, f"{folder}/{shard_name(s)}")) for s in shards]
        run(con, f"insert into {table.name} by name from read_parquet($paths)", {"paths": paths})


def _outcome_files(work: Path) -> dict[Path, str]:
    """The outcomes of the shards that are done, each with its hash."""
    sidecars = {path: read_sidecar(path) for path in sorted(outcomes_dir(work).glob("*.parquet"))}
    return {path: sidecar.sha256 for path, sidecar in sidecars.items() if sidecar is not None}


def outcomes_sha256(work: Path) -> str:
    """A hash of all outcomes that there are: what `sources.parquet` notes as its input."""
    lines = [f"{path.name} {sha256}\n" for path, sha256 in _outcome_files(work).items()]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_outcomes(con: duckdb.DuckDBPyConnection, work: Path) -> None:
    """Make `recorded` a table on `con`: the outcomes of all shards that are done."""
    run(con, f"create or replace temp table recorded ({OUTCOMES.declaration()})")
    files = [glob.escape(os.path.abspath(path)) for path in _outcome_files(work)]
    if not files:
        return
    try:
        relation = con.read_parquet(files)
        found = dict(zip(relation.columns, map(str, relation.types), strict=True))
        if found != OUTCOMES.columns:
            raise SchemaError(_again(work, "are of another version of k710"))
        columns = ", ".join(OUTCOMES.columns)
        run(
            con,
            f"insert into recorded select {columns} from read_parquet($files)",
            {"files": files},
        )
    except duckdb.Error as error:
        what = str(error).partition("\n")[0]
        raise StageError(_again(work, f"can't be read ({what})")) from error


def _again(work: Path, what: str) -> str:
    return (
        f"Tables in {outcomes_dir(work)} {what}.\n"
        f"Remove them, and make their shards again: {OUTCOMES.command} --work {work}"
    )
