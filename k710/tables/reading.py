"""The one way in which tables are read: what is read is what the sidecar tells of.

A table counts if its bytes have the sidecar's hash, its columns are those of this version, and each
row keeps the rules of its columns: a table may come from anybody, and ids in it become names of
files. What was checked stays open, so that queries read the same bytes whatever takes the place of
the file meanwhile.
"""

import hashlib
import os
import sys
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from weakref import WeakKeyDictionary

import duckdb

from k710.errors import SchemaError, StageError, shown
from k710.statuses import FORMER_NAMES, Status
from k710.tables.clip_ids import CLIP_ID, MAX_TIME_S
from k710.tables.connection import (
    QUERY_ERRORS,
    find_damaged,
    note_opened,
    parquet_pattern,
    run,
    unreadable,
)
from k710.tables.schemas import Table
from k710.tables.sidecar import Identity, Sidecar, identity_of, read_sidecar

__all__ = ["open_table", "read_tables"]

_STATUSES = ", ".join(f"'{name}'" for name in (*Status, *FORMER_NAMES))
_RULES = {
    "clip_id": f"regexp_full_match(clip_id, '{CLIP_ID}')",
    "youtube_id": f"regexp_full_match(youtube_id, '{CLIP_ID}')",
    "view": "regexp_full_match(\"view\", '[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*')",
    "time_start": f"time_start between 0 and {MAX_TIME_S - 1}",
    "time_end": f"time_end between time_start + 1 and {MAX_TIME_S}",
    "label": "label is null or label between 0 and 709",  # rows of K710
    "status": f"status in ({_STATUSES})",
    "shard": "shard between 0 and 999999",
    "position": '"position" >= 0',
}
_sound: set[tuple[str, str]] = set()  # tables, by name and hash, whose rows keep the rules
# The files that the views of each connection read.
_descriptors: WeakKeyDictionary[duckdb.DuckDBPyConnection, dict[str, int]] = WeakKeyDictionary()


def open_table(
    con: duckdb.DuckDBPyConnection, work: Path, table: Table, *, name: str | None = None
) -> Sidecar:
    """Make the table of `work` a view on `con`, called `name` or as itself; returns its sidecar.

    StageError where it isn't built, is not what its sidecar tells of, or can't be read; SchemaError
    where another version built it, or a row breaks a rule.
    """
    path, name = table.path(work), name or table.name
    sidecar, descriptor = _open_checked(path, table, work)
    note_opened(con, {path: table.build_again(work)})
    # By its descriptor the file is the one that was hashed, also when another has its name.
    place = f"/proc/self/fd/{descriptor}" if sys.platform == "linux" else f"/dev/fd/{descriptor}"
    try:
        relation = con.read_parquet(place, file_row_number=True)
        _refuse_other_schema(path, table, _types_of(relation), work)
        columns = [f'"{column}"' for column in (*table.columns, "file_row_number")]
        relation.project(", ".join(columns)).create_view(name, replace=True)
        if (table.name, sidecar.sha256) not in _sound:
            _refuse_broken_rules(con, name, table, path, work)
            _sound.add((table.name, sidecar.sha256))
    except QUERY_ERRORS as error:
        raise find_damaged(con) or error from error
    finally:
        _keep_open(con, name, descriptor)
    return sidecar


def _keep_open(con: duckdb.DuckDBPyConnection, view: str, descriptor: int) -> None:
    """Keep the file of a view open until the view is replaced, or `con` is gone."""
    if con not in _descriptors:
        _descriptors[con] = {}
        weakref.finalize(con, _close_all, _descriptors[con])
    former = _descriptors[con].pop(view, None)
    _descriptors[con][view] = descriptor
    if former is not None:
        os.close(former)


def _close_all(descriptors: Mapping[str, int]) -> None:
    for descriptor in descriptors.values():
        os.close(descriptor)


