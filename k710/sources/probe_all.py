"""Look into the copies of many clips, on all cores: k710.probe looks into one.

A member of a .tar is read where it lies; one of a .tar.gz is unpacked for as long as it takes, for
the archive is read once, forward.
"""

import itertools
import os
import shutil
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path

import av

from k710.engines.local import Failed, run_local
from k710.sources.archives import Extraction
from k710.video.byte_range import Located
from k710.video.cut import Window
from k710.video.probe import Facts, Probed, probe_clip

__all__ = ["Chosen", "ProbeTask", "Row", "probe_copies", "probe_task"]

TIMEOUT_S = 600.0  # a whole video has gigabytes to hash
Row = tuple[object, ...]
"""A row of sources.parquet."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A clip, and the copy that was chosen for it."""

    clip_id: str
    time_start: int  # s
    time_end: int  # s
    uri: str
    member: str | None
    bytes: int | None
    trimmed: bool | None
    starts_at_s: float | None

    @property
    def copy(self) -> tuple[str, str | None, int | None]:
        return self.uri, self.member, self.bytes

    def window(self) -> Window:
        """The clip's window, in seconds after the file's first frame unless that is trimmed."""
        skipped = int(self.starts_at_s or 0) if self.trimmed is False else 0
        return Window(self.time_start - skipped, self.time_end - skipped)

    def row(self, probed: Probed) -> Row:
        """What sources.parquet is to say of the clip."""
        starts_at_s = self.starts_at_s
        if starts_at_s is None and probed.trimmed is not None:
            starts_at_s = float(self.time_start) if probed.trimmed else 0.0
        return (
            *(self.clip_id, probed.status, probed.detail, self.uri, self.member),
            *(probed.trimmed, starts_at_s, self.bytes, probed.sha256),
            *astuple(probed.facts),
            f"probe av {av.__version__}",
        )


@dataclass(frozen=True, slots=True)
class ProbeTask:
    """One copy, and the clips that it was chosen for."""

    source: Located
    clips: tuple[Chosen, ...]
    is_unpacked: bool  # `source` is ours, and removed when the task is done


def probe_task(task: ProbeTask) -> tuple[Probed, ...]:
    """What the copy is, for each of its clips: the function that workers run."""
    return tuple(
        probe_clip(task.source, clip.window(), trimmed=clip.trimmed) for clip in task.clips
    )


def probe_copies(
    chosen: Sequence[Chosen], scratch: Path, *, workers: int
) -> Generator[list[Row], None, None]:
    """The rows of the clips `chosen`, some at a time, in any order; `chosen` is sorted by copy.

    A copy that kills or hangs its worker, twice, is `ours`. Members of compressed archives are
    unpacked to `scratch`, no more than the workers have at hand; it is removed at the end.
    """
    supply = _Supply(scratch)
    shutil.rmtree(scratch, ignore_errors=True)  # of a process that was killed
    done = run_local(probe_task, supply.tasks(chosen), workers=workers, timeout_s=TIMEOUT_S)
    try:
        for task, result in done:
            if task.is_unpacked:
                os.unlink(task.source.path)
            if isinstance(result, Failed):
                failed = Probed("ours", result.why, None, Facts(), None)
                yield [clip.row(failed) for clip in task.clips]
            else:
                yield [clip.row(one) for clip, one in zip(task.clips, result, strict=True)]
        yield supply.lost
    finally:
        done.close()
        shutil.rmtree(scratch, ignore_errors=True)


@dataclass(slots=True)
class _Supply:
    """Tasks as they are asked for. `lost` fills with the rows of members that are not there."""

    scratch: Path
    lost: list[Row] = field(default_factory=list)

    def tasks(self, chosen: Iterable[Chosen]) -> Iterator[ProbeTask]:
        for uri, at_uri in itertools.groupby(chosen, key=lambda clip: clip.uri):
            copies = [tuple(clips) for _, clips in itertools.groupby(at_uri, lambda c: c.copy)]
            packed: dict[tuple[str, int | None], tuple[Chosen, ...]] = {}
            for clips in copies:
                if clips[0].member is None:
                    yield ProbeTask(Located(uri), clips, is_unpacked=False)
                else:
                    packed[clips[0].member, clips[0].bytes] = clips
            if packed:
                taken = Extraction(Path(uri), packed, self.scratch)
                for clips, source, is_unpacked in taken:
                    yield ProbeTask(source, clips, is_unpacked)
                status, why = taken.lost
                lost = Probed(status, why, None, Facts(), None)
                self.lost += [clip.row(lost) for clips in packed.values() for clip in clips]
