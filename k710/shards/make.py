"""Make the clips of planned shards, and pack each shard as soon as all of its clips are staged.

Some shards at a time, as many as the staging place holds: their clips are made in the order in
which the bytes lie. Where a copy is no good the next one of the clip is tried, in a pass of its own
after those of the others, and so on until one is good or none is left. What is staged or packed
stays, so that a run goes on where the last one was killed.
"""

import shutil
import socket
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
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
from k710.sources.archives import LACKING
from k710.sources.clip_source import CopyReader
from k710.sources.stamps import look
from k710.statuses import Status
from k710.video.probe import Facts
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
    run.progress()
    with run.engine.session() as engine:
        run = replace(run, engine=engine)
        for first in range(0, len(shards), window):
            _make_some(run, read_planned_clips(run.con, shards[first : first + window]))
    shutil.rmtree(run.scratch, ignore_errors=True)
    clear(folder)


def _make_some(run: Run, places: Sequence[Sequence[PlannedClip]]) -> None:
    """Make all shards that these places fill: each is packed when all of its clips are staged."""
    prepare(run.settings.folder)
    copies_in: dict[int, dict[int, Sequence[PlannedClip]]] = defaultdict(dict)
    for copies in places:
        copies_in[copies[0].shard][copies[0].position] = copies
    outcomes: dict[int, list[Outcome]] = {shard: [] for shard in copies_in}
    for outcome in _make_places(run, places):
        shard = outcome.clip.shard
        outcomes[shard].append(outcome)
        if outcome.clip.is_tried:
            run.clips += 1
            run.source_bytes += sum(one.copy.num_bytes or 0 for one in outcome.tries)
            run.progress()
        if len(outcomes[shard]) == len(copies_in[shard]):
            _pack(run, shard, outcomes.pop(shard), copies_in[shard])


def _make_places(run: Run, places: Sequence[Sequence[PlannedClip]]) -> Iterator[Outcome]:
    """Make the clip of each place of the first of its copies that is good.

    Yields one outcome for each, in any order: of the good copy, else of the best, with all `tries`.
    """
    there = names(run.settings.folder)
    left = {(copies[0].shard, copies[0].position): deque(copies[1:]) for copies in places}
    tries: dict[tuple[int, int], list[Outcome]] = defaultdict(list)
    turn: Sequence[PlannedClip] = [copies[0] for copies in places]
    while turn:
        next_turn: list[PlannedClip] = []
        for outcome in _make_copies(run, turn, there):
            place = outcome.clip.shard, outcome.clip.position
            tries[place].append(outcome)
            is_good = outcome.stored is not None and outcome.source.status == Status.OK
            if is_good or not left[place]:
                yield _choose(tries.pop(place))
            else:
                next_turn.append(left[place].popleft())
        turn = sorted(next_turn, key=_where)


def _where(clip: PlannedClip) -> tuple[str, str, int, int]:
    copy = clip.source.copy
    return copy.uri or "", copy.member or "", clip.shard, clip.position


def _choose(tries: Sequence[Outcome]) -> Outcome:
    """The outcome of a place of which these copies were tried, in that order.

    The last one if it is good, else the longest that is kept, else what says most of why none is.
    """
    if not tries[0].clip.is_tried:
        return tries[0]
    stored = [one for one in tries if one.stored is not None]
    if tries[-1] in stored and tries[-1].source.status == Status.OK:
        chosen = tries[-1]
    elif stored:
        chosen = max(stored, key=lambda one: one.stored.duration_s if one.stored else 0.0)
    else:
        read = [one for one in tries if one.source.status != Status.MISSING]
        failed = [one for one in read if one.source.status == Status.FAILED]
        chosen = (failed or read or tries)[0]
    return replace(chosen, tries=tuple(one.source for one in tries))


def _make_copies(run: Run, clips: Sequence[PlannedClip], there: Set[str]) -> Iterator[Outcome]:
    """Make each clip of its one copy, or take what is staged; yields an outcome for each."""
    clips = [_as_it_is(clip) for clip in clips]
    rows = _read_staged_rows(run, clips, there)
    to_stage = []
    for clip in clips:
        outcome = _settle_unstaged(run, clip, rows.get(clip.name), there)
        if outcome is None:
            to_stage.append(clip)
        else:
            yield outcome
    yield from _stage(run, to_stage)


