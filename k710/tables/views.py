"""Views of the manifest, asked for by name."""

import difflib
from collections.abc import Sequence
from pathlib import Path

import duckdb

from k710.errors import StageError, shown
from k710.tables.connection import run

__all__ = ["require_views"]


def require_views(con: duckdb.DuckDBPyConnection, work: Path, views: Sequence[str]) -> list[str]:
    """Check that `manifest`, a table on `con`, has these views; returns all that it has, sorted.

    StageError with the nearest name where it lacks one.
    """
    rows = run(con, "select distinct view from manifest")
    # A build has these two, be it that every row was dropped.
    there = sorted({"k710/train", "k710/val", *(view for (view,) in rows)})
    for view in views:
        if view not in there:
            near = difflib.get_close_matches(view, there, n=1, cutoff=0.0)
            raise StageError(
                f"There is no view {shown(view)} in {work}. Nearest: {near[0]}.\n"
                f"There are {', '.join(there)}."
            )
    return there
