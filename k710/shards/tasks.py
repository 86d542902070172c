"""Planned clips -> tasks, in the order in which their bytes lie.

A member of a .tar is read where it is. One of a .tar.gz is unpacked for as long as its task runs,
since the archive is read once, forward.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import duckdb

from k710.shards.clip import PlannedClip
from k710.shards.encode_clip import ClipSettings, ClipTask
from k710.sources.chosen import ClipSource, CopyReader
from k710.tables.connection import run
from k710.tables.schemas import read_sql

__all__ = ["Feed", "planned_clips"]


def planned_clips(
    con: duckdb.DuckDBPyConnection, shards: Sequence[int], rivals: Mapping[str, int]
) -> list[PlannedClip]:
    """All places of these shards, in the order in which their bytes lie.

    `plan`, `sources` and `manifest` must be tables on `con`.
    """
    clips = []
    rows = run(con, read_sql("k710/shards/tasks.sql"), {"shards": list(shards)})
    for shard, position, is_tried, *columns in rows:
        source = ClipSource.from_row(*columns)
        num_rivals = max(0, rivals.get(source.clip_id, 1) - 1)
        clips.append(PlannedClip(shard, position, is_tried, num_rivals, source))
    return clips


class Feed:
    """The tasks of `clips`, which all have a copy."""

    def __init__(self, clips: Sequence[PlannedClip], settings: ClipSettings, scratch: Path) -> None:
        self._settings = settings
        self._reader = CopyReader(clips, lambda clip: clip.source.copy, scratch)
        self._unpacked: Counter[str] = Counter()  # path -> tasks that need it yet

    def tasks(self) -> Iterator[ClipTask]:
        """Yield the task of each clip. An archive is open as long as tasks of it are taken."""
        for clips, source, is_unpacked in self._reader:
            if is_unpacked:
                self._unpacked[source.path] = len(clips)
            for clip in clips:
                yield ClipTask(clip, source, self._settings)

    def free(self, task: ClipTask) -> None:
        """Remove what was unpacked for the task, unless another needs it."""
        path = task.source.path
        if path in self._unpacked:
            self._unpacked[path] -= 1
            if not self._unpacked[path]:
                del self._unpacked[path]
                Path(path).unlink(missing_ok=True)

    def lost(self) -> list[tuple[PlannedClip, str, str]]:
        """The clips whose members were not there when all tasks were taken, with status and why."""
        return self._reader.lost
