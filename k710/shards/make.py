"""Make the clips of planned shards, and pack each shard as soon as all of its clips are staged.

Some shards at a time, as many as the staging place holds: their clips are made in the order in
which the bytes lie. What is staged or packed stays, so that a run goes on where the last one was
killed.
"""

import shutil
import socket
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import av
import duckdb

from k710.engines.local import Engine, Failed
from k710.errors import StageError, shown
from k710.shards.encode_clip import (
    ClipTask,
    Staged,
    can_be_copied,
    copied_clip,
    forget,
    parsed,
    stage_clip,
    staged_file,
)
from k710.shards.staging import clear, names, prepare, read_all, remove
from k710.shards.summary import ShardProgress
from k710.shards.tasks import Feed, Wanted, wanted_clips
from k710.shards.write import ChangedBytes, Outcome, write_shard
from k710.sources.table import rivals
from k710.video.byte_range import ByteRange
from k710.video.encode import Encoding
from k710.video.profiles import COPY

__all__ = ["Run", "make_planned"]


@dataclass(slots=True)
class Run:
    """What the steps of one run share."""

    con: duckdb.DuckDBPyConnection
    work: Path
    encoding: Encoding
    versions: tuple[tuple[str, str], ...]
    engine: Engine
    timeout_s: float
    manifest_sha256: str
    on_progress: Callable[[ShardProgress], None]
    retry: bool
    staging: str  # the path or URL of a folder of this run's own
    scratch: Path  # for members of a .tar.gz
    clips_in_all: int = 0
    clips: int = 0
    source_bytes: int = 0
    made: list[int] = field(default_factory=list)

    def progress(self) -> None:
        self.on_progress(
            ShardProgress(self.clips, self.clips_in_all, self.source_bytes, len(self.made))
        )

    def feed(self, wanted: Sequence[Wanted]) -> Feed:
        return Feed(wanted, self.staging, self.scratch, self.encoding, self.versions)


def make_planned(run: Run, shards: Sequence[int], *, at_once: int) -> None:
    """Make these shards, `at_once` of them at a time; nothing stays staged."""
    shutil.rmtree(run.scratch, ignore_errors=True)  # of a run that was killed, and so are these
    partial = [name for name in names(run.staging) if name.endswith(".tmp")]
    remove([f"{run.staging}/{name}" for name in partial])
    window = max(1, at_once)
    ambiguous = rivals(run.con, run.work) if shards else {}
    run.progress()
    with run.engine.session() as engine:
        run = replace(run, engine=engine)
        for first in range(0, len(shards), window):
            some = shards[first : first + window]
            _make_some(run, some, wanted_clips(run.con, some, ambiguous))
    shutil.rmtree(run.scratch, ignore_errors=True)
    clear(run.staging)


def _make_some(run: Run, shards: Sequence[int], wanted: Sequence[Wanted]) -> None:
    """Make these shards: each is packed when all of its clips are staged."""
    prepare(run.staging)
    there = names(run.staging)
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
    rows = _staged_rows(run, wanted, there)
    for clip in wanted:
        outcome = _known(run, clip, rows.get(clip.clip_id), there)
        if outcome is None:
            to_stage.append(clip)
            continue
        _count(run, clip)
        settle(clip, outcome)
    feed = run.feed(to_stage)
    for clip, outcome in _staged(run, feed):
        settle(clip, outcome)
    for clip, status, why in feed.lost:
        _count(run, clip)
        settle(clip, _not_had(clip, status, why))


def _staged(run: Run, feed: Feed) -> Iterator[tuple[Wanted, Outcome]]:
    """Clips with their outcomes, as the workers are done with them."""
    clips: dict[ClipTask, Wanted] = {}

    def tasks() -> Iterator[ClipTask]:
        for clip, task in feed.tasks():
            clips[task] = clip
            yield task

    results = run.engine.run(stage_clip, tasks(), timeout_s=run.timeout_s)
    with closing(results):
        for task, result in results:
            clip = clips.pop(task)
            unread_on = result.unread_on if isinstance(result, Staged) else None
            if unread_on not in (None, socket.gethostname()):
                _refuse_blind_worker(task, str(unread_on))
            feed.done(task)
            _count(run, clip)
            yield clip, _outcome(run, clip, result)


