"""A clip on its way into a shard: planned, encoded by a worker, stored or not."""

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from k710.sources.clip_source import ClipSource
from k710.tables.clip_ids import require_clip_id
from k710.tables.connection import run
from k710.tables.schemas import read_sql
from k710.video.encode import Encoded
from k710.video.probe import Facts, Probed

__all__ = ["EncodedClip", "Outcome", "PlannedClip", "StoredClip", "read_planned_clips"]


@dataclass(frozen=True, slots=True)
class PlannedClip:
    """A place in a shard, and one of the copies that its clip may be made of."""

    shard: int
    position: int
    is_tried: bool  # there is a copy, and it may be good
    rivals: int  # other clips that the copy could be as well, if it turns out trimmed
    source: ClipSource
    turn: int = 0  # of the copies that are tried for the place, until one is good

    @property
    def name(self) -> str:
        """What is staged of it is called so, without the ending."""
        return require_clip_id(self.source.clip_id) + (f".{self.turn}" if self.turn else "")


@dataclass(frozen=True, slots=True)
class StoredClip:
    """The bytes of a clip as they go into its shard: columns of index.parquet, in their order."""

    num_bytes: int
    sha256: str
    num_frames: int
    fps: float
    width: int  # px
    height: int  # px
    gop: int | None  # the most frames from one keyframe to the next; None: as the source has it
    duration_s: float

    @classmethod
    def of(
        cls, num_bytes: int, sha256: str, facts: Facts | Encoded, *, gop: int | None
    ) -> "StoredClip":
        """The row of a clip of these bytes, of which all `facts` are known."""
        assert facts.num_frames and facts.fps and facts.duration_s
        assert facts.width and facts.height
        size = facts.width, facts.height
        return cls(num_bytes, sha256, facts.num_frames, facts.fps, *size, gop, facts.duration_s)


@dataclass(frozen=True, slots=True)
class EncodedClip:
    """What a worker made of a planned clip. `stored` None: it is not kept, and `seen` says why."""

    seen: Probed  # of the source
    stored: StoredClip | None = None
    unread_on: str | None = None  # the host on which the source could not be read


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a planned clip fared. Without `stored` its place stays empty."""

    clip: PlannedClip
    source: ClipSource  # as it is known now
    stored: StoredClip | None = None
    data_at: str | None = None  # the path or URL of the bytes until they are in the tar
    tries: tuple[ClipSource, ...] = ()  # each copy that was tried, by turn, as it is known now


def read_planned_clips(
    con: duckdb.DuckDBPyConnection, shards: Sequence[int]
) -> list[list[PlannedClip]]:
    """Read all places of these shards, each with the copies that its clip may be made of, by turn.

    They come in the order in which the bytes of the first copies lie. `plan`, `sources`, `copies`
    and `manifest` must be tables on `con`.
    """
    places: dict[tuple[int, int], list[PlannedClip]] = {}
    rows = run(con, read_sql("k710/shards/tasks.sql"), {"shards": list(shards)})
    for shard, position, turn, is_tried, could_be, *columns in rows:
        rivals = max(0, (could_be or 1) - 1)
        source = ClipSource.from_row(*columns)
        clip = PlannedClip(shard, position, is_tried, rivals, source, turn - 1)
        places.setdefault((shard, position), []).append(clip)
    return list(places.values())
