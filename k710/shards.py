"""Views -> shards: each distinct clip once, cut and encoded, in tars that a GPU can be fed from.

The plan says which clip comes where. Some shards at a time, as many as `staging_bytes` holds: their
clips are made in the order in which the bytes lie, staged, and packed as soon as a shard has all.
What is staged or packed stays, so that a run goes on where the last one was killed.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import av
import duckdb

from k710.engines import Failed, run_local
from k710.errors import StageError, shown
from k710.feed import Feed, Wanted, wanted_clips
from k710.files import locked, word_os_errors
from k710.located import Located
from k710.plan import extend_plan, refuse_other_versions, seconds_per_shard
from k710.profiles import COPY
from k710.shard_files import (
    ChangedBytes,
    Outcome,
    done_shards,
    open_outcomes,
    open_parts,
    shard_name,
    write_shard,
)
from k710.shard_summary import ShardProgress, ShardSummary, count_to_make, summarise
from k710.sources import outcomes_sha256, refresh_sources, rivals
from k710.staging import (
    ClipTask,
    Staged,
    can_be_copied,
    copied_clip,
    forget,
    read_staged,
    stage_clip,
    staged_file,
)
from k710.tables import (
    Sidecar,
    TableSpec,
    connect,
    is_done,
    open_table,
    read_sidecar,
    table_path,
    write_table,
)
from k710.transcode import Encoding, encoder_versions

__all__ = ["make_shards"]

_MEMORY = "2GB"
_BALANCED = Encoding()


@dataclass(slots=True)
class _Run:
    """What the steps of one run share."""

    con: Any
    work: Path
    encoding: Encoding
    versions: tuple[tuple[str, str], ...]
    workers: int
    timeout_s: float
    manifest_sha256: str
    on_progress: Callable[[ShardProgress], None]
    retry: bool
    clips_in_all: int = 0
    clips: int = 0
    source_bytes: int = 0
    made: list[int] = field(default_factory=list)

    @property
    def staging(self) -> Path:
        return self.work / "staging"

    def progress(self) -> None:
        self.on_progress(
            ShardProgress(self.clips, self.clips_in_all, self.source_bytes, len(self.made))
        )


def make_shards(
    views: Sequence[str],
    *,
    work: str | os.PathLike[str] = "work",
    encoding: Encoding = _BALANCED,
    shard_bytes: int = 512_000_000,
    staging_bytes: int = 8_000_000_000,
    seed: int = 0,
    workers: int | None = None,
    timeout_s: float = 600,
    retry: bool = False,
    dry_run: bool = False,
    on_progress: Callable[[ShardProgress], None] = lambda progress: None,
) -> ShardSummary:
    """Make the shards that hold the clips of `views`, such as `k710/train`; returns how all fared.

    Writes plan, index and sources.parquet, shards/ and outcomes/ to `work`, and stages in staging/.
    Shards that are there are not touched; clips of further views, or that have a copy now, come to
    new ones. The bytes depend on clips, copies, settings and library versions alone. `retry` tries
    clips again that failed before; `dry_run` writes nothing. StageError where manifest.parquet or
    sources.parquet is missing, the shards there were made otherwise, or the disk is full.
    """
    if isinstance(views, str) or not views:
        raise ValueError("views must be a list of names, with one at least")
    workers = workers if workers is not None else os.cpu_count() or 1
    _refuse_below_0(workers, timeout_s, shard_bytes, staging_bytes)
    work = Path(work)
    with duckdb.connect() as con:  # before a folder of a mistyped name is made
        open_table(con, work, "manifest")
    started = time.monotonic()
    with word_os_errors(work), locked(work), connect(work, memory_limit=_MEMORY) as con:
        manifest = _open_inputs(con, work, views)
        done = done_shards(work)
        open_outcomes(con, work, sorted(done))
        extend_plan(
            con,
            work,
            views,
            encoding=encoding,
            shard_seconds=seconds_per_shard(shard_bytes, encoding),
            seed=seed,
            retry=retry,
            write=not dry_run,
        )
        run = _Run(
            con=con,
            work=work,
            encoding=encoding,
            versions=tuple(sorted(encoder_versions().items())),
            workers=workers,
            timeout_s=timeout_s,
            manifest_sha256=manifest.sha256,
            on_progress=on_progress,
            retry=retry,
        )
        shards = _shards_to_make(con, views, sorted(done))
        refuse_other_versions(work, shards, dict(run.versions))
        to_make = count_to_make(con, shards)
        run.clips_in_all = to_make.clips
        if dry_run:
            open_parts(con, work, "index", "shards", sorted(done))
        else:
            _make(run, shards, staging_bytes // shard_bytes)
            _write_index(run)
        return summarise(
            con,
            work,
            views,
            encoding=encoding,
            to_make=to_make,
            made=run.made,
            seconds=time.monotonic() - started,
            dry_run=dry_run,
        )


def _refuse_below_0(workers: int, timeout_s: float, shard_bytes: int, staging_bytes: int) -> None:
    if workers < 1 or not timeout_s > 0:  # nan too
        raise ValueError(f"workers ({workers}) and timeout_s ({timeout_s}) must be above 0")
    if shard_bytes < 1 or staging_bytes < 1:
        raise ValueError("shard_bytes and staging_bytes must be above 0")


def _open_inputs(con: Any, work: Path, views: Sequence[str]) -> Sidecar:
    manifest = open_table(con, work, "manifest")
    sources = open_table(con, work, "sources")
    if sources.inputs.get("manifest") != manifest.sha256:
        raise StageError(
            f"sources.parquet in {work} is of another manifest than the one there.\n"
            f"Look for the copies again: k710 index --videos DIR --work {work}"
        )
    there = {row[0] for row in con.execute("select distinct view from manifest").fetchall()}
    unknown = [view for view in views if view not in there]
    if unknown:
        raise StageError(
            f"There is no view {shown(unknown[0])} in {work}.\n"
            f"There are {', '.join(sorted(there))}."
        )
    return manifest


def _shards_to_make(con: Any, views: Sequence[str], done: Sequence[int]) -> list[int]:
    """The shards that aren't made and hold a clip of these views."""
    rows = con.execute(
        "select distinct shard from plan join manifest using (clip_id) "
        "where list_contains($views, view) and not list_contains($done::integer[], shard) "
        "order by shard",
        {"views": list(views), "done": list(done)},
    )
    return [row[0] for row in rows.fetchall()]


