"""Which clips of a view a list can name, and why it can't name the others: the table `exported`.

It is a temporary table on the connection, one row per clip of the view; `reason` is null where the
clip is listed. export_copies.sql and export_shards.sql make it.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import duckdb
import pyarrow as pa

from k710.errors import K710Error, StageError
from k710.export.formats import SEPARATORS, needs_labels, refuse_path, separator_of
from k710.export.request import ExportRequest
from k710.export.summary import LeftOut, nothing_to_list
from k710.sources.table import open_sources
from k710.tables.connection import make_table, run
from k710.tables.reading import open_table
from k710.tables.schemas import INDEX, read_sql
from k710.tables.views import require_views

__all__ = [
    "OnProgress",
    "check_files",
    "choose_clips",
    "choose_separator",
    "count_left_out",
    "fetch_batches",
    "open_inputs",
]

OnProgress = Callable[[str, int, int | None], None]  # what, done, total if known
_BATCH_ROWS = 50_000
_FILES = "select clip_id, path, bytes from exported where reason is null order by clip_id"
_ELSEWHERE = "select clip_id, uri from exported where reason = 'elsewhere' order by clip_id"
# Of all copies below the root: so the lists of all views are cut in the same way.
_HAS = """
select count(*) from (
    select substr(uri, length($root) + 1) as path from sources where starts_with(uri, $root)
    union all
    select path from exported where reason is null
) where contains(path, $separator)
"""


def open_inputs(con: duckdb.DuckDBPyConnection, request: ExportRequest) -> dict[str, str]:
    """Open the tables that are needed; returns the SHA-256 of each.

    StageError where one is missing or of another manifest, or none has that view.
    """
    work = request.work
    manifest, sources = open_sources(con, work)
    hashes = {"manifest": manifest.sha256, "sources": sources.sha256}
    if request.from_shards:
        hashes["index"] = open_table(con, work, INDEX).sha256
    require_views(con, work, [request.view])
    return hashes


def choose_clips(
    con: duckdb.DuckDBPyConnection,
    request: ExportRequest,
    *,
    rows: Sequence[int],
    names: Sequence[str],
) -> None:
    """Make `exported`, of the tables that `open_inputs` opened.

    `rows` and `names` are the K710 row and the name of each class, by its class index. StageError
    where no clip can be listed.
    """
    classes = {"k710_row": rows, "class_index": range(len(rows)), "class_name": names}
    con.register("classes", pa.table({name: list(column) for name, column in classes.items()}))
    values: dict[str, Any] = {"view": request.view, "needs_label": needs_labels(request.format)}
    if not request.from_shards:
        values["root"] = request.root.rstrip("/") + "/"
    name = "export_shards" if request.from_shards else "export_copies"
    make_table(con, "exported", read_sql(f"k710/export/{name}.sql"), values)
    run(con, "create temp table in_shards (clip_id varchar)")
    if not request.from_shards:
        _look_through_links(con, request.root)
        with suppress(K710Error):  # nothing but a remark depends on it
            open_table(con, request.work, INDEX)
            run(con, "insert into in_shards select clip_id from index")
    _refuse_nothing(con, request)


def _look_through_links(con: duckdb.DuckDBPyConnection, root: str) -> None:
    """List those too that are below the root by another path than k710 index took."""
    root = os.path.realpath(root)
    below: dict[str, str | None] = {}  # folder -> as it is called below the root
    found: list[tuple[str, str]] = []
    for batch in fetch_batches(con, _ELSEWHERE):
        for clip_id, uri in batch:
            folder, name = os.path.split(uri)
            if folder not in below:
                real = os.path.realpath(folder)
                is_below = os.path.commonpath((root, real)) == root
                below[folder] = os.path.relpath(real, root) if is_below else None
            path = below[folder]
            if path is not None:
                found.append((clip_id, os.path.normpath(os.path.join(path, name))))
    if found:
        clip_ids, paths = zip(*found, strict=True)
        con.register("linked", pa.table({"clip_id": clip_ids, "path": paths}))
        run(
            con,
            "update exported set path = linked.path, reason = null from linked "
            "where exported.clip_id = linked.clip_id",
        )


def count_left_out(con: duckdb.DuckDBPyConnection) -> list[LeftOut]:
    """How many clips of `exported` are not listed, by reason."""
    rows = run(
        con,
        "select reason, count(*), count(in_shards.clip_id) "
        "from exported left join in_shards using (clip_id) "
        "where reason is not null group by reason order by reason",
    )
    return [LeftOut(*row) for row in rows]


def _refuse_nothing(con: duckdb.DuckDBPyConnection, request: ExportRequest) -> None:
    if not run(con, "select 1 from exported where reason is null limit 1"):
        raise StageError(nothing_to_list(request, count_left_out(con)))


def choose_separator(con: duckdb.DuckDBPyConnection, request: ExportRequest) -> str | None:
    """What stands between path and class in the list; None where the format has a way of its own.

    StageError where no separator of the format is in none of the paths.
    """
    if request.from_shards:  # names of shards and clips have none of them
        return separator_of(request.format, SEPARATORS, request.root)
    values = {"root": request.root.rstrip("/") + "/"}
    unused = [
        separator
        for separator in SEPARATORS
        if run(con, _HAS, {**values, "separator": separator}) == [(0,)]
    ]
    return separator_of(request.format, unused, request.root)


def check_files(
    con: duckdb.DuckDBPyConnection, request: ExportRequest, *, on_progress: OnProgress
) -> bool:
    """Leave out the files that are not as they were; returns whether a path has a space.

    StageError where the format can't carry a path, or no file is left.
    """
    changed: list[str] = []
    num_seen, has_spaces = 0, False
    for batch in fetch_batches(con, _FILES):
        for clip_id, path, num_bytes in batch:
            whole = os.path.join(request.root, path)
            if _size_of(whole) != num_bytes:
                changed.append(clip_id)
                continue
            written = whole if request.format == "videomae" else path
            refuse_path(written, request.format)
            has_spaces = has_spaces or " " in written
        num_seen += len(batch)
        on_progress("looking at files", num_seen, None)
    if changed:
        con.register("changed", pa.table({"clip_id": changed}))
        run(con, "update exported set reason = 'changed' where clip_id in (from changed)")
        _refuse_nothing(con, request)
    return has_spaces


def _size_of(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except OSError:
        return None


def fetch_batches(con: duckdb.DuckDBPyConnection, sql: str) -> Iterator[list[Any]]:
    """The rows of a query; nothing else may run on `con` until they are at their end."""
    result = con.execute(sql)
    while batch := result.fetchmany(_BATCH_ROWS):
        yield batch
