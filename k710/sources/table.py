"""sources.parquet: where each clip of the manifest is, and how it fared.

It is made of the copies that there are (`find` finds them), of what it said before, of the ledger
of downloads, and of the outcomes that shard runs leave in outcomes/NNNNNN.parquet. The rules are
.sql files beside this one: named.sql reads names, fetched_files.sql the ledger, candidates.sql says
which copy may be which clip, sources.sql chooses one.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from k710.errors import LabelError, StageError
from k710.labels.orders import (
    DATASETS,
    class_names,
    dataset_rows,
    dataset_spelling,
    labels_sha256,
    resolve_label,
)
from k710.sources.ledger import ledger_sha256, read_attempts, reread_statuses
from k710.sources.outcomes import outcomes_sha256, read_outcomes, rename_statuses
from k710.sources.refusals import refusals_sha256
from k710.statuses import statuses_sha256
from k710.tables.connection import make_table, run
from k710.tables.reading import open_table
from k710.tables.schemas import MANIFEST, SOURCES, read_sql
from k710.tables.sidecar import Sidecar, TableSpec, is_done, read_sidecar, write_table

__all__ = [
    "SourceInputs",
    "current_sources",
    "is_current",
    "open_sources",
    "refresh_sources",
    "rivals",
    "source_tables",
    "write_sources",
]

_STEPS = ("named", "folders", "windows", "facts", "candidates")  # made of copies
_LEDGER = ("discarded", "fetched_files", "fetched")  # made of the ledger
_USES = (
    "wanted",
    "named",
    "windows",
    "decoded",
    "ledger_lines",
    "attempts",
    *_LEDGER,
    "outdated",
    "facts",
    "candidates",
)
_INPUTS = ("former", "wanted", "recorded", "decoded", "probed", "copies", "attempts", *_LEDGER)
_BY_DOWNLOADS = "uri is null and starts_with(tool, 'yt-dlp')"
_SHARED_FOLDERS = """
select distinct folder from named
join (select youtube_id from wanted group by youtube_id having count(*) > 1) using (youtube_id)
where time_start is null
"""


@dataclass(frozen=True, slots=True)
class SourceInputs:
    """What sources.parquet is made of: name -> hash, and what there is to say of it."""

    hashes: Mapping[str, str]
    remarks: tuple[str, ...] = ()


def is_current(work: Path) -> bool:
    """Whether sources.parquet is made of the manifest, ledger and outcomes as they are now."""
    return is_done(work, _spec(_inputs(work)))


def refresh_sources(con: duckdb.DuckDBPyConnection, work: Path) -> tuple[str, ...]:
    """Write sources.parquet of what it says, of the ledger and outcomes/; no folder is searched.

    Returns remarks, such as how many clips have another status by the rules of today. Where there
    is no table, every clip that was not downloaded is missing. The caller holds the lock of `work`,
    and `con` is of `tables.connect`. StageError where there is no manifest.
    """
    with source_tables(con, work) as inputs:
        _keep_all(con)
        write_sources(con, work, inputs)
        return inputs.remarks


def current_sources(con: duckdb.DuckDBPyConnection, work: Path) -> tuple[str, ...]:
    """Make `sources` a table on `con` as `refresh_sources` would write it. It writes nothing.

    Returns the same remarks.

    `manifest` is there as well afterwards. StageError where there is no manifest.
    """
    open_table(con, work, MANIFEST)
    run(con, "drop table if exists temp.sources")  # of an earlier call, before a download
    if is_current(work):
        open_table(con, work, SOURCES)
        return ()
    with source_tables(con, work) as inputs:
        _keep_all(con)
        _make_steps(con, _STEPS)
        make_table(con, "sources", read_sql(SOURCES.sql))
    return inputs.remarks


def open_sources(con: duckdb.DuckDBPyConnection, work: Path) -> tuple[Sidecar, Sidecar]:
    """Make `manifest` and `sources` tables on `con` as they lie in `work`; returns their sidecars.

    StageError where one isn't built, or sources.parquet is of another manifest or other rules.
    """
    manifest, sources = open_table(con, work, MANIFEST), open_table(con, work, SOURCES)
    if sources.fingerprint != _spec({**sources.inputs, **_rules()}).fingerprint():
        why = f"sources.parquet in {work} was written by another version of k710."
    elif sources.inputs.get("manifest") != manifest.sha256:
        why = f"sources.parquet in {work} is of another manifest than the one there."
    else:
        return manifest, sources
    raise StageError(
        f"{why}\nBring it up to date: k710 index --videos DIR --work {work}, or with k710 shard."
    )


def rivals(con: duckdb.DuckDBPyConnection, work: Path) -> dict[str, int]:
    """The clips whose copy, if it turns out trimmed, can't be told from other windows of its id.

    clip_id -> how many windows the copy could be. Such a copy is called ID.mp4, isn't probed yet,
    and lies in no folder that names the class of just one of the windows. It writes nothing.
    """
    open_table(con, work, SOURCES)
    with source_tables(con, work):
        _keep_all(con)
        _make_steps(con, ("named", "folders", "windows"))
        return dict(run(con, read_sql("k710/sources/rivals.sql")))


def _keep_all(con: duckdb.DuckDBPyConnection) -> None:
    run(con, f"insert into copies\n{read_sql('k710/sources/kept.sql')}", {"roots": []})


@contextlib.contextmanager
def source_tables(con: duckdb.DuckDBPyConnection, work: Path) -> Iterator[SourceInputs]:
    """What sources.parquet is made of, as temporary tables of `con`; dropped at the end.

    Yields the hashes of these inputs, taken before they were read: a ledger may grow meanwhile.
    `former` (the table as it is), `wanted` and `decoded` are filled; `copies` (copy_id, uri,
    member, bytes, is_found: seen in this run) and `probed` (columns as sources) are for the caller
    to fill.
    """
    open_table(con, work, MANIFEST)
    hashes = _inputs(work)
    try:
        for name in ("former", "probed"):
            run(con, f"create or replace temp table {name} ({SOURCES.declaration()})")
        if read_sidecar(SOURCES.path(work)) is not None and SOURCES.path(work).is_file():
            open_table(con, work, SOURCES, name="on_disk")
            run(con, "insert into former select * exclude (file_row_number) from on_disk")
            rename_statuses(con, "former")
        run(
            con,
            "create or replace temp table copies "
            "(copy_id varchar, uri varchar, member varchar, bytes bigint, is_found boolean)",
        )
        read_outcomes(con, work)
        remarks = read_attempts(con, work)
        _make_steps(con, ("wanted", "decoded", *_LEDGER))
        remarks += _reread_former(con, work)
        run(con, read_sql("k710/sources/outdated.sql"))
        _see_again(con)
        yield SourceInputs(hashes, tuple(remarks))
    finally:
        run(con, "drop view if exists on_disk")
        for name in (*_STEPS, *_INPUTS):
            run(con, f"drop table if exists {name}")


def write_sources(con: duckdb.DuckDBPyConnection, work: Path, inputs: SourceInputs) -> None:
    """Write sources.parquet of the tables of `source_tables`, and open it as `sources` on `con`.

    The caller holds the lock of `work`. `inputs` are what `source_tables` yielded.
    """
    _make_steps(con, _STEPS)
    former = read_sidecar(SOURCES.path(work))
    write_table(con, work, _spec(inputs.hashes, former.notes if former else {}))
    open_table(con, work, SOURCES)


def _spec(inputs: Mapping[str, str], notes: Mapping[str, Any] | None = None) -> TableSpec:
    uses = tuple(f"k710/sources/{name}.sql" for name in _USES)
    return TableSpec(SOURCES, {}, dict(inputs), uses=uses, notes=dict(notes or {}))


def _inputs(work: Path) -> dict[str, str]:
    manifest = read_sidecar(MANIFEST.path(work))
    return {
        "manifest": "" if manifest is None else manifest.sha256,
        **_rules(),
        "outcomes": outcomes_sha256(work),
        "ledger": ledger_sha256(work),
    }


def _rules() -> dict[str, str]:
    return {
        "labels": labels_sha256(),
        "statuses": statuses_sha256(),
        "refusals": refusals_sha256(),
    }


def _reread_former(con: duckdb.DuckDBPyConnection, work: Path) -> list[str]:
    """Give what downloads once found out the statuses of today's rules; remarks how many change."""
    former = read_sidecar(SOURCES.path(work))
    if former is None or former.inputs.get("refusals") == refusals_sha256():
        return []
    make_table(con, "before", f"select clip_id, status from former where {_BY_DOWNLOADS}")
    reread_statuses(con, "former", where=_BY_DOWNLOADS)
    ((clips, videos),) = run(con, read_sql("k710/sources/reopened.sql"))
    run(con, "drop table temp.before")
    if not clips:
        return []
    return [
        f"{clips:,} clips of {videos:,} videos count as pending, which an earlier version called "
        "final: what was said of them is no known reason of the video itself."
    ]


