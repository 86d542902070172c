"""sources.parquet and copies.parquet: where each clip of the manifest is, and how it fared.

copies.parquet has every copy of each clip, in the order in which they are taken; sources.parquet
the one that is taken now. Both are made of the copies that there are (`find` finds them), of what
copies.parquet said before, of the ledger of downloads, and of what shard runs leave in
outcomes/NNNNNN.parquet and tries/NNNNNN.parquet. The rules are .sql files beside this one:
readings.sql reads names, fetched_files.sql the ledger, facts.sql says what is known of a copy,
candidates.sql which may be which clip and which comes first, sources.sql takes one.
"""

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb

from k710.errors import K710Error, LabelError, StageError
from k710.labels.orders import (
    DATASETS,
    class_names,
    dataset_rows,
    dataset_spelling,
    labels_sha256,
    resolve_label,
)
from k710.sources.ledger import ledger_sha256, read_attempts, reread_statuses
from k710.sources.name_patterns import read_names
from k710.sources.outcomes import outcomes_sha256, read_outcomes, rename_statuses
from k710.sources.refusals import refusals_sha256
from k710.sources.seen import look_again, make_seen
from k710.statuses import statuses_sha256
from k710.tables.connection import make_table, run
from k710.tables.reading import open_table
from k710.tables.schemas import COPIES, MANIFEST, SOURCES, Table, read_sql
from k710.tables.sidecar import Sidecar, TableSpec, is_done, read_sidecar, write_table
from k710.video.formats import VIDEO_ENDINGS

__all__ = [
    "SourceInputs",
    "current_sources",
    "is_current",
    "make_steps",
    "open_copies",
    "open_sources",
    "refresh_sources",
    "source_tables",
    "write_sources",
]

_STEPS = (  # made of `seen`
    "locations",
    "stems",
    "readings",
    "named",
    "folders",
    "windows",
    "moved_downloads",
    "facts",
    "candidates",
)
_LEDGER = ("discarded", "fetched_files", "fetched")  # made of the ledger
_USES = (
    *("wanted", "decoded", "tried", "doubted", "ledger_lines", "attempts", *_LEDGER),
    *("outdated", "kept", "pattern_names"),
    *(step for step in _STEPS if step != "folders"),
)
_INPUTS = ("former", "wanted", "recorded", "recorded_tries", "decoded", "tried", "probed", "seen")
_TABLES = (*_STEPS, *_INPUTS, "attempts", *_LEDGER, "pattern_names")
_BY_DOWNLOADS = "uri is null and starts_with(tool, 'yt-dlp')"
_SHARED_FOLDERS = """
select distinct folder from named
join (select youtube_id from wanted group by youtube_id having count(*) > 1) using (youtube_id)
where time_start is null
"""


@dataclass(frozen=True, slots=True)
class SourceInputs:
    """What the tables are made of: the hashes of inputs, how names are read, what is to be said."""

    hashes: Mapping[str, str]
    name_patterns: Mapping[str, str]  # by the folder, with a slash at its end, that each is of
    remarks: tuple[str, ...] = ()

    def spec(self, table: Table, notes: Mapping[str, Any], **more: str) -> TableSpec:
        """The spec of one of the two tables; `more` are hashes of further inputs."""
        params = {"name_patterns": dict(self.name_patterns)} if self.name_patterns else {}
        uses = tuple(f"k710/sources/{name}.sql" for name in _USES)
        return TableSpec(table, params, {**self.hashes, **more}, uses=uses, notes=dict(notes))


def is_current(work: Path) -> bool:
    """Whether sources.parquet is made of the manifest, ledger and outcomes as they are now.

    And copies.parquet is the one that was written with it.
    """
    copies, sources = read_sidecar(COPIES.path(work)), read_sidecar(SOURCES.path(work))
    if copies is None or sources is None or not COPIES.path(work).is_file():
        return False
    inputs = SourceInputs(_hashes(work), _patterns_of(sources))
    is_of_these = copies.fingerprint == inputs.spec(COPIES, {}).fingerprint()
    return is_of_these and is_done(work, inputs.spec(SOURCES, {}, copies=copies.sha256))


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
        make_steps(con, _STEPS, inputs.name_patterns)
        make_table(con, "sources", read_sql(SOURCES.sql))
    return inputs.remarks


def open_sources(con: duckdb.DuckDBPyConnection, work: Path) -> tuple[Sidecar, Sidecar]:
    """Make `manifest` and `sources` tables on `con` as they lie in `work`; returns their sidecars.

    StageError where one isn't built, or sources.parquet is of another manifest or other rules.
    """
    manifest, sources = open_table(con, work, MANIFEST), open_table(con, work, SOURCES)
    inputs = SourceInputs({**sources.inputs, **_rules()}, _patterns_of(sources))
    if sources.inputs.get("manifest") != manifest.sha256:
        raise StageError(
            f"sources.parquet in {work} is of another manifest than the one there.\n"
            f"Bring it up to date: k710 index --videos DIR --work {work}"
        )
    if sources.fingerprint != inputs.spec(SOURCES, {}).fingerprint():
        why = f"sources.parquet in {work} was written by another version of k710."
        raise StageError(f"{why}\n{_bring_up_to_date(work)}")
    return manifest, sources


