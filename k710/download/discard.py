"""Downloads that were not to be kept go when all that they were fetched for is in shards."""

import os
from pathlib import Path
from typing import Any

from k710.shards.write import done_shards, open_outcomes
from k710.sources.ledger import read_attempts
from k710.tables.sidecar import read_sql

__all__ = ["remove_stored"]


def remove_stored(con: Any, work: Path) -> int:
    """Remove these downloads of `work`; returns how many.

    The caller holds the lock of `work`. A file that the ledger names is removed only if it lies in
    downloads/. Tables `attempts` and `outcomes` on `con` are made anew.
    """
    folder = Path(os.path.abspath(work / "downloads"))
    if not folder.is_dir():
        return 0
    read_attempts(con, work)
    open_outcomes(con, work, sorted(done_shards(work)))
    con.execute("create or replace temp table recorded as from outcomes").fetchall()
    con.execute(f"create or replace temp table decoded as\n{read_sql('decoded')}").fetchall()
    num_gone = 0
    for (uri,) in con.execute(f"{read_sql('discarded')}\norder by newest.uri").fetchall():
        path = Path(os.path.abspath(uri))  # a ledger may have `..` in it
        if path.parent.parent == folder and path.is_file():
            path.unlink()
            num_gone += 1
    for table in ("recorded", "decoded"):
        con.execute(f"drop table temp.{table}").fetchall()
    return num_gone
