"""`seen`, a temporary table: the files and members that there are, as far as was looked.

Its `precedence` says how near a look was: 0 a file was opened, 1 it was looked at by its path, 2 a
search came upon it, 3 it is remembered. locations.sql takes the nearest.
"""

from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow as pa

from k710.sources.stamps import look_at_all
from k710.tables.connection import run
from k710.tables.reading import open_table
from k710.tables.schemas import COPIES, read_sql

__all__ = ["have_returned", "look_again", "look_at_known", "make_seen", "see"]

_COLUMNS = {
    "uri": "VARCHAR",
    "member": "VARCHAR",
    "bytes": "BIGINT",
    "mtime_ns": "BIGINT",
    "inode": "UBIGINT",
    "why": "VARCHAR",
    "precedence": "INTEGER",
}
_ARROW = {
    "VARCHAR": pa.string(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "UBIGINT": pa.uint64(),
}


def make_seen(con: duckdb.DuckDBPyConnection) -> None:
    """Make `seen` a table on `con`, empty."""
    columns = ", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())
    run(con, f"create or replace temp table seen ({columns})")


def see(con: duckdb.DuckDBPyConnection, rows: Sequence[Sequence[object]]) -> None:
    """Add rows to `seen`: uri, member, bytes, mtime_ns, inode, why it can't be read, precedence."""
    if rows:
        columns = [list(column) for column in zip(*rows, strict=True)]
        schema = pa.schema([(name, _ARROW[kind]) for name, kind in _COLUMNS.items()])
        con.register("batch", pa.table(columns, schema=schema))
        run(con, "insert into seen select * from batch")
        con.unregister("batch")


def look_at_known(
    con: duckdb.DuckDBPyConnection,
    copies: Sequence[tuple[str, str | None, int | None]],
    *,
    is_opened: bool,
) -> None:
    """Look at the files of copies (uri, member, bytes), and add to `seen` what is there."""
    found = dict(look_at_all(sorted({uri for uri, _, _ in copies}), is_opened=is_opened))
    rows = []
    for uri, member, num_bytes in copies:
        there = found[uri]
        size = num_bytes if member is not None or there.why else there.num_bytes
        stamp = (None, None) if there.stamp is None else (there.stamp.mtime_ns, there.stamp.inode)
        rows.append((uri, member, size, *stamp, there.why, 0 if is_opened else 1))
    see(con, rows)


def look_again(con: duckdb.DuckDBPyConnection) -> None:
    """Look at the files of which it is doubted that what is known is true: doubted.sql.

    `former`, `tried`, `decoded`, `attempts` and `seen` must be tables on `con`.
    """
    look_at_known(con, run(con, read_sql("k710/sources/doubted.sql")), is_opened=True)


def have_returned(con: duckdb.DuckDBPyConnection, work: Path) -> bool:
    """Whether a copy can be read now that could not when copies.parquet was written."""
    open_table(con, work, COPIES, name="on_disk")
    gone = run(con, "select distinct uri from on_disk where why is not null order by uri")
    run(con, "drop view on_disk")
    seen = look_at_all([uri for (uri,) in gone], is_opened=True)
    return any(one.why is None for _, one in seen)
