"""Annotation lists -> the tables of K710: annotations, manifest, dropped and leakage.

The rules are the .sql files beside this one. verdicts.sql decides which row of an id gets into a
k710 view; manifest.sql and dropped.sql write down the two sides of that; leakage.sql counts what
the upstream lists share.
"""

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from k710.annotations.find import Unread, find_lists
from k710.annotations.table import LISTS, write_annotations
from k710.files import locked, word_os_errors
from k710.labels.orders import class_names, labels_sha256
from k710.manifest.rules import Dedup, Rules
from k710.tables.connection import connect, make_table, run
from k710.tables.reading import open_table
from k710.tables.schemas import ANNOTATIONS, DROPPED, LEAKAGE, MANIFEST, read_sql
from k710.tables.sidecar import (
    TableSpec,
    disown,
    is_done,
    read_sidecar,
    require_shape,
    settle,
    write_table,
)

__all__ = ["Duplicates", "LeakageRow", "ListCount", "Summary", "build_manifest"]

OnProgress = Callable[[str, int, int | None], None]  # what, done, total if known


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Exact duplicates inside one list: same id, same window."""

    list_name: str  # dataset/split
    rows: int  # left out of the list's view
    conflicting: int  # clips whose duplicates have different labels
    example: str  # clip_id of one, of a conflicting one where there is one


@dataclass(frozen=True, slots=True)
class ListCount:
    """A list that was read, and its rows."""

    dataset: str
    name: str  # train, val, test, or a list of K600's own
    file: str
    rows: int


@dataclass(frozen=True, slots=True)
class LeakageRow:
    """What the lists `a` and `b` share; a row of leakage.parquet."""

    a: str
    b: str
    ids: int
    clips: int
    same_label: int  # clips
    other_label: int  # clips


@dataclass(frozen=True, slots=True)
class Summary:
    """What a build read and made; `asdict` of it is what `--json` prints."""

    rules: Rules
    lists: tuple[ListCount, ...]  # by dataset, name and file
    unread: tuple[Unread, ...]  # the other files of the folder, and why
    not_protected: tuple[str, ...]  # val and test lists that were not there
    views: dict[str, int]  # view -> clips
    dropped: dict[str, dict[str, int]]  # k710 view -> reason -> rows
    duplicates: tuple[Duplicates, ...]
    leakage: tuple[LeakageRow, ...]  # of all pairs of lists
    built: tuple[str, ...]  # tables made by this call; empty when all were done before
    work: str


def build_manifest(
    annotations: str | os.PathLike[str],
    *,
    work: str | os.PathLike[str] = "work",
    protect: Sequence[str] = ("val", "test"),
    prefer: Sequence[str] = ("k700", "k600", "k400"),
    dedup: Dedup = "id",
    memory_limit: str = "2GB",
    threads: int | None = None,
    require_complete: bool = False,
    merge_editions: bool = False,
    on_progress: OnProgress = lambda stage, rows, total: None,
) -> Summary:
    """Build K710 from the lists below the folder `annotations`; returns what was read and made.

    Writes annotations, manifest, dropped and leakage.parquet to `work`, each only where what it is
    made of has changed. `on_progress` is called with the stage, the rows read so far, and None.
    SourceError or LabelError at the first row that can't be used, before any table is touched;
    StageError when `work` is in use.
    """
    if isinstance(protect, str) or isinstance(prefer, str):
        raise ValueError("protect and prefer are lists of names, not text")
    rules = Rules(tuple(protect), tuple(prefer), dedup)
    lists = find_lists(Path(annotations))
    work = Path(work)
    with (
        word_os_errors(work),
        locked(work),
        _frugal_arrow(),
        connect(work, memory_limit=memory_limit, threads=threads) as con,
    ):
        on_progress("checking", 0, None)
        settle(work)
        is_new = write_annotations(
            con,
            work,
            lists.files,
            require_complete=require_complete,
            merge_editions=merge_editions,
            on_rows=lambda rows: on_progress("reading", rows, None),
        )
        built = [ANNOTATIONS.name] * is_new + _build_rest(con, work, rules, on_progress)
        if built:
            on_progress("auditing", 0, None)
            _audit(con, work, rules)
        return _summary(con, work, rules, lists.unread, built)


@contextlib.contextmanager
def _frugal_arrow() -> Iterator[None]:
    """Arrow's own allocator keeps what it once had: 100 to 150 MB at the height of a build."""
    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)


