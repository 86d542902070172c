"""Clips that are wanted -> tasks, in the order in which their bytes lie.

A member of a .tar is read where it is. One of a .tar.gz is unpacked for as long as its task runs,
since the archive is read once, forward.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import duckdb

from k710.shards.encode_clip import ClipTask
from k710.sources.archives import Extraction
from k710.tables.schemas import SOURCES, read_sql
from k710.video.byte_range import Located
from k710.video.cut import Window
from k710.video.encode import Encoding
from k710.video.probe import Facts

__all__ = ["Feed", "Wanted", "wanted_clips"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A place in a shard, and what sources.parquet says of its clip."""

    shard: int
    position: int
    clip_id: str
    window: Window
    is_tried: bool  # there is a copy, and it may be good
    rivals: int  # other clips that the copy could be as well, if it turns out trimmed
    status: str
    detail: str | None
    uri: str | None
    member: str | None
    trimmed: bool | None
    starts_at_s: float | None
    num_bytes: int | None
    sha256: str | None
    tool: str
    facts: Facts

    def task(self, source: Located, folder: str, encoding: Encoding, versions: Any) -> ClipTask:
        """The task that makes the clip of the bytes at `source`."""
        return ClipTask(
            clip_id=self.clip_id,
            window=self.window,
            source=source,
            source_key=f"{self.uri}\0{self.member}\0{self.num_bytes}",
            trimmed=self.trimmed,
            starts_at_s=self.starts_at_s,
            rivals=self.rivals,
            encoding=encoding,
            versions=versions,
            folder=folder,
        )


def wanted_clips(
    con: duckdb.DuckDBPyConnection, shards: Sequence[int], rivals: Mapping[str, int]
) -> list[Wanted]:
    """All places of these shards, in the order in which their bytes lie.

    `plan`, `sources` and `manifest` must be tables on `con`.
    """
    rows = con.execute(read_sql("k710/shards/tasks.sql"), {"shards": list(shards)})
    names = [column[0] for column in rows.description]
    fact_names = [field.name for field in fields(Facts)]
    wanted = []
    for row in rows.fetchall():
        values = dict(zip(names, row, strict=True))
        facts = Facts(**{name: values[name] for name in fact_names})
        wanted.append(
            Wanted(
                shard=values["shard"],
                position=values["position"],
                clip_id=values["clip_id"],
                window=Window(values["time_start"], values["time_end"]),
                is_tried=values["is_tried"],
                rivals=max(0, rivals.get(values["clip_id"], 1) - 1),
                num_bytes=values["bytes"],
                facts=facts,
                **{
                    name: values[name]
                    for name in SOURCES.columns
                    if name not in fact_names and name not in ("clip_id", "bytes")
                },
            )
        )
    return wanted


@dataclass(slots=True)
class Feed:
    """Tasks for the clips `wanted`, which all have a copy. `lost` fills with what wasn't there."""

    wanted: Sequence[Wanted]
    folder: str  # of staged files, or its URL
    scratch: Path  # where members of a .tar.gz lie for as long as they are needed
    encoding: Encoding
    versions: tuple[tuple[str, str], ...]
    lost: list[tuple[Wanted, str, str]] = field(default_factory=list)  # clip, status, why
    _unpacked: Counter[str] = field(default_factory=Counter)  # path -> tasks that need it yet

    def tasks(self) -> Iterator[tuple[Wanted, ClipTask]]:
        """Each clip with its task. An archive is open as long as tasks of it are taken."""
        for uri, group in itertools.groupby(self.wanted, key=lambda clip: clip.uri):
            assert uri is not None
            clips = list(group)
            loose = [clip for clip in clips if clip.member is None]
            for clip in loose:
                yield clip, self._task(clip, Located(uri))
            packed = [clip for clip in clips if clip.member is not None]
            if packed:
                yield from self._from_archive(Path(uri), packed)

    def done(self, task: ClipTask) -> None:
        """Free what the task needed."""
        path = task.source.path
        if path in self._unpacked:
            self._unpacked[path] -= 1
            if not self._unpacked[path]:
                del self._unpacked[path]
                Path(path).unlink(missing_ok=True)

    def _from_archive(
        self, path: Path, clips: Sequence[Wanted]
    ) -> Iterator[tuple[Wanted, ClipTask]]:
        left: dict[tuple[str, int | None], list[Wanted]] = {}
        for clip in clips:
            left.setdefault((clip.member or "", clip.num_bytes), []).append(clip)
        taken = Extraction(path, left, self.scratch)
        for of_member, source, is_unpacked in taken:
            if is_unpacked:
                self._unpacked[source.path] = len(of_member)
            for clip in of_member:
                yield clip, self._task(clip, source)
        status, why = taken.lost
        self.lost += [(clip, status, why) for of_member in left.values() for clip in of_member]

    def _task(self, clip: Wanted, source: Located) -> ClipTask:
        return clip.task(source, self.folder, self.encoding, self.versions)