# --- making


def _make(run: _Run, shards: Sequence[int], window: int) -> None:
    shutil.rmtree(run.staging / "unpacked", ignore_errors=True)  # of a run that was killed
    for partial in run.staging.glob("*.tmp"):
        partial.unlink(missing_ok=True)
    window = max(1, window)
    ambiguous = rivals(run.con, run.work) if shards else {}
    run.progress()
    for first in range(0, len(shards), window):
        some = shards[first : first + window]
        _make_some(run, some, wanted_clips(run.con, some, ambiguous))
    shutil.rmtree(run.staging, ignore_errors=True)


def _make_some(run: _Run, shards: Sequence[int], wanted: Sequence[Wanted]) -> None:
    """Make these shards: each is packed when all of its clips are staged."""
    run.staging.mkdir(exist_ok=True)
    missing = {shard: 0 for shard in shards}
    outcomes: dict[int, list[Outcome]] = {shard: [] for shard in shards}
    for clip in wanted:
        missing[clip.shard] += 1

    def settle(clip: Wanted, outcome: Outcome) -> None:
        outcomes[clip.shard].append(outcome)
        missing[clip.shard] -= 1
        if not missing[clip.shard]:
            _pack(run, clip.shard, outcomes.pop(clip.shard), wanted)

    to_stage = []
    for clip in wanted:
        outcome = _known(run, clip)
        if outcome is None:
            to_stage.append(clip)
            continue
        _count(run, clip)
        settle(clip, outcome)
    feed = Feed(to_stage, run.staging, run.encoding, run.versions)
    for clip, outcome in _staged(run, feed):
        settle(clip, outcome)
    for clip, status, why in feed.lost:
        _count(run, clip)
        settle(clip, _not_had(clip, status, why))


def _staged(run: _Run, feed: Feed) -> Iterator[tuple[Wanted, Outcome]]:
    """Clips with their outcomes, as the workers are done with them."""
    clips: dict[ClipTask, Wanted] = {}

    def tasks() -> Iterator[ClipTask]:
        for clip, task in feed.tasks():
            clips[task] = clip
            yield task

    results = run_local(stage_clip, tasks(), workers=run.workers, timeout_s=run.timeout_s)
    with closing(results):
        for task, result in results:
            clip = clips.pop(task)
            feed.done(task)
            _count(run, clip)
            yield clip, _outcome(run, clip, result)


def _count(run: _Run, clip: Wanted) -> None:
    if clip.is_tried:
        run.clips += 1
        run.source_bytes += clip.num_bytes or 0
        run.progress()


def _known(run: _Run, clip: Wanted) -> Outcome | None:
    """The outcome of a clip that needs no worker; None where it must be staged."""
    if not clip.is_tried:
        return _not_had(clip, clip.status, clip.detail, tool=clip.tool)
    if _goes_in_as_it_is(run, clip):
        assert clip.num_bytes is not None and clip.sha256 is not None and clip.uri is not None
        stored = copied_clip(clip.facts, clip.num_bytes, clip.sha256)
        return replace(
            _not_had(clip, clip.status, clip.detail, tool=clip.tool),
            stored=stored,
            data_path=Path(clip.uri),
        )
    task = clip.task(Located(""), run.staging, run.encoding, run.versions)
    staged = read_staged(task)
    if staged is None or (staged.stored is None and run.retry):
        forget(run.staging, clip.clip_id)
        return None
    path = staged_file(run.staging, clip.clip_id)
    if staged.stored is not None and not path.is_file():
        return None
    return _outcome(run, clip, staged)


