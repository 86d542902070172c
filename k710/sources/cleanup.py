"""Downloads that were not to be kept go when all that they were fetched for is in shards."""

import os
from pathlib import Path

import duckdb

from k710.sources.ledger import read_attempts
from k710.sources.outcomes import done_shards, read_outcomes
from k710.sources.seen import look_again, make_seen
from k710.sources.table import make_steps
from k710.tables.connection import run
from k710.tables.schemas import COPIES, read_sql

__all__ = ["remove_stored"]


def remove_stored(con: duckdb.DuckDBPyConnection, work: Path) -> int:
    """Remove these downloads of `work`; returns how many.

    The caller holds the lock of `work`. A file that the ledger names is removed only if it lies in
    downloads/, and is the one that was tried. Table `attempts` on `con` is made anew.
    """
    folder = Path(os.path.abspath(work / "downloads"))
    if not folder.is_dir():
        return 0
    make_seen(con)
    run(con, f"create or replace temp table former ({COPIES.declaration()})")
    read_attempts(con, work)
    read_outcomes(con, work, sorted(done_shards(work)))
    make_steps(con, ("decoded", "tried"))
    look_again(con)
    num_gone = 0
    for (uri,) in run(con, f"{read_sql('k710/sources/discarded.sql')}\norder by newest.uri"):
        path = Path(os.path.abspath(uri))  # a ledger may have `..` in it
        if path.parent.parent == folder and path.is_file():
            path.unlink()
            num_gone += 1
    for table in ("recorded", "recorded_tries", "decoded", "tried", "former", "seen"):
        run(con, f"drop table temp.{table}")
    return num_gone
