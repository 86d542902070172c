"""Write annotations.parquet: every row of the lists, checked and labelled, or nothing at all."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from k710.annotations.check import ListRead, read_annotations, rows_schema
from k710.annotations.find import ListFile, Unread, unreadable
from k710.errors import K710Error, SourceError
from k710.files import sha256_of
from k710.labels.orders import DATASETS, labels_sha256
from k710.tables.reading import open_table
from k710.tables.schemas import ANNOTATIONS
from k710.tables.sidecar import TableSpec, is_done, write_table

__all__ = ["LISTS", "write_annotations"]

LISTS = tuple(sorted(f"{d}/{s}" for d in DATASETS for s in ("train", "val", "test")))
"""The nine lists as dataset/split, sorted: bit i of a found_in mask stands for LISTS[i]."""


def write_annotations(
    con: duckdb.DuckDBPyConnection,
    work: Path,
    files: Sequence[ListFile],
    *,
    require_complete: bool,
    merge_editions: bool,
    on_rows: Callable[[int], None],
) -> bool:
    """Write the checked rows of `files` to `work` and open them on `con`, as `annotations`.

    Returns False where the table was there already, made of the same files. `on_rows` is called
    with the rows read so far. SourceError or LabelError at the first row that can't be used;
    SourceError where `require_complete` and a val or test list is missing. The old table stands
    then.
    """
    spec = TableSpec(
        ANNOTATIONS,
        params={"datasets": {f.name: f.dataset for f in files}, "merge_editions": merge_editions},
        inputs={
            # Twins too: that they have the same rows is known of these bytes alone.
            **{form.name: _hash(form) for file in files for form in (file, *file.twins)},
            "labels": labels_sha256(),
        },
    )
    if is_done(work, spec):
        sidecar = open_table(con, work, ANNOTATIONS)
        _refuse_incomplete(sidecar.notes.get("not_protected") or [], require_complete)
        return False
    found: Counter[ListRead] = Counter()
    unread: list[Unread] = []
    failures: list[K710Error] = []

    def read_batches() -> Iterator[pa.RecordBatch]:
        try:
            yield from read_annotations(
                files,
                found=found,
                merge_editions=merge_editions,
                on_rows=on_rows,
                on_unread=unread.append,
            )
        except K710Error as error:
            failures.append(error)  # DuckDB would wrap it
            raise

    def note_lists() -> Mapping[str, Any]:
        # The holdout list is an extra: K600's own archive does not have it.
        there = {f"{read.dataset}/{read.name}" for read in found}
        missing = [name for name in LISTS if not name.endswith("/train") and name not in there]
        _refuse_incomplete(missing, require_complete)
        lists = [{**asdict(read), "rows": found[read]} for read in sorted(found)]
        twins = [asdict(twin) for twin in unread]
        return {"lists": lists, "twins": twins, "not_protected": missing}

    con.register("rows", pa.RecordBatchReader.from_batches(rows_schema, read_batches()))
    try:
        write_table(con, work, spec, notes=note_lists)
    except duckdb.Error:
        if failures:
            raise failures[0] from None
        raise
    open_table(con, work, ANNOTATIONS)
    return True


def _hash(file: ListFile) -> str:
    try:
        return sha256_of(file.path)
    except OSError as error:
        raise unreadable(file.path, error) from error


def _refuse_incomplete(missing: Sequence[str], require_complete: bool) -> None:
    if require_complete and missing:
        raise SourceError(
            f"Missing lists: {', '.join(missing)}: train videos that are in them can't be found.\n"
            "Add them, or build without --require-complete."
        )
