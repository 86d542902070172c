"""Views -> shards: each distinct clip once, cut and encoded, in tars that a GPU can be fed from.

The plan says which clip comes where (plan.py); then the shards are made (make.py), by one run or by
several, each its part (parts.py); at the end index.parquet and sources.parquet are.
"""

import contextlib
import hashlib
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import duckdb

from k710.engines.local import Engine, Local
from k710.errors import StageError
from k710.files import is_url, word_os_errors
from k710.part import Part
from k710.shards.encode_clip import ClipSettings
from k710.shards.make import Run, make_planned
from k710.shards.parts import (
    begin_round,
    end_round,
    locked_without_parts,
    part_locked,
    planning,
    record_part,
    round_is_open,
    staging_of_round,
    unfinished,
)
from k710.shards.plan import (
    Wish,
    extend_plan,
    open_plan,
    read_planned,
    refuse_other_versions,
    seconds_per_shard,
)
from k710.shards.staging import clear
from k710.shards.summary import ShardProgress, ShardSummary, count_to_make, summarise
from k710.sources.cleanup import remove_stored
from k710.sources.outcomes import done_shards, open_index, open_outcomes, shard_name
from k710.sources.seen import have_returned
from k710.sources.table import is_current, open_copies, open_sources, refresh_sources
from k710.tables.connection import connect, connect_to_read, run
from k710.tables.reading import open_table
from k710.tables.schemas import INDEX, MANIFEST, PLAN, SOURCES, table_path
from k710.tables.sidecar import Sidecar, TableSpec, is_done, read_sidecar, settle, write_table
from k710.tables.views import require_views
from k710.video.encode import Encoding

__all__ = ["finish_shards", "make_shards"]

log = logging.getLogger(__name__)

_MEMORY = "2GB"
_BALANCED = Encoding()