def _see_again(con: duckdb.DuckDBPyConnection) -> None:
    """Downloads that a shard run missed, and that are there now, count as found."""
    rows = run(
        con,
        "select distinct uri, bytes from fetched_files join decoded using (clip_id, uri, bytes) "
        "where decoded.status = 'missing' order by all",
    )
    there = [row for row in rows if os.path.isfile(row[0])]
    if there:
        insert = "insert into copies values (copy_id($1, null, $2), $1, null, $2, true)"
        con.executemany(insert, there)


def _make_steps(con: duckdb.DuckDBPyConnection, names: tuple[str, ...]) -> None:
    for name in names:
        if name == "folders":
            _resolve_folders(con)
        else:
            make_table(con, name, read_sql(f"k710/sources/{name}.sql"))


def _resolve_folders(con: duckdb.DuckDBPyConnection) -> None:
    """Make `folders`: the class that a folder's name is, for folders where that can decide."""
    run(con, "create or replace temp table folders (folder varchar, label smallint)")
    spellings = [dataset_spelling(name, row) for name in DATASETS for row in dataset_rows(name)]
    # LabelError looks for the nearest names, which takes its time: not for each of many folders.
    known = {_letters(name) for name in (*class_names(), *spellings)}
    labels = []
    for (folder,) in run(con, _SHARED_FOLDERS):
        if _letters(folder) in known:
            with contextlib.suppress(LabelError):
                labels.append((folder, resolve_label(folder)))
    if labels:
        con.executemany("insert into folders values (?, ?)", labels)


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name.lower())