def _build_rest(
    con: duckdb.DuckDBPyConnection, work: Path, rules: Rules, on_progress: OnProgress
) -> list[str]:
    specs = _specs(work, rules)
    stale = [spec for spec in specs if not is_done(work, spec)]
    values = _sql_values(rules)
    temporary: set[str] = set()
    for spec in stale:
        on_progress(f"building {spec.table.name}", 0, None)
        for path in spec.uses:
            if path not in temporary:
                sql = read_sql(path)
                make_table(con, Path(path).stem, sql, _values_in(sql, values))
                temporary.add(path)
        write_table(con, work, spec, values=_values_in(spec.sql(), values))
    return [spec.table.name for spec in stale]


def _specs(work: Path, rules: Rules) -> list[TableSpec]:
    sidecar = read_sidecar(ANNOTATIONS.path(work))
    assert sidecar is not None
    inputs = {"annotations": sidecar.sha256, "labels": labels_sha256()}
    notes = {"not_protected": sidecar.notes.get("not_protected")}
    params = asdict(rules)
    ids = "k710/manifest/ids.sql"
    uses = (ids, "k710/manifest/listed.sql", "k710/manifest/verdicts.sql")
    return [
        TableSpec(MANIFEST, params, inputs, uses=uses, notes=notes),
        TableSpec(DROPPED, params, inputs, uses=uses, notes=notes),
        TableSpec(LEAKAGE, {}, inputs, uses=(ids,)),
    ]


def _sql_values(rules: Rules) -> dict[str, Any]:
    """What the $names in the .sql files stand for."""
    protected = [name.partition("/")[2] in rules.protect for name in LISTS]
    return {
        "lists": list(LISTS),
        "protected": sum(1 << bit for bit, held in enumerate(protected) if held),
        "protect": list(rules.protect),
        "prefer": list(rules.prefer),
        "dedup": rules.dedup,
        "label_names": list(class_names()),
    }


def _values_in(sql: str, values: Mapping[str, Any]) -> dict[str, Any]:
    names = set(re.findall(r"\$(\w+)", sql))
    return {name: value for name, value in values.items() if name in names}


def _audit(con: duckdb.DuckDBPyConnection, work: Path, rules: Rules) -> None:
    """AssertionError where a law of the tables is broken: no input does that, only a bug."""
    for table in (MANIFEST, DROPPED):
        open_table(con, work, table)
    sql = read_sql("k710/manifest/audit.sql")
    broken = run(con, sql, _values_in(sql, _sql_values(rules)))
    if broken:
        for table in (MANIFEST, DROPPED, LEAKAGE):
            disown(table.path(work))
        raise AssertionError(f"broken laws: {broken}")


# --- summary


@dataclass(frozen=True, slots=True)
class _Notes:
    lists: tuple[ListCount, ...]
    not_protected: tuple[str, ...]
    twins: tuple[Unread, ...] = ()


@dataclass(frozen=True, slots=True)
class _OfAnnotations:
    """What the sidecar of annotations.parquet says."""

    notes: _Notes


def _summary(
    con: duckdb.DuckDBPyConnection,
    work: Path,
    rules: Rules,
    unread: Sequence[Unread],
    built: Sequence[str],
) -> Summary:
    annotations = open_table(con, work, ANNOTATIONS)
    notes = require_shape(annotations, ANNOTATIONS.path(work), _OfAnnotations).notes
    for table in (MANIFEST, DROPPED, LEAKAGE):
        open_table(con, work, table)
    counts = con.execute("select view, count(*) from manifest group by view order by view")
    views = dict(counts.fetchall())
    dropped: dict[str, dict[str, int]] = {}
    for split, reason, rows in run(
        con,
        "select split, reason, count(*) from dropped group by split, reason order by split, reason",
    ):
        dropped.setdefault(f"k710/{split}", {})[reason] = rows
        views.setdefault(f"k710/{split}", 0)  # where every row was dropped
    leakage = run(
        con, "select a, b, ids, clips, same_label, other_label from leakage order by a, b"
    )
    return Summary(
        rules=rules,
        lists=notes.lists,
        unread=(*notes.twins, *unread),
        not_protected=notes.not_protected,
        views=views,
        dropped=dropped,
        duplicates=_duplicates(con, views, notes.lists),
        leakage=tuple(LeakageRow(*row) for row in leakage),
        built=tuple(built),
        work=str(work),
    )


def _duplicates(
    con: duckdb.DuckDBPyConnection, views: Mapping[str, int], lists: Sequence[ListCount]
) -> tuple[Duplicates, ...]:
    read = sum(entry.rows for entry in lists)
    if read == sum(clips for view, clips in views.items() if not view.startswith("k710/")):
        return ()
    return tuple(Duplicates(*row) for row in run(con, read_sql("k710/manifest/duplicates.sql")))