def read_tables(
    con: duckdb.DuckDBPyConnection, work: Path, name: str, table: Table, paths: Sequence[Path]
) -> None:
    """Make `name` a temporary table on `con`: all rows of these files of one kind, in their order.

    StageError where one isn't built, is not what its sidecar tells of, or can't be read;
    SchemaError where another version built one, or a row breaks a rule.
    """
    note_opened(con, dict.fromkeys(paths, table.build_again(work)))
    run(con, f"create or replace temp table {name} ({table.declaration()})")
    columns = ", ".join(f'"{column}"' for column in table.columns)
    insert = f"insert into {name} select {columns} from read_parquet($files)"
    files = [parquet_pattern(path) for path in paths]
    while paths:
        before = [_check(path, table, work) for path in paths]
        failure = None
        try:
            run(con, insert, {"files": files})
        except QUERY_ERRORS as error:
            failure = error
        if before != [identity_of(path) for path in paths]:
            run(con, f"delete from {name}")  # one was replaced meanwhile: they are read again
        elif failure is not None:
            raise _explain(con, work, table, paths) or failure from failure
        else:
            break
    try:
        _refuse_broken_rules(con, name, table, work, work)
    except SchemaError as error:
        raise _explain(con, work, table, paths) or error from error


def _explain(
    con: duckdb.DuckDBPyConnection, work: Path, table: Table, paths: Sequence[Path]
) -> StageError | SchemaError | None:
    """What is wrong with one of the files that were read together, if that can be found."""
    damage = find_damaged(con)
    if damage is not None:
        return damage
    for path in paths:
        relation = con.read_parquet(parquet_pattern(path))
        try:
            _refuse_other_schema(path, table, _types_of(relation), work)
            relation.create_view("one_file", replace=True)
            _refuse_broken_rules(con, "one_file", table, path, work)
        except SchemaError as error:
            return error
    return None


def _open_checked(path: Path, table: Table, work: Path) -> tuple[Sidecar, int]:
    """The sidecar of the table at `path`, and a descriptor of the file that it tells of."""
    former = None
    while True:
        sidecar = read_sidecar(path)
        if sidecar is None or not path.is_file():
            raise StageError(f"There is no finished {path}.\nBuild it: {table.build_command(work)}")
        try:
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                if sha256 == sidecar.sha256:
                    return sidecar, os.dup(file.fileno())
        except OSError as error:
            raise unreadable(path, str(error.strerror), table.build_again(work)) from error
        if former == (sidecar.sha256, sha256):  # no table that was replaced between two looks
            raise StageError(
                f"{path} is not the table that {path.name}.json tells of: its bytes are others.\n"
                "It was changed, or copied without that file. If you have the two that belong "
                f"together, put them back. {table.build_again(work)}"
            )
        former = sidecar.sha256, sha256


def _check(path: Path, table: Table, work: Path) -> Identity | None:
    """Look at one file of several; returns its identity, which changes when it is replaced."""
    sidecar, descriptor = _open_checked(path, table, work)
    try:
        _refuse_other_schema(path, table, sidecar.schema, work)
        return identity_of(descriptor)
    finally:
        os.close(descriptor)


def _types_of(relation: duckdb.DuckDBPyRelation) -> dict[str, str]:
    return dict(zip(relation.columns, map(str, relation.types), strict=True))


def _refuse_other_schema(path: Path, table: Table, found: Mapping[str, str], work: Path) -> None:
    for column, kind in table.columns.items():
        if found.get(column) != kind:
            has = shown(found[column]) if column in found else "missing"
            raise SchemaError(
                f"{path}: column {column} should be {kind} and is {has}.\n"
                f"Another version wrote this table. {table.build_again(work)}"
            )


def _refuse_broken_rules(
    con: duckdb.DuckDBPyConnection, name: str, table: Table, path: Path, work: Path
) -> None:
    """SchemaError where a row of the table `name` on `con` has what its column can't have."""
    rules = {column: _RULES[column] for column in table.columns if column in _RULES}
    if not rules:
        return
    kept = " and ".join(f"coalesce({rule}, false)" for rule in rules.values())
    select = ", ".join(f'"{column}", coalesce({rule}, false)' for column, rule in rules.items())
    broken = run(con, f"select {select} from {name} where not ({kept}) order by all limit 1")
    for row in broken:
        for column, value, is_kept in zip(rules, row[::2], row[1::2], strict=True):
            if not is_kept:
                raise SchemaError(
                    f"{path} has {shown(value)} as {column}, which none can have.\n"
                    f"k710 did not write that. {table.build_again(work)}"
                )
