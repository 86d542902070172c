"""A clip and the copy chosen for it, as sources.parquet has them, and where the bytes are."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from k710.sources.archives import Extraction
from k710.sources.stamps import Stamp
from k710.statuses import Status, parse_status
from k710.video.byte_range import ByteRange
from k710.video.cut import Window
from k710.video.probe import Facts, Probed

__all__ = ["ChosenCopy", "ClipSource", "CopyReader"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ChosenCopy:
    """Where a clip's copy is, and what is known of it."""

    uri: str | None  # None: there is no copy
    member: str | None = None  # its name, where it lies in an archive
    trimmed: bool | None = None  # the window alone, or a whole video; None: the duration decides
    starts_at_s: float | None = None  # time in the video of the file's first frame; None: not known
    num_bytes: int | None = None
    sha256: str | None = None
    facts: Facts = field(default_factory=Facts)
    stamp: Stamp | None = None  # of the file or archive that this is known of


@dataclass(frozen=True, slots=True)
class ClipSource:
    """A clip's window, and its row of sources.parquet."""

    clip_id: str
    window: Window
    status: Status
    detail: str | None
    copy: ChosenCopy
    tool: str

    @classmethod
    def from_row(cls, time_start: int, time_end: int, *columns: Any) -> "ClipSource":
        """Take the columns of sources.parquet in their order, after the window's two.

        Those of the stamp, mtime_ns and inode, may follow.
        """
        clip_id, status, detail, uri, member, trimmed, starts_at_s, num_bytes, sha256 = columns[:9]
        facts, tool, mtime_ns, inode = Facts(*columns[9:15]), *(*columns[15:], None, None)[:3]
        stamp = None if mtime_ns is None else Stamp(mtime_ns, inode)
        copy = ChosenCopy(uri, member, trimmed, starts_at_s, num_bytes, sha256, facts, stamp)
        return cls(clip_id, Window(time_start, time_end), parse_status(status), detail, copy, tool)

    def row(self) -> tuple[object, ...]:
        """The columns of sources.parquet, in their order."""
        copy = self.copy
        return (
            *(self.clip_id, self.status, self.detail, copy.uri, copy.member, copy.trimmed),
            *(copy.starts_at_s, copy.num_bytes, copy.sha256, *astuple(copy.facts), self.tool),
        )

    def stamped_row(self) -> tuple[object, ...]:
        """The columns of sources.parquet, then mtime_ns and inode."""
        stamp = self.copy.stamp
        return (*self.row(), *((None, None) if stamp is None else astuple(stamp)))

    def probed(self) -> Probed:
        """What the row says of the copy, in the form that a probe has."""
        copy = self.copy
        return Probed(self.status, self.detail, copy.trimmed, copy.facts, copy.sha256)

    def after_probe(self, seen: Probed, *, tool: str) -> "ClipSource":
        """The row after `tool` looked into the copy."""
        starts_at_s = self.copy.starts_at_s if seen.starts_at_s is None else seen.starts_at_s
        if starts_at_s is None and seen.trimmed is not None:
            starts_at_s = float(self.window.start_s) if seen.trimmed else 0.0
        copy = replace(
            self.copy,
            trimmed=seen.trimmed,
            starts_at_s=starts_at_s,
            sha256=seen.sha256,
            facts=seen.facts,
        )
        return replace(self, status=seen.status, detail=seen.detail, copy=copy, tool=tool)


@dataclass(slots=True)
class CopyReader(Generic[T]):
    """Finds the bytes of clips' copies, each archive read in one pass. Iterate once.

    `clips` come with those of one file together. Yields the clips of one copy, and where it is. A
    member of a .tar is read where it lies; one of a .tar.gz is unpacked to a file in `scratch`,
    until `free` was called for each of its clips. At the end `lost` has the clips whose members
    were not there.
    """

    clips: Iterable[T]
    copy_of: Callable[[T], ChosenCopy]
    scratch: Path
    lost: list[tuple[T, Status, str]] = field(default_factory=list)  # clip, status, why
    _unpacked: Counter[str] = field(default_factory=Counter)  # path -> clips that need it yet

    def __iter__(self) -> Iterator[tuple[list[T], ByteRange]]:
        for uri, clips_of_file in itertools.groupby(self.clips, lambda c: self.copy_of(c).uri):
            assert uri is not None
            loose: dict[int | None, list[T]] = {}
            packed: dict[tuple[str, int | None], list[T]] = {}
            for clip in clips_of_file:
                copy = self.copy_of(clip)
                if copy.member is None:
                    loose.setdefault(copy.num_bytes, []).append(clip)
                else:
                    packed.setdefault((copy.member, copy.num_bytes), []).append(clip)
            for clips in loose.values():
                yield clips, ByteRange(uri)
            if packed:
                members = Extraction(Path(uri), packed, self.scratch)
                for clips, source, is_unpacked in members:
                    if is_unpacked:
                        self._unpacked[source.path] = len(clips)
                    yield clips, source
                self.lost += [(clip, *members.lost) for left in packed.values() for clip in left]

    def free(self, source: ByteRange, num_clips: int = 1) -> None:
        """Remove the file of `source` if it was unpacked, and no other clip needs it."""
        if source.path in self._unpacked:
            self._unpacked[source.path] -= num_clips
            if not self._unpacked[source.path]:
                del self._unpacked[source.path]
                Path(source.path).unlink(missing_ok=True)
