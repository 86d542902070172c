"""Which video is fetched next, through which address: retries, turns, addresses left alone."""

import heapq
import itertools
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import duckdb

from k710.download.rate_limit import Pace
from k710.tables.connection import run
from k710.tables.schemas import read_sql

__all__ = ["Schedule", "Video", "plan_videos", "planned_videos"]

_BATCH_VIDEOS = 1_000
_LONGEST_BACKOFF_S = 600.0
_MOST_WAITING = 10_000  # for a retry, before any new video


@dataclass(frozen=True, slots=True)
class Video:
    """A video that is to be fetched for some clips (id, start, end), through an address."""

    youtube_id: str
    clips: tuple[tuple[str, int, int], ...]
    num_attempts: int  # in the ledger
    afresh: bool  # what may lie in its place is no good
    proxy: str | None = None
    num_retries: int = 0  # in this run


def plan_videos(
    con: duckdb.DuckDBPyConnection, wanted: Mapping[str, Any], limit: int | None
) -> None:
    """Make `todo` a table on `con`: the first `limit` rows of k710/sql/videos.sql, by `place`.

    Tables `manifest`, `sources` and `attempts` must be there.
    """
    values = {**wanted, "limit": limit}
    sql = f"create or replace temp table todo as\n{read_sql('k710/download/videos.sql')}"
    run(con, f"{sql}\nlimit $limit", values)


def planned_videos(con: duckdb.DuckDBPyConnection) -> Iterator[Video]:
    """The videos of `todo` by `place`, read some at a time: there may be many."""
    sql = (
        "select youtube_id, clips, num_attempts, afresh from todo "
        "where place // $batch = $n order by place"
    )
    for number in itertools.count():
        rows = run(con, sql, {"batch": _BATCH_VIDEOS, "n": number})
        if not rows:
            return
        for youtube_id, clips, num_attempts, afresh in rows:
            yield Video(youtube_id, tuple(map(tuple, clips)), num_attempts, afresh)


@dataclass(slots=True)
class Schedule:
    """Gives out videos as their turn comes, and takes note of how they fared."""

    left: Iterator[Video]
    paces: Mapping[str | None, Pace]
    retries: int
    backoff_s: float
    walls: int
    is_stopped: bool = False  # every address was refused too often in a row
    _waiting: list[tuple[float, int, Video]] = field(default_factory=list)
    _in_flight: dict[str, Video] = field(default_factory=dict)
    _next: Video | None = None
    _num_given: int = 0
    _order: Iterator[int] = field(default_factory=itertools.count)  # videos have none
    _refused: set[str | None] = field(default_factory=set)
    _not_before: dict[str | None, float] = field(default_factory=dict)  # time.monotonic()

    def videos(self) -> Iterator[Video | None]:
        """Each video, once its turn has come; None: ask again in a moment."""
        while not self.is_stopped:
            video = self._due()
            if video is None:
                if not self._waiting and not self._in_flight:
                    return
                yield None
                continue
            proxy, is_given = self._turn()
            if not is_given:
                self._put_back(video)
                yield None
                continue
            video = replace(video, proxy=proxy)
            self._in_flight[video.youtube_id] = video
            self._num_given += 1
            yield video

    def settle(self, youtube_id: str, status: str, is_wall: bool | None) -> bool:
        """Note how the video fared; whether that is the last word of this run.

        `is_wall` None: the site wasn't asked.
        """
        video = self._in_flight.pop(youtube_id)
        pace = self.paces[video.proxy]
        if is_wall is not None and pace.note(is_wall=is_wall) >= self.walls:
            self._refused.add(video.proxy)
        self.is_stopped = len(self._refused) == len(self.paces)
        if status != "transient" or video.num_retries >= self.retries or self.is_stopped:
            return True
        pause_s = min(self.backoff_s * 2**video.num_retries, _LONGEST_BACKOFF_S)
        again = replace(
            video, num_attempts=video.num_attempts + 1, num_retries=video.num_retries + 1
        )
        heapq.heappush(self._waiting, (time.monotonic() + pause_s, next(self._order), again))
        return False

    def _due(self) -> Video | None:
        """A retry whose time has come, else a new video; None where there is neither now."""
        if self._waiting and self._waiting[0][0] <= time.monotonic():
            return heapq.heappop(self._waiting)[2]
        video, self._next = self._next, None
        if video is None and len(self._waiting) < _MOST_WAITING:
            video = next(self.left, None)
        return video

    def _put_back(self, video: Video) -> None:
        if video.num_retries:
            heapq.heappush(self._waiting, (time.monotonic(), next(self._order), video))
        else:
            self._next = video

    def _turn(self) -> tuple[str | None, bool]:
        """The next address that may be asked now, in turn; whether there is one."""
        now = time.monotonic()
        names = [name for name in self.paces if name not in self._refused]
        for place in range(len(names)):
            name = names[(self._num_given + place) % len(names)]
            if now < self._not_before.get(name, 0.0):
                continue
            # Another machine may have met the walls.
            if self.paces[name].walls_in_row() >= self.walls:
                self._refused.add(name)
                self.is_stopped = len(self._refused) == len(self.paces)
                continue
            wait_s = self.paces[name].take_turn()
            if not wait_s:
                return name, True
            self._not_before[name] = now + wait_s
        return None, False
