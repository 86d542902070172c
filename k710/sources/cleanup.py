"""Downloads that were not to be kept go when all that they were fetched for is in shards."""

import os
from pathlib import Path

import duckdb

from k710.sources.ledger import read_attempts
from k710.sources.outcomes import done_shards, open_outcomes
from k710.tables.connection import make_table, run
from k710.tables.schemas import read_sql

__all__ = ["remove_stored"]


def remove_stored(con: duckdb.DuckDBPyConnection, work: Path) -> int:
    """Remove these downloads of `work`; returns how many.

    The caller holds the lock of `work`. A file that the ledger names is removed only if it lies in
    downloads/. Tables `attempts` and `outcomes` on `con` are made anew.
    """
    folder = Path(os.path.abspath(work / "downloads"))
    if not folder.is_dir():
        return 0
    read_attempts(con, work)
    open_outcomes(con, work, sorted(done_shards(work)))
    make_table(con, "recorded", "from outcomes")
    make_table(con, "decoded", read_sql("k710/sources/decoded.sql"))
    num_gone = 0
    for (uri,) in run(con, f"{read_sql('k710/sources/discarded.sql')}\norder by newest.uri"):
        path = Path(os.path.abspath(uri))  # a ledger may have `..` in it
        if path.parent.parent == folder and path.is_file():
            path.unlink()
            num_gone += 1
    for table in ("recorded", "decoded"):
        run(con, f"drop table temp.{table}")
    return num_gone
