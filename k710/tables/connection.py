"""DuckDB connections that stay within their memory, and say in words what stopped them."""

import contextlib
import glob
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import duckdb

from k710.errors import StageError, printable
from k710.files import disk_full
from k710.machine import num_bytes_of, usable_cores
from k710.statuses import statuses_table
from k710.tables.schemas import read_sql

__all__ = [
    "QUERY_ERRORS",
    "connect",
    "connect_to_read",
    "define_common",
    "find_damaged",
    "first_line",
    "make_table",
    "note_opened",
    "parquet_pattern",
    "run",
    "unreadable",
]

MAX_THREADS = 256
QUERY_ERRORS = (duckdb.Error, RuntimeError)
"""What DuckDB raises: RuntimeError where its words are no UTF-8, and at Ctrl-C."""

# The tables that each connection reads, by path, with what to do about one that can't be read.
_opened: WeakKeyDictionary[duckdb.DuckDBPyConnection, dict[Path, str]] = WeakKeyDictionary()


def run(
    con: duckdb.DuckDBPyConnection, sql: str, values: Mapping[str, Any] | None = None
) -> list[tuple[Any, ...]]:
    """Run one statement with its $parameters; returns all rows.

    DuckDB 2 refuses the next statement while rows of the last one are not fetched.
    """
    return con.execute(sql, values).fetchall()


def make_table(
    con: duckdb.DuckDBPyConnection, name: str, sql: str, values: Mapping[str, Any] | None = None
) -> None:
    """Make the rows of a select a temporary table; one of the same name is replaced."""
    run(con, f"create or replace temp table {name} as\n{sql}", values)


def define_common(con: duckdb.DuckDBPyConnection) -> None:
    """Give `con` what any .sql file may use: the macros, and the table `statuses`."""
    run(con, read_sql("k710/tables/macros.sql"))
    make_table(con, "statuses", read_sql("k710/tables/statuses.sql"), statuses_table())


@contextlib.contextmanager
def connect(
    work: Path, *, memory_limit: str, threads: int | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB connection that spills into `work` and keeps the whole process near `memory_limit`.

    Inside the block a full disk, or a limit that is too small, becomes a StageError, and Ctrl-C a
    KeyboardInterrupt wherever it comes. ValueError where `threads` is out of range.
    """
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        raise ValueError(f"threads must be from 1 to {MAX_THREADS}, and is {threads}")
    spill = Path(os.path.abspath(work)) / ".spill"  # DuckDB would expand a ~
    shutil.rmtree(spill, ignore_errors=True)  # of a process that was killed
    settings: dict[str, Any] = {
        # The rest is for Python, Arrow's read-ahead and what DuckDB does not count.
        "memory_limit": f"{int(_bytes(memory_limit) * 0.6)}B",
        "temp_directory": str(spill),
        "autoinstall_known_extensions": False,
    }
    # Memory grows with threads: full-size lists peak at 0.88, 0.96 and 1.02 GB with 2, 4 and 8.
    settings["threads"] = threads or min(4, usable_cores())
    try:
        with duckdb.connect(config=settings) as con, _word_damage(con):
            define_common(con)
            yield con
    except QUERY_ERRORS as error:
        # Ctrl-C inside a query comes out as whatever was under way. (A path may say "interrupted".)
        if re.search("KeyboardInterrupt|Query interrupted|INTERRUPT Error", str(error)):
            raise KeyboardInterrupt from error
        worded = _worded(error, work, memory_limit)
        if worded is None:
            raise
        raise worded from error
    finally:
        shutil.rmtree(spill, ignore_errors=True)


@contextlib.contextmanager
def connect_to_read() -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB connection for a few queries of tables: what is in a .sql file runs on it.

    A table that turns out to be damaged inside the block becomes a StageError that names it.
    """
    with duckdb.connect() as con, _word_damage(con):
        define_common(con)
        yield con


@contextlib.contextmanager
def _word_damage(con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    try:
        yield
    except QUERY_ERRORS as error:
        is_of_data = not isinstance(error, duckdb.InterruptException | duckdb.OutOfMemoryException)
        damage = find_damaged(con) if is_of_data else None
        if damage is None:
            raise
        raise damage from error


def note_opened(con: duckdb.DuckDBPyConnection, tables: Mapping[Path, str]) -> None:
    """Remember that `con` reads these files, and what to do about each that can't be read."""
    _opened.setdefault(con, {}).update(tables)


def find_damaged(con: duckdb.DuckDBPyConnection) -> StageError | None:
    """Look for a table, of those that `con` reads, that can't be read to its end."""
    for path, advice in _opened.get(con, {}).items():
        whole = "select max(hash(rows)) from read_parquet($path) as rows"
        try:
            with duckdb.connect() as other:
                run(other, whole, {"path": parquet_pattern(path)})
        except QUERY_ERRORS as error:
            return unreadable(path, first_line(error), advice)
    return None


def parquet_pattern(path: Path) -> str:
    """What DuckDB's readers take for just this file."""
    return glob.escape(os.path.abspath(path))


def unreadable(path: Path, why: str, advice: str) -> StageError:
    """Make the error that says of a table that it is damaged, and what to do about it."""
    return StageError(f"{path} can't be read ({printable(why)}).\n{advice}")


def _worded(error: Exception, work: Path, memory_limit: str) -> StageError | None:
    """What to tell the user of an error of DuckDB; None where it is a bug of ours."""
    what = first_line(error)
    if isinstance(error, duckdb.OutOfMemoryException):
        if "max_temp_directory_size" in str(error):
            return disk_full(work, "spill space")
        return StageError(
            f"--memory-limit {memory_limit} is too small for these lists ({what}).\n"
            "Give more, or fewer --threads: each thread needs some for itself."
        )
    if isinstance(error, duckdb.IOException | duckdb.FatalException):
        if re.search(r"no space|disk quota|file too large|could not write", what, re.IGNORECASE):
            return disk_full(work, what)
        return StageError(f"{what}.\nMend that, or choose another --work than {work}.")
    return None


def _bytes(size: str) -> int:
    try:
        return num_bytes_of(size)
    except ValueError as error:
        raise StageError(f"--memory-limit {error}") from error


def first_line(error: Exception) -> str:
    """What an error says, without the query and the advice that DuckDB adds."""
    return str(error).partition("\n")[0]