def _as_it_is(clip: PlannedClip) -> PlannedClip:
    """The clip with what is known of its copy as it is now: nothing if another file lies there."""
    copy = clip.source.copy
    if not clip.is_tried or copy.uri is None:
        return clip
    seen = look(copy.uri)
    if seen.stamp is None:
        return clip  # who reads it says why it can't be read
    num_bytes = seen.num_bytes if copy.member is None else copy.num_bytes
    is_known = num_bytes == copy.num_bytes and copy.stamp in (None, seen.stamp)
    copy = replace(copy, num_bytes=num_bytes, stamp=seen.stamp)
    if not is_known:
        copy = replace(copy, sha256=None, facts=Facts())
    return replace(clip, source=replace(clip.source, copy=copy))


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
        yield _failed(clip, status, why, is_read=status != Status.MISSING or why == LACKING)


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
    """The rows that an earlier run staged of these clips, by name."""
    found = [clip.name for clip in clips if f"{clip.name}.json" in there]
    rows = read_all([f"{run.settings.folder}/{name}.json" for name in found])
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
            remove_staged(run.settings.folder, [clip.name])
        return None
    if encoded.stored is not None and f"{clip.name}.mp4" not in there:
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
    # A probe has hashed the file and counted its frames; a worker has the header's word alone, but
    # where it has read all bytes.
    copy, seen = clip.source.copy, encoded.seen
    is_probed = copy.facts.num_frames and seen.sha256 in (None, copy.sha256)
    facts = copy.facts if is_probed else seen.facts
    seen = replace(seen, facts=facts, sha256=seen.sha256 or copy.sha256)
    source = clip.source.after_probe(seen, tool=_TOOL)
    if encoded.unread_on is not None:
        source = replace(source, copy=replace(source.copy, stamp=None))
    data_at = staged_file(run.settings.folder, clip.name)
    return Outcome(clip, source, encoded.stored, data_at)


def _failed(
    clip: PlannedClip, status: Status, detail: str, *, tool: str = "shard", is_read: bool = True
) -> Outcome:
    """The outcome of a clip of which nothing came; without `is_read` its file was not seen."""
    source = replace(clip.source, status=status, detail=detail, tool=tool)
    if not is_read:
        source = replace(source, copy=replace(source.copy, stamp=None))
    return Outcome(clip, source)


def _pack(
    run: Run,
    shard: int,
    outcomes: Sequence[Outcome],
    copies_at: Mapping[int, Sequence[PlannedClip]],
) -> None:
    """Write the shard of these outcomes, and free what was staged for it.

    `copies_at` has the copies of each place, by position.
    """
    by_position = {outcome.clip.position: outcome for outcome in outcomes}
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
            position = changed.position
            clip = by_position[position].clip
            if position not in made_again:
                by_position[position] = _make_again(run, copies_at[position])
            elif changed.are_gone:
                raise StageError(
                    f"{clip.source.clip_id} was staged in {shown(run.settings.folder, limit=300)} "
                    "twice, and is not there.\n"
                    "Give a --staging that this machine and all workers share."
                ) from changed
            else:
                words = "its bytes change between writing and reading"
                by_position[position] = _failed(clip, Status.FAILED, words)
            made_again.add(position)
    staged = [
        clip.name
        for outcome in ordered
        for clip in copies_at[outcome.clip.position][: max(1, len(outcome.tries))]
    ]
    remove_staged(run.settings.folder, staged)
    run.made.append(shard)
    run.progress()


def _make_again(run: Run, copies: Sequence[PlannedClip]) -> Outcome:
    """Stage a clip anew whose bytes were not what they had been: nothing is believed of it."""
    remove_staged(run.settings.folder, [clip.name for clip in copies])
    unknown = [
        replace(clip, source=replace(clip.source, copy=replace(clip.source.copy, sha256=None)))
        for clip in copies
    ]
    (outcome,) = _make_places(run, [unknown])
    return outcome