def make_shards(
    views: Sequence[str],
    *,
    work: str | os.PathLike[str] = "work",
    encoding: Encoding = _BALANCED,
    shard_bytes: int = 512_000_000,
    staging: str | os.PathLike[str] | None = None,
    staging_bytes: int = 8_000_000_000,
    seed: int = 0,
    engine: Engine | None = None,
    workers: int | None = None,
    timeout_s: float = 600,
    part: Part | None = None,
    found_only: bool = False,
    retry: bool = False,
    dry_run: bool = False,
    on_progress: Callable[[ShardProgress], None] = lambda progress: None,
) -> ShardSummary:
    """Make the shards that hold the clips of `views`, such as `k710/train`; returns how all fared.

    Writes plan, index and sources.parquet, shards/ and outcomes/ to `work`, and stages in staging/,
    or in a folder of its own in `staging`, which may be a URL. Shards that are there are not
    touched; clips of further views, or that have a copy now, come to new ones. The bytes depend on
    clips, copies, settings and library versions alone.

    `engine` None is `Local(workers)`. `part` makes its share of the shards, and neither index nor
    sources.parquet: `finish_shards` does. `found_only` plans only clips that have a copy. `retry`
    tries clips again that failed before; `dry_run` makes nothing. StageError where manifest.parquet
    or sources.parquet is missing, the shards there were made otherwise, or the disk is full.
    """
    _refuse_wrong(views, workers, timeout_s, shard_bytes, staging_bytes)
    if engine is not None and workers is not None:
        raise ValueError("workers are of the local engine: give them to Local or Ray instead")
    work = Path(work)
    wish = Wish(
        views=tuple(views),
        encoding=encoding,
        seconds_per_shard=seconds_per_shard(shard_bytes, encoding),
        seed=seed,
        retry=retry,
        found_only=found_only,
    )
    with _open_work(work, views, part, refresh=not dry_run) as (con, manifest):
        run = Run(
            con=con,
            work=work,
            settings=ClipSettings(encoding, _staging_place(work, staging, part)),
            engine=engine if engine is not None else Local(workers),
            timeout_s=timeout_s,
            manifest_sha256=manifest.sha256,
            on_progress=on_progress,
            retry=retry,
            scratch=Path(_staging_place(work, None, part)) / "unpacked",
        )
        return _make(run, wish, part, at_once=staging_bytes // shard_bytes, dry_run=dry_run)


def _make(run: Run, wish: Wish, part: Part | None, *, at_once: int, dry_run: bool) -> ShardSummary:
    """Plan, make what isn't made yet of the shards, and sum up."""
    started = time.monotonic()
    con, work = run.con, run.work
    _plan(run, wish, part, write=not dry_run)
    planned = _planned_shards(con, wish.views, part)
    done = done_shards(work)
    shards = [shard for shard in planned if shard not in done]
    refuse_other_versions(work, shards, dict(run.settings.versions))
    to_make = count_to_make(con, shards)
    run.clips_in_all = to_make.clips
    if not dry_run:
        make_planned(run, shards, at_once=at_once)
        if part is None:
            _write_index(con, work)
    seconds = time.monotonic() - started
    if part is not None and not dry_run:
        record_part(work, part, views=wish.views, made=run.made, seconds=seconds)
    return summarise(
        con,
        work,
        wish.views,
        encoding=run.settings.encoding,
        to_make=to_make,
        made=run.made,
        seconds=seconds,
        dry_run=dry_run,
        part=part,
        shards=None if part is None else planned,
    )


def finish_shards(views: Sequence[str], *, work: str | os.PathLike[str] = "work") -> ShardSummary:
    """Join what parts made: write index and sources.parquet, as one run would have.

    Returns how the clips of `views` fared. StageError where a planned shard of these views is
    missing or not whole: it names the parts to run again.
    """
    _refuse_wrong(views)
    work = Path(work)
    with _open_work(work, views, None, refresh=True) as (con, _):
        started = time.monotonic()
        planned = read_planned(work)
        never = set(views) - (planned.views() if planned else set())
        if planned is None or never:
            named = ",".join(sorted(never) or views)
            raise StageError(
                f"Nothing is planned in {work} for {named}.\n"
                f"Make its shards first: k710 shard --views {named} --part 1/16 --work {work}"
            )
        open_plan(con, work)
        done = done_shards(work)
        missing = [shard for shard in _planned_shards(con, views, None) if shard not in done]
        if missing:
            raise unfinished(work, views, missing)
        if not planned.is_found_only():
            _refuse_unplanned(con, work, views)
        own = _staging_place(work, None, None)
        elsewhere = staging_of_round(work)
        clear(own)
        if elsewhere is not None and elsewhere.rpartition("/")[2] == _own_name(work):
            clear(elsewhere)
        _write_index(con, work)
        return summarise(
            con,
            work,
            views,
            encoding=planned.encoding,
            seconds=time.monotonic() - started,
        )


def _refuse_unplanned(con: duckdb.DuckDBPyConnection, work: Path, views: Sequence[str]) -> None:
    """StageError where the manifest has clips that no part knew of: it was built anew meanwhile."""
    rows = run(
        con,
        "select count(distinct clip_id) from manifest anti join plan using (clip_id) "
        "where list_contains($views, view)",
        {"views": list(views)},
    )
    if rows[0][0]:
        named = ",".join(views)
        raise StageError(
            f"{rows[0][0]:,} clips of {named} are in no plan: the manifest in {work} is newer.\n"
            f"Make their shards too: k710 shard --views {named} --work {work}"
        )


def _refuse_wrong(views: Sequence[str], *numbers: float | None) -> None:
    if isinstance(views, str) or not views:
        raise ValueError("views must be a list of names, with one at least")
    for number in numbers:
        if number is not None and not number > 0:  # nan too
            raise ValueError(f"workers, timeout_s and sizes must be above 0, and one is {number}")


def _staging_place(work: Path, staging: str | os.PathLike[str] | None, part: Part | None) -> str:
    """The folder, or its URL, where this run alone stages."""
    own = os.path.abspath(work)  # a worker may be on another machine, in another folder
    if staging is None:
        folder = f"{own}/staging"
    else:
        given = os.fspath(staging)
        if "::" in given and "://" in given:
            raise StageError("--staging takes one URL, and no chain of them with `::`.")
        if is_url(given) and re.match(r"[^/]+://([^/]*:[^/]*@|.*[?#])", given):
            raise StageError(
                "--staging has a password in it, or a query, and parts write down where they "
                "stage.\n"
                "Give fsspec what is secret in its own configuration, and the URL without."
            )
        root = given.rstrip("/") if is_url(given) else os.path.abspath(given)
        # Others may stage there, or keep what is none of ours: it is cleared at the end.
        folder = f"{root}/{_own_name(work)}"
    return folder if part is None else f"{folder}/{part.name}"


def _own_name(work: Path) -> str:
    """The name of the folder in which this work directory stages beside others."""
    return f"k710-{hashlib.sha256(os.fsencode(os.path.abspath(work))).hexdigest()[:12]}"


@contextlib.contextmanager
def _open_work(
    work: Path, views: Sequence[str], part: Part | None, *, refresh: bool
) -> Iterator[tuple[duckdb.DuckDBPyConnection, Sidecar]]:
    """A connection on which manifest and sources are, with the lock of `work` or of a part.

    `refresh` first brings sources.parquet up to date, where a run or a download was killed.
    """
    with connect_to_read() as con:  # before a folder of a mistyped name is made
        open_table(con, work, MANIFEST)
        require_views(con, work, views)

    def bring_up_to_date() -> None:
        settle(work)
        with connect(work, memory_limit=_MEMORY) as con:
            manifest, sources = open_table(con, work, MANIFEST), open_table(con, work, SOURCES)
            is_of_manifest = sources.inputs.get("manifest") == manifest.sha256
            if not (refresh and is_of_manifest):
                return
            # What was not there when it was last looked for may be there again.
            if not is_current(work) or have_returned(con, work):
                for remark in refresh_sources(con, work):
                    log.warning(remark)

    if part is None:
        lock, spill = locked_without_parts(work), work
    else:
        # Parts must not clear what others spill, nor change what they read.
        lock = part_locked(work, part, when_first=bring_up_to_date)
        spill = work / "parts" / part.name
    with word_os_errors(work), lock:
        if part is None:
            bring_up_to_date()
        spill.mkdir(parents=True, exist_ok=True)
        with connect(spill, memory_limit=_MEMORY) as con:
            manifest, sources = open_sources(con, work)
            open_copies(con, work, sources)
            yield con, manifest
        if part is not None:
            shutil.rmtree(spill, ignore_errors=True)


def _plan(run: Run, wish: Wish, part: Part | None, *, write: bool) -> None:
    """Make `plan` a table on the run's connection. Of several parts the first decides it."""
    con, work = run.con, run.work
    if part is None:
        open_outcomes(con, work, sorted(done_shards(work)))
        extend_plan(con, work, wish, write=write)
        return
    with planning(work):
        given = {
            **wish.params(),
            "versions": dict(run.settings.versions),
            "manifest": run.manifest_sha256,
            "staging": run.settings.folder.rpartition("/")[0],
        }
        if round_is_open(work, part, given, write=write) and PLAN.path(work).exists():
            open_plan(con, work)
            return
        open_outcomes(con, work, sorted(done_shards(work)))
        extend_plan(con, work, wish, write=write)
        if write:
            begin_round(work, part, given)


def _planned_shards(
    con: duckdb.DuckDBPyConnection, views: Sequence[str], part: Part | None
) -> list[int]:
    """The shards that hold a clip of these views, and are this part's."""
    rows = con.execute(
        "select distinct shard from plan join manifest using (clip_id) "
        "where list_contains($views, view) order by shard",
        {"views": list(views)},
    )
    return [shard for (shard,) in rows.fetchall() if part is None or part.has(shard)]


# --- tables


def _write_index(con: duckdb.DuckDBPyConnection, work: Path) -> None:
    """index.parquet of all shards that are done; sources.parquet as their outcomes say."""
    end_round(work)
    done = done_shards(work)
    open_index(con, work, sorted(done))
    run(con, "create or replace temp table rows as from index")
    digest = hashlib.sha256()
    for shard in sorted(done):
        sidecar = read_sidecar(table_path(work, f"shards/{shard_name(shard)}"))
        assert sidecar is not None
        digest.update(sidecar.sha256.encode())
    notes = {"shards": sorted(done)}
    spec = TableSpec(INDEX, {}, {"shards": digest.hexdigest()}, notes=notes)
    if not is_done(work, spec):
        write_table(con, work, spec)
    for table in ("rows", "outcomes"):
        run(con, f"drop table if exists temp.{table}")
    if not is_current(work):
        refresh_sources(con, work)
    remove_stored(con, work)