def open_copies(con: duckdb.DuckDBPyConnection, work: Path, sources: Sidecar) -> None:
    """Make `copies` a table on `con`: copies.parquet, which was written with these `sources`.

    StageError where it isn't there, or was written with others.
    """
    copies = open_table(con, work, COPIES)
    if sources.inputs.get("copies") != copies.sha256:
        raise StageError(
            f"copies.parquet and sources.parquet in {work} were not written by one run.\n"
            f"{_bring_up_to_date(work)}"
        )


def _bring_up_to_date(work: Path) -> str:
    return f"Bring it up to date: k710 index --videos DIR --work {work}, or with k710 shard."


@contextlib.contextmanager
def source_tables(
    con: duckdb.DuckDBPyConnection,
    work: Path,
    *,
    on_unreadable: Callable[[str], None] | None = None,
) -> Iterator[SourceInputs]:
    """What the two tables are made of, as temporary tables of `con`; dropped at the end.

    Yields what they are made of, with hashes taken before it was read: a ledger may grow meanwhile.
    `former` (the tables as they are), `wanted`, `tried` and `decoded` are filled; `seen` (see
    seen.py) and `probed` (columns as copies) are for the caller to fill. Tables that can't be read
    are an error; with `on_unreadable` that is told, and they count as if they weren't there.
    """
    open_table(con, work, MANIFEST)
    sources = read_sidecar(SOURCES.path(work))
    inputs = SourceInputs(_hashes(work), _patterns_of(sources) if sources else {})
    try:
        for name in ("former", "probed"):
            run(con, f"create or replace temp table {name} ({COPIES.declaration()})")
        make_seen(con)
        _read_former(con, work, on_unreadable)
        read_outcomes(con, work)
        remarks = read_attempts(con, work)
        make_steps(con, ("wanted", "decoded", "tried"))
        look_again(con)
        make_steps(con, _LEDGER)
        remarks += _reread_former(con, work)
        run(con, read_sql("k710/sources/outdated.sql"))
        yield replace(inputs, remarks=tuple(remarks))
    finally:
        run(con, "drop view if exists on_disk")
        for name in _TABLES:
            run(con, f"drop table if exists {name}")


def write_sources(con: duckdb.DuckDBPyConnection, work: Path, inputs: SourceInputs) -> None:
    """Write copies.parquet and sources.parquet of the tables of `source_tables`.

    `sources` is open on `con` afterwards. The caller holds the lock of `work`; `inputs` are what
    `source_tables` yielded.
    """
    make_steps(con, _STEPS, inputs.name_patterns)
    former = read_sidecar(SOURCES.path(work))
    write_table(con, work, inputs.spec(COPIES, {}))
    copies = read_sidecar(COPIES.path(work))
    assert copies is not None  # just written
    notes = former.notes if former else {}
    write_table(con, work, inputs.spec(SOURCES, notes, copies=copies.sha256))
    open_table(con, work, SOURCES)


def _hashes(work: Path) -> dict[str, str]:
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


def _patterns_of(sidecar: Sidecar) -> dict[str, str]:
    """The patterns of names that a table was made with; none where it says something else."""
    found = sidecar.params.get("name_patterns")
    pairs = found.items() if isinstance(found, dict) else ()
    return {of: one for of, one in pairs if isinstance(of, str) and isinstance(one, str)}


# --- what was known before


def _read_former(
    con: duckdb.DuckDBPyConnection, work: Path, on_unreadable: Callable[[str], None] | None
) -> None:
    """Fill `former` with what both tables said; of clips without a copy sources.parquet alone does.

    Before there was a copies.parquet, or where it can't be read, sources.parquet has one copy.
    """
    has_copies = False
    for table in (COPIES, SOURCES):
        if read_sidecar(table.path(work)) is None or not table.path(work).is_file():
            continue
        try:
            open_table(con, work, table, name="on_disk")
            run(
                con,
                "insert into former by name select * exclude (file_row_number) from on_disk "
                "where uri is null or not $has_copies",
                {"has_copies": has_copies},
            )
        except (K710Error, duckdb.Error) as error:
            if on_unreadable is None:
                raise
            on_unreadable(str(error).partition("\n")[0])
        else:
            has_copies = True
    rename_statuses(con, "former")


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


def _keep_all(con: duckdb.DuckDBPyConnection) -> None:
    run(con, f"insert into seen by name\n{read_sql('k710/sources/kept.sql')}", {"roots": []})


# --- steps


def make_steps(
    con: duckdb.DuckDBPyConnection,
    names: Sequence[str],
    name_patterns: Mapping[str, str] | None = None,
) -> None:
    """Make each of these a temporary table on `con`, in that order, by the .sql file named so."""
    endings = "|".join(ending.removeprefix(".") for ending in VIDEO_ENDINGS)
    for name in names:
        if name == "folders":
            _resolve_folders(con)
            continue
        if name == "readings":
            read_names(con, name_patterns or {})
        values = {"endings": endings} if name == "stems" else None
        make_table(con, name, read_sql(f"k710/sources/{name}.sql"), values)


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