def _goes_in_as_it_is(run: _Run, clip: Wanted) -> bool:
    """Whether the copy was probed, is sound, and is just what `copy` may take unread."""
    return (
        run.encoding.profile == COPY
        and clip.member is None
        and clip.sha256 is not None
        and clip.tool.startswith("probe")
        and can_be_copied(clip.trimmed, clip.facts, clip.window)
        and (clip.status == "ok" or (clip.facts.duration_s or 0) >= clip.window.seconds / 2)
    )


def _outcome(run: _Run, clip: Wanted, result: Staged | Failed) -> Outcome:
    tool = f"shard av {av.__version__}"
    if isinstance(result, Failed):
        return _not_had(clip, "ours", result.why, tool=tool)
    starts_at_s = clip.starts_at_s
    if starts_at_s is None and result.trimmed is not None:
        starts_at_s = float(clip.window.start_s) if result.trimmed else 0.0
    return replace(
        _not_had(clip, result.status, result.detail, tool=tool),
        trimmed=result.trimmed,
        starts_at_s=starts_at_s,
        facts=clip.facts if clip.facts.num_frames else result.facts,
        stored=result.stored,
        data_path=staged_file(run.staging, clip.clip_id),
    )


def _not_had(clip: Wanted, status: str, detail: str | None, *, tool: str = "shard") -> Outcome:
    return Outcome(
        position=clip.position,
        clip_id=clip.clip_id,
        status=status,
        detail=detail,
        uri=clip.uri,
        member=clip.member,
        trimmed=clip.trimmed,
        starts_at_s=clip.starts_at_s,
        num_bytes=clip.num_bytes,
        sha256=clip.sha256,
        facts=clip.facts,
        tool=tool,
        stored=None,
        data_path=None,
    )


def _pack(run: _Run, shard: int, outcomes: Sequence[Outcome], wanted: Sequence[Wanted]) -> None:
    """Write the shard of these outcomes, and free what was staged for it."""
    by_position = {outcome.position: outcome for outcome in outcomes}
    made_again: set[int] = set()
    while True:
        ordered = [by_position[position] for position in sorted(by_position)]
        try:
            write_shard(
                run.con,
                run.work,
                shard,
                ordered,
                encoding=run.encoding.params(),
                versions=dict(run.versions),
                manifest_sha256=run.manifest_sha256,
            )
            break
        except ChangedBytes as changed:
            (clip,) = (
                clip for clip in wanted if (clip.shard, clip.position) == (shard, changed.position)
            )
            if clip.position in made_again:
                outcome = _not_had(clip, "ours", "its bytes change between writing and reading")
            else:
                outcome = _made_again(run, clip)
            by_position[clip.position] = outcome
            made_again.add(clip.position)
    for outcome in ordered:
        forget(run.staging, outcome.clip_id)
    run.made.append(shard)
    run.progress()


def _made_again(run: _Run, clip: Wanted) -> Outcome:
    """A clip whose bytes were not what they had been: staged anew, with nothing believed of it."""
    forget(run.staging, clip.clip_id)
    afresh = replace(clip, sha256=None)
    feed = Feed([afresh], run.staging, run.encoding, run.versions)
    made = [outcome for _, outcome in _staged(replace(run, on_progress=_nothing), feed)]
    made += [_not_had(afresh, status, why) for _, status, why in feed.lost]
    return made[0]


def _nothing(progress: ShardProgress) -> None:
    pass


# --- tables


def _write_index(run: _Run) -> None:
    """index.parquet of all shards that are done; sources.parquet as their outcomes say."""
    done = done_shards(run.work)
    open_parts(run.con, run.work, "index", "shards", sorted(done))
    run.con.execute("create or replace temp table rows as from index").fetchall()
    digest = hashlib.sha256()
    for shard in sorted(done):
        sidecar = read_sidecar(table_path(run.work, f"shards/{shard_name(shard)}"))
        assert sidecar is not None
        digest.update(sidecar.sha256.encode())
    notes = {"shards": sorted(done)}
    spec = TableSpec("index", {}, {"shards": digest.hexdigest()}, notes=notes)
    if not is_done(run.work, spec):
        write_table(run.con, run.work, spec)
    for table in ("rows", "outcomes"):
        run.con.execute(f"drop table if exists temp.{table}").fetchall()
    sources = read_sidecar(table_path(run.work, "sources"))
    if sources is None or sources.inputs.get("outcomes") != outcomes_sha256(run.work):
        refresh_sources(run.con, run.work)
