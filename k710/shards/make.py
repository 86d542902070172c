"""Make the clips of planned shards, and pack each shard as soon as all of its clips are staged.

Some shards at a time, as many as the staging place holds: their clips are made in the order in
which the bytes lie. What is staged or packed stays, so that a run goes on where the last one was
killed.
"""

import shutil
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import av
import duckdb

from k710.engines.local import Engine
from k710.errors import StageError, shown
from k710.shards.clip import EncodedClip, Outcome, PlannedClip, StoredClip, read_planned_clips
from k710.shards.encode_clip import (
    ClipSettings,
    ClipTask,
    read_staged,
    remove_staged,
    stage_clip,
    staged_file,
)
from k710.shards.staging import clear, names, prepare, read_all, remove
from k710.shards.summary import ShardProgress
from k710.shards.write import ChangedBytes, write_shard
from k710.sources.clip_source import CopyReader
from k710.sources.table import rivals
from k710.statuses import Status
from k710.video.profiles import COPY

__all__ = ["Run", "make_planned"]

_TOOL = f"shard av {av.__version__}"


@dataclass(slots=True)
class Run:
    """What the steps of one run share."""

    con: duckdb.DuckDBPyConnection
    work: Path
    settings: ClipSettings  # its folder is of this run alone
    engine: Engine
    timeout_s: float
    manifest_sha256: str
    on_progress: Callable[[ShardProgress], None]
    retry: bool
    scratch: Path  # for members of a .tar.gz
    clips_in_all: int = 0
    clips: int = 0
    source_bytes: int = 0
    made: list[int] = field(default_factory=list)

    def progress(self) -> None:
        self.on_progress(
            ShardProgress(self.clips, self.clips_in_all, self.source_bytes, len(self.made))
        )


def make_planned(run: Run, shards: Sequence[int], *, at_once: int) -> None:
    """Make these shards, `at_once` of them at a time; nothing stays staged."""
    folder = run.settings.folder
    shutil.rmtree(run.scratch, ignore_errors=True)  # of a run that was killed, and so are these
    remove([f"{folder}/{name}" for name in names(folder) if name.endswith(".tmp")])
    window = max(1, at_once)
    ambiguous = rivals(run.con, run.work) if shards else {}
    run.progress()
    with run.engine.session() as engine:
        run = replace(run, engine=engine)
        for first in range(0, len(shards), window):
            _make_some(run, read_planned_clips(run.con, shards[first : first + window], ambiguous))
    shutil.rmtree(run.scratch, ignore_errors=True)
    clear(folder)


def _make_some(run: Run, clips: Sequence[PlannedClip]) -> None:
    """Make all shards that these clips fill: each is packed when all of its clips are staged."""
    prepare(run.settings.folder)
    num_clips = Counter(clip.shard for clip in clips)
    outcomes: dict[int, list[Outcome]] = {shard: [] for shard in num_clips}

    def settle(outcome: Outcome) -> None:
        clip = outcome.clip
        outcomes[clip.shard].append(outcome)
        if clip.is_tried:
            run.clips += 1
            run.source_bytes += clip.source.copy.num_bytes or 0
            run.progress()
        if len(outcomes[clip.shard]) == num_clips[clip.shard]:
            _pack(run, clip.shard, outcomes.pop(clip.shard))

    to_stage = []
    there = names(run.settings.folder)
    rows = _read_staged_rows(run, clips, there)
    for clip in clips:
        outcome = _settle_unstaged(run, clip, rows.get(clip.source.clip_id), there)
        if outcome is None:
            to_stage.append(clip)
        else:
            settle(outcome)
    for outcome in _stage(run, to_stage):
        settle(outcome)


def _stage(run: Run, clips: Sequence[PlannedClip]) -> Iterator[Outcome]:
    """Have workers make the clips; yields an outcome for each, in any order."""
    reader = CopyReader(clips, lambda clip: clip.source.copy, run.scratch)
    tasks = (ClipTask(clip, source, run.settings) for of_copy, source in reader for clip in of_copy)
    results = run.engine.run(stage_clip, tasks, timeout_s=run.timeout_s)
    with closing(results):
        for task, result in results:
            if isinstance(result, EncodedClip):
                if result.unread_on not in (None, socket.gethostname()):
                    _refuse_blind_worker(task, str(result.unread_on))
                outcome = _outcome(run, task.clip, result)
            else:
                outcome = _failed(task.clip, Status.FAILED, result.why, tool=_TOOL)
            reader.free(task.source)
            yield outcome
    for clip, status, why in reader.lost:
        yield _failed(clip, status, why)