def _refuse_blind_worker(task: ClipTask, host: str) -> None:
    """StageError where a source that a worker on `host` could not read can be read here."""
    try:
        for _ in task.source.chunks():
            pass
    except OSError:
        return  # it is missing for all
    path = shown(task.source.path, limit=300)
    raise StageError(
        f"A worker on {host} could not read {path} for {task.clip_id}, and it can be read here.\n"
        "Mount the videos on all nodes at the same path, and run the same command again: "
        "what is staged stays."
    )


def _count(run: Run, clip: Wanted) -> None:
    if clip.is_tried:
        run.clips += 1
        run.source_bytes += clip.num_bytes or 0
        run.progress()


def _staged_rows(run: Run, wanted: Sequence[Wanted], there: Set[str]) -> dict[str, bytes | None]:
    """The rows that an earlier run staged of these clips, by clip_id."""
    found = [clip.clip_id for clip in wanted if f"{clip.clip_id}.json" in there]
    rows = read_all([f"{run.staging}/{clip_id}.json" for clip_id in found])
    return dict(zip(found, rows, strict=True))


def _known(run: Run, clip: Wanted, row: bytes | None, there: Set[str]) -> Outcome | None:
    """The outcome of a clip that needs no worker; None where it must be staged."""
    if not clip.is_tried:
        return _not_had(clip, clip.status, clip.detail, tool=clip.tool)
    if _goes_in_as_it_is(run, clip):
        assert clip.num_bytes is not None and clip.sha256 is not None and clip.uri is not None
        stored = copied_clip(clip.facts, clip.num_bytes, clip.sha256)
        return replace(
            _not_had(clip, clip.status, clip.detail, tool=clip.tool),
            stored=stored,
            data_at=clip.uri,
        )
    task = clip.task(ByteRange(""), run.staging, run.encoding, run.versions)
    staged = parsed(task, row)
    if staged is None or (staged.stored is None and run.retry):
        if row is not None:
            forget(run.staging, [clip.clip_id])
        return None
    if staged.stored is not None and f"{clip.clip_id}.mp4" not in there:
        return None
    return _outcome(run, clip, staged)


def _goes_in_as_it_is(run: Run, clip: Wanted) -> bool:
    """Whether the copy was probed, is sound, and is just what `copy` may take unread."""
    return (
        run.encoding.profile == COPY
        and clip.member is None
        and clip.sha256 is not None
        and clip.tool.startswith("probe")
        and can_be_copied(clip.trimmed, clip.facts, clip.window)
        and (clip.status == "ok" or (clip.facts.duration_s or 0) >= clip.window.seconds / 2)
    )


def _outcome(run: Run, clip: Wanted, result: Staged | Failed) -> Outcome:
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
        data_at=staged_file(run.staging, clip.clip_id),
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
        data_at=None,
    )


def _pack(run: Run, shard: int, outcomes: Sequence[Outcome], wanted: Sequence[Wanted]) -> None:
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
            if clip.position in made_again and changed.are_gone:
                raise StageError(
                    f"{clip.clip_id} was staged in {shown(run.staging, limit=300)} twice, "
                    "and is not there.\nGive a --staging that this machine and all workers share."
                ) from changed
            if clip.position in made_again:
                outcome = _not_had(clip, "ours", "its bytes change between writing and reading")
            else:
                outcome = _made_again(run, clip)
            by_position[clip.position] = outcome
            made_again.add(clip.position)
    forget(run.staging, [outcome.clip_id for outcome in ordered])
    run.made.append(shard)
    run.progress()


def _made_again(run: Run, clip: Wanted) -> Outcome:
    """A clip whose bytes were not what they had been: staged anew, with nothing believed of it."""
    forget(run.staging, [clip.clip_id])
    afresh = replace(clip, sha256=None)
    feed = run.feed([afresh])
    made = [outcome for _, outcome in _staged(replace(run, on_progress=_nothing), feed)]
    made += [_not_had(afresh, status, why) for _, status, why in feed.lost]
    return made[0]


def _nothing(progress: ShardProgress) -> None:
    pass
