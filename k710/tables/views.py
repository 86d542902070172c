"""Views of the manifest, asked for by name."""

import difflib
from collections.abc import Sequence
from pathlib import Path

import duckdb

from k710.errors import StageError, shown
from k710.tables.connection import run

__all__ = ["require_views"]


def require_views(
    con: duckdb.DuckDBPyConnection, work: Path, views: Sequence[str], *, may_be_empty: bool = False
) -> list[str]:
    """Check that `manifest`, a table on `con`, has these views; returns all that it has, sorted.

    Every build has k710/train and k710/val, even if all their rows were dropped: they count where
    a view `may_be_empty`. StageError with the nearest name where one is lacking.
    """
    found = {view for (view,) in run(con, "select distinct view from manifest")}
    there = sorted(found | {"k710/train", "k710/val"} if may_be_empty else found)
    for view in views:
        if view not in there:
            near = ", ".join(difflib.get_close_matches(view, there, n=1, cutoff=0.0))
            raise StageError(
                f"There is no view {shown(view)} in {work}. Nearest: {near}.\n"
                f"There are {', '.join(there)}."
            )
    return there