def _refuse_blind_worker(task: ClipTask, host: str) -> None:
    """StageError where a source that a worker on `host` could not read can be read here."""
    try:
        for _ in task.source.chunks():
            pass
    except OSError:
        return  # it is missing for all
    path = shown(task.source.path, limit=300)
    raise StageError(
        f"A worker on {host} could not read {path} for {task.clip.source.clip_id}, "
        "and it can be read here.\n"
        "Mount the videos on all nodes at the same path, and run the same command again: "
        "what is staged stays."
    )


def _read_staged_rows(
    run: Run, clips: Sequence[PlannedClip], there: Set[str]
) -> dict[str, bytes | None]:
    """The rows that an earlier run staged of these clips, by clip_id."""
    clip_ids = [clip.source.clip_id for clip in clips]
    found = [clip_id for clip_id in clip_ids if f"{clip_id}.json" in there]
    rows = read_all([f"{run.settings.folder}/{clip_id}.json" for clip_id in found])
    return dict(zip(found, rows, strict=True))


def _settle_unstaged(
    run: Run, clip: PlannedClip, row: bytes | None, there: Set[str]
) -> Outcome | None:
    """The outcome of a clip that needs no worker; None where it must be staged."""
    source = clip.source
    if not clip.is_tried:
        return Outcome(clip, source)
    if _goes_in_unread(run, clip):
        copy = source.copy
        assert copy.num_bytes is not None and copy.sha256 is not None
        stored = StoredClip.of(copy.num_bytes, copy.sha256, copy.facts, gop=None)
        return Outcome(clip, source, stored, data_at=copy.uri)
    encoded = read_staged(run.settings.key(clip), row)
    if encoded is None or (encoded.stored is None and run.retry):
        if row is not None:
            remove_staged(run.settings.folder, [source.clip_id])
        return None
    if encoded.stored is not None and f"{source.clip_id}.mp4" not in there:
        return None
    return _outcome(run, clip, encoded)


def _goes_in_unread(run: Run, clip: PlannedClip) -> bool:
    """Whether the copy was probed, and its bytes are those that `copy` would come to."""
    source = clip.source
    seen = source.probed()
    return (
        run.settings.encoding.profile == COPY
        and source.copy.member is None
        and seen.sha256 is not None
        and source.tool.startswith("probe")
        and seen.can_be_copied(source.window)
        and seen.is_kept(source.window)
    )


def _outcome(run: Run, clip: PlannedClip, encoded: EncodedClip) -> Outcome:
    # A probe has hashed the file and counted its frames; a worker has the header's word alone.
    copy = clip.source.copy
    facts = copy.facts if copy.facts.num_frames else encoded.seen.facts
    seen = replace(encoded.seen, facts=facts, sha256=copy.sha256)
    source = clip.source.after_probe(seen, tool=_TOOL)
    data_at = staged_file(run.settings.folder, source.clip_id)
    return Outcome(clip, source, encoded.stored, data_at)


def _failed(clip: PlannedClip, status: Status, detail: str, *, tool: str = "shard") -> Outcome:
    return Outcome(clip, replace(clip.source, status=status, detail=detail, tool=tool))


def _pack(run: Run, shard: int, outcomes: Sequence[Outcome]) -> None:
    """Write the shard of these outcomes, and free what was staged for it."""
    by_position = {outcome.clip.position: outcome for outcome in outcomes}
    planned = {outcome.clip.position: outcome.clip for outcome in outcomes}
    made_again: set[int] = set()
    while True:
        ordered = [by_position[position] for position in sorted(by_position)]
        try:
            write_shard(
                run.con,
                run.work,
                shard,
                ordered,
                settings=run.settings,
                manifest_sha256=run.manifest_sha256,
            )
            break
        except ChangedBytes as changed:
            clip = planned[changed.position]
            if clip.position not in made_again:
                by_position[clip.position] = _make_again(run, clip)
            elif changed.are_gone:
                raise StageError(
                    f"{clip.source.clip_id} was staged in {shown(run.settings.folder, limit=300)} "
                    "twice, and is not there.\n"
                    "Give a --staging that this machine and all workers share."
                ) from changed
            else:
                words = "its bytes change between writing and reading"
                by_position[clip.position] = _failed(clip, Status.FAILED, words)
            made_again.add(clip.position)
    remove_staged(run.settings.folder, [clip.source.clip_id for clip in planned.values()])
    run.made.append(shard)
    run.progress()


def _make_again(run: Run, clip: PlannedClip) -> Outcome:
    """Stage a clip anew whose bytes were not what they had been: nothing is believed of it."""
    remove_staged(run.settings.folder, [clip.source.clip_id])
    source = replace(clip.source, copy=replace(clip.source.copy, sha256=None))
    (outcome,) = _stage(run, [replace(clip, source=source)])
    return outcome
