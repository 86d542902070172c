"""Names of videos as a regular expression of the user's says them: `--name-pattern`.

DuckDB holds names against it, by RE2: in linear time, whatever the pattern. A pattern is of the
folders that were searched with it, and stays theirs: sources.parquet.json has it in its params.
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import duckdb

from k710.errors import SourceError, printable, shown
from k710.tables.connection import first_line, run
from k710.tables.schemas import read_sql

__all__ = ["add_pattern", "check_pattern", "read_names"]

_MOST_CHARACTERS = 1000
_GROUPS = ("id", "start", "end")
_EXAMPLE = r"Give one like (?P<id>[\w-]{11})_(?P<start>\d+)_(?P<end>\d+), or with id alone."


def check_pattern(pattern: str) -> dict[str, int]:
    """The numbers of the pattern's groups id, start and end, 0 where it has none such.

    SourceError where it is no regular expression, or lacks the group id.
    """
    name = f"--name-pattern {shown(pattern, limit=200)}"
    if len(pattern) > _MOST_CHARACTERS:
        raise SourceError(f"{name} has more than {_MOST_CHARACTERS:,} characters.\n{_EXAMPLE}")
    try:
        with warnings.catch_warnings(), duckdb.connect() as con:
            warnings.simplefilter("ignore")  # of what may mean another thing one day
            groups = re.compile(pattern).groupindex
            run(con, "select regexp_matches('', $pattern)", {"pattern": pattern})
    except (re.error, ValueError, OverflowError, RecursionError, duckdb.Error) as error:
        what = printable(first_line(error).removeprefix("Invalid Input Error: "))
        raise SourceError(f"{name} can't be used: {what}.\n{_EXAMPLE}") from error
    wrong = sorted(set(groups) - set(_GROUPS))
    if wrong:
        raise SourceError(f"{name} has a group {shown(wrong[0])}: they are id, start and end.")
    if "id" not in groups:
        raise SourceError(f"{name} has no group id: no video can be told by it.\n{_EXAMPLE}")
    if "end" in groups and "start" not in groups:
        raise SourceError(f"{name} has a group end and no start.\n{_EXAMPLE}")
    return {group: groups.get(group, 0) for group in _GROUPS}


def add_pattern(
    known: Mapping[str, str], roots: Sequence[str], pattern: str | None
) -> dict[str, str]:
    """The patterns, each by its folder with a slash at the end, after a search of `roots`.

    None: what was given for them before stays; an empty one is forgotten.
    """
    if pattern is None:
        return dict(known)
    left = {of: one for of, one in known.items() if not of.startswith(tuple(roots))}
    return {**left, **dict.fromkeys(roots, pattern)} if pattern else left


def read_names(con: duckdb.DuckDBPyConnection, patterns: Mapping[str, str]) -> None:
    """Make `pattern_names` a table on `con`: what the patterns say of the names in `stems`."""
    columns = "copy_id varchar, youtube_id varchar, start_text varchar, end_text varchar"
    run(con, f"create or replace temp table pattern_names ({columns})")
    insert = f"insert into pattern_names\n{read_sql('k710/sources/pattern_names.sql')}"
    for root in sorted(patterns, key=lambda root: (-len(root), root)):  # the nearest folder's first
        pattern = patterns[root]
        values: dict[str, Any] = {**check_pattern(pattern), "pattern": pattern, "root": root}
        run(con, insert, values)
