"""Look into the copies of many clips, on all cores: k710.video.probe looks into one."""

import shutil
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av

from k710.engines.local import Failed, run_local
from k710.sources.clip_source import ClipSource, CopyReader
from k710.statuses import Status
from k710.video.byte_range import ByteRange
from k710.video.probe import Facts, Probed, probe_clip

__all__ = ["ProbeTask", "probe_copies", "probe_task"]

TIMEOUT_S = 600.0  # a whole video has gigabytes to hash
_TOOL = f"probe av {av.__version__}"


@dataclass(frozen=True, slots=True)
class ProbeTask:
    """One copy, and the clips that it was chosen for."""

    source: ByteRange
    clips: tuple[ClipSource, ...]


def probe_task(task: ProbeTask) -> tuple[Probed, ...]:
    """Look into the copy for each of its clips: the function that workers run."""
    return tuple(
        probe_clip(
            task.source,
            clip.window,
            trimmed=clip.copy.trimmed,
            starts_at_s=clip.copy.starts_at_s,
        )
        for clip in task.clips
    )


def probe_copies(
    clips: Sequence[ClipSource], scratch: Path, *, workers: int
) -> Generator[list[ClipSource], None, None]:
    """Yield the clips with what their copies are, some at a time, in any order.

    `clips` are sorted by copy. A copy that kills or hangs its worker, twice, is `failed`. Members
    of compressed archives are unpacked to `scratch`, no more than the workers have at hand; it is
    removed at the end.
    """
    shutil.rmtree(scratch, ignore_errors=True)  # of a process that was killed
    reader = CopyReader(clips, lambda clip: clip.copy, scratch)
    tasks = (ProbeTask(source, tuple(of_copy)) for of_copy, source in reader)
    done = run_local(probe_task, tasks, workers=workers, timeout_s=TIMEOUT_S)
    try:
        for task, result in done:
            reader.free(task.source, len(task.clips))
            if isinstance(result, Failed):
                yield [_unseen(clip, Status.FAILED, result.why) for clip in task.clips]
            else:
                pairs = zip(task.clips, result, strict=True)
                yield [clip.after_probe(seen, tool=_TOOL) for clip, seen in pairs]
        yield [_unseen(*lost) for lost in reader.lost]
    finally:
        done.close()
        shutil.rmtree(scratch, ignore_errors=True)


def _unseen(clip: ClipSource, status: Status, why: str) -> ClipSource:
    return clip.after_probe(Probed(status, why, None, Facts()), tool=_TOOL)
