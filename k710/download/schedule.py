"""Which video is fetched next, through which address: retries, turns, addresses left alone."""

import heapq
import itertools
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import duckdb

from k710.download.rate_limit import Pace
from k710.part import Part
from k710.statuses import Status, parse_status
from k710.tables.connection import make_table, run
from k710.tables.schemas import read_sql

__all__ = ["Schedule", "Selection", "StoppedBy", "Video", "plan_videos", "planned_videos"]

StoppedBy = Literal["refusals", "unknown"]
"""What the last of too many answers in a row was: a refusal of this address, or no known reason."""

WHOLE = Part(1, 1)
_BATCH_VIDEOS = 1_000
_LONGEST_BACKOFF_S = 600.0
_MOST_WAITING = 10_000  # for a retry, before any new video
_MOST_UNEXPLAINED = 3  # attempts with one version of yt-dlp
_TODO = """
select * exclude (place, is_given_up), row_number() over (order by place) - 1 as place,
from all_pending where not is_given_up order by place limit $limit
"""


@dataclass(frozen=True, slots=True)
class Video:
    """A video that is to be fetched for some clips (id, start, end), through an address."""

    youtube_id: str
    clips: tuple[tuple[str, int, int], ...]
    num_attempts: int  # in the ledger
    afresh: bool  # what may lie in its place is no good
    unexplained: str | None = None  # the words of the last attempt, if they are no known reason
    proxy: str | None = None
    num_retries: int = 0  # in this run


@dataclass(frozen=True, slots=True)
class Selection:
    """Which pending clips a run downloads."""

    views: Sequence[str]
    again: Collection[str] = ()  # statuses that no run tries unless told to
    labels: Sequence[int] | None = None  # K710 rows; None: of all classes
    part: Part = WHOLE


def plan_videos(
    con: duckdb.DuckDBPyConnection, selection: Selection, limit: int | None, *, tool: str
) -> int:
    """Make `todo` a table on `con`: the first `limit` videos of videos.sql that `tool` may ask for.

    Returns how many it has asked for often enough: the site calls them unavailable, and not why.
    Tables `manifest`, `sources`, `attempts` and `outcomes` must be there.
    """
    labels = None if selection.labels is None else list(selection.labels)
    values = {
        "views": list(selection.views),
        "again": list(selection.again),
        "labels": labels,
        "part": selection.part.number,
        "num_parts": selection.part.of,
        "tool": tool,
        "most_unexplained": _MOST_UNEXPLAINED,
    }
    make_table(con, "all_pending", read_sql("k710/download/videos.sql"), values)
    make_table(con, "todo", _TODO, {"limit": limit})
    ((num_given_up,),) = run(con, "select count(*) filter (is_given_up) from all_pending")
    run(con, "drop table all_pending")
    return int(num_given_up)


def planned_videos(con: duckdb.DuckDBPyConnection) -> Iterator[Video]:
    """The videos of `todo` by `place`, read some at a time: there may be many."""
    sql = (
        "select youtube_id, clips, num_attempts, afresh, unexplained from todo "
        "where place // $batch = $n order by place"
    )
    for number in itertools.count():
        rows = run(con, sql, {"batch": _BATCH_VIDEOS, "n": number})
        if not rows:
            return
        for youtube_id, clips, *known in rows:
            yield Video(youtube_id, tuple(map(tuple, clips)), *known)


@dataclass(slots=True)
class Schedule:
    """Gives out videos as their turn comes, and takes note of how they fared."""

    left: Iterator[Video]
    paces: Mapping[str | None, Pace]
    retries: int
    backoff_s: float
    walls: int
    _waiting: list[tuple[float, int, Video]] = field(default_factory=list)
    _in_flight: dict[str, Video] = field(default_factory=dict)
    _next: Video | None = None
    _num_given: int = 0
    _order: Iterator[int] = field(default_factory=itertools.count)  # videos have none
    _refused: dict[str | None, StoppedBy] = field(default_factory=dict)  # too often in a row
    _not_before: dict[str | None, float] = field(default_factory=dict)  # time.monotonic()

    @property
    def is_stopped(self) -> bool:
        """Whether every address brought nothing too often in a row."""
        return len(self._refused) == len(self.paces)

    @property
    def stopped_by(self) -> StoppedBy | None:
        """Why it is stopped; None where it isn't."""
        if not self.is_stopped:
            return None
        return "unknown" if "unknown" in self._refused.values() else "refusals"

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

    def settle(
        self, youtube_id: str, status: str, is_wall: bool | None, words: str | None = None
    ) -> bool:
        """Note how the video fared; whether that is the last word of this run.

        `is_wall` None: the site wasn't asked.
        """
        video = self._in_flight.pop(youtube_id)
        is_last = status != Status.TRANSIENT or video.num_retries >= self.retries
        if is_wall is not None:
            self._count(video, parse_status(status), words, is_wall=is_wall, is_last=is_last)
        if is_last or self.is_stopped:
            return True
        pause_s = min(self.backoff_s * 2**video.num_retries, _LONGEST_BACKOFF_S)
        again = replace(
            video, num_attempts=video.num_attempts + 1, num_retries=video.num_retries + 1
        )
        heapq.heappush(self._waiting, (time.monotonic() + pause_s, next(self._order), again))
        return False

    def _count(
        self, video: Video, status: Status, words: str | None, *, is_wall: bool, is_last: bool
    ) -> None:
        """Count what tells nothing of the video; the video, or a reason of its own, ends the row.

        Neither: what is going to be tried again, and what was said of this very video before.
        """
        is_reason = status.subject == "site" and status.state == "final"
        tells = status == Status.OK or is_reason
        is_news = is_wall or words is None or words != video.unexplained
        if tells or (is_news and (is_wall or is_last)):
            in_row = self.paces[video.proxy].note(is_wall=not tells)
            if in_row >= self.walls:
                self._refused[video.proxy] = "refusals" if is_wall else "unknown"

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
                self._refused[name] = "refusals"
                continue
            wait_s = self.paces[name].take_turn()
            if not wait_s:
                return name, True
            self._not_before[name] = now + wait_s
        return None, False
