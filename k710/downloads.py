"""Get the clips that no copy is there of: which videos, at what pace, and what came of it.

Each attempt's line is in the ledger when it ends. sources.parquet is made of the ledger, here at
the end, or by the next command that needs it. So a run may be killed at any moment, and the next
one fetches what is pending.
"""

import os
import shutil
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from k710.download_plan import Schedule, plan_videos, planned_videos
from k710.download_summary import (
    DownloadProgress,
    DownloadSummary,
    Expected,
    Tally,
    expect,
    measured_rates,
)
from k710.engines import Failed, run_local
from k710.errors import SourceError, StageError, shown
from k710.files import locked, word_os_errors
from k710.labels import resolve_label
from k710.ledger import Ledger, open_ledger, read_attempts
from k710.pace import Pace, pace_file
from k710.sources import current_sources, is_current, refresh_sources
from k710.tables import connect, open_table, read_sql
from k710.ytdlp import Fetched, FetchTask, fetch_video, ytdlp_version

__all__ = [
    "DEAD",
    "PENDING",
    "YOUTUBE",
    "Fetching",
    "check_selection",
    "download_videos",
    "remove_stored",
]

YOUTUBE = "https://www.youtube.com/watch?v={id}"
PENDING = ("missing", "transient", "blocked", "ours")
"""Statuses of clips that a run tries."""
DEAD = ("gone", "private", "age", "region", "empty", "damaged")
"""Statuses of clips that a run tries only if it is told to."""
_MEMORY = "1GB"
_POLICIES = ("auto", "whole", "sections")


@dataclass(frozen=True, slots=True)
class Fetching:
    """How videos are fetched; the defaults are careful with a site that counts."""

    url_template: str = YOUTUBE  # {id} stands for the YouTube id
    policy: str = "auto"  # whole, sections, or whichever should be there first
    short_side: int = 320  # px: the smallest stream that has as many is taken
    audio: bool = False
    pad_s: int = 5  # around the window of a section
    cookies: str | None = None  # a file in Netscape's format
    proxies: tuple[str, ...] = ()  # taken in turn; none: this machine's own address
    address: str = "this"  # machines that give the same name share one pace
    sleep_s: float = 5.0  # from one start to the next, for each address
    bytes_per_s: float | None = None  # for each address
    workers: int = 4
    retries: int = 3  # of what may pass
    backoff_s: float = 5.0  # before the first retry; doubles
    walls: int = 10  # in a row, after which an address is left alone
    stall_s: float = 30.0  # without a byte, after which a connection counts as dead
    timeout_s: float = 1800.0  # after which an attempt is killed
    keep: bool = True  # videos, when all that they were fetched for is stored

    def __post_init__(self) -> None:
        is_web = self.url_template.lower().startswith(("http://", "https://"))
        if self.url_template.count("{id}") != 1 or not is_web:
            raise ValueError(
                f"{shown(self.url_template)} must be an http(s) address with {{id}} in it, once"
            )
        if self.policy not in _POLICIES:
            raise ValueError(f"{shown(self.policy)} is none of {', '.join(_POLICIES)}")
        if self.workers < 1 or self.walls < 1 or self.retries < 0:
            raise ValueError("workers and walls must be 1 or more, and retries 0 or more")
        if min(self.sleep_s, self.backoff_s, self.pad_s) < 0 or not self.timeout_s > 0:
            raise ValueError("sleep_s, backoff_s and pad_s must not be below 0, nor timeout_s 0")


_CAREFUL = Fetching()


def download_videos(
    views: Sequence[str],
    *,
    work: str | os.PathLike[str] = "work",
    fetching: Fetching = _CAREFUL,
    classes: Sequence[str] | None = None,
    again: Collection[str] = (),
    limit: int | None = None,
    part: tuple[int, int] = (1, 1),
    dry_run: bool = False,
    on_progress: Callable[[DownloadProgress], None] = lambda progress: None,
) -> DownloadSummary:
    """Fetch the videos of the clips of `views` that have no copy; returns what became of them.

    Writes videos to downloads/ in `work`, a line for each attempt to ledger/, and sources.parquet.
    `classes` are names; `again` statuses that count as final otherwise; `limit` is of videos;
    `part` (i, n) takes one in n of them. `dry_run` fetches and writes nothing. StageError where
    there is no manifest, or another process fetches the same.
    """
    work = Path(work)
    check_selection(again, part)
    if limit is not None and limit < 1:
        raise ValueError(f"limit ({limit}) must be 1 or more")
    _refuse_unready(fetching)
    with duckdb.connect() as con:  # before a folder of a mistyped name is made
        _refuse_unknown_views(con, work, views)
    rows = None if classes is None else sorted({resolve_label(name) for name in classes})
    with word_os_errors(work), connect(work, memory_limit=_MEMORY) as con:
        current_sources(con, work)
        read_attempts(con, work)
        wanted: dict[str, Any] = {
            "views": list(views),
            "statuses": list(PENDING),
            "again": list(again),
            "labels": rows,
            "part": part[0],
            "num_parts": part[1],
        }
        plan_videos(con, wanted, limit)
        expected = expect(con, work, fetching)
        tally = Tally()
        remarks: list[str] = []
        if not dry_run and expected.videos:
            with open_ledger(work, *part, tool=ytdlp_version()) as ledger:
                run = _Run(work, fetching, ledger, tally, expected, on_progress)
                remarks += run.fetch_all(con, afresh=bool(again))
        if not dry_run:
            remarks += _fold(con, work)
        current_sources(con, work)
        return tally.summary(con, views, expected, work, dry_run=dry_run, remarks=remarks)


def check_selection(again: Collection[str], part: tuple[int, int]) -> None:
    """ValueError where these are no statuses that count as final, or no part of a whole."""
    unknown = sorted(set(again) - set(DEAD))
    if unknown:
        raise ValueError(f"{shown(unknown[0])} is none of {', '.join(DEAD)}")
    if not 1 <= part[0] <= part[1] <= 999:
        raise ValueError(f"part {part[0]}/{part[1]} is none: the third of sixteen is 3/16")


def _refuse_unready(fetching: Fetching) -> None:
    if fetching.policy == "sections" and not shutil.which("ffmpeg"):
        raise StageError(
            "Sections are cut by the ffmpeg program, and there is none on PATH.\n"
            "Install ffmpeg, or use --fetch whole."
        )
    if fetching.cookies is not None:
        _refuse_bad_cookies(Path(fetching.cookies))


def _refuse_bad_cookies(path: Path) -> None:
    from http.cookiejar import LoadError, MozillaCookieJar

    try:
        # yt-dlp takes more than this: what begins like one is left to it.
        MozillaCookieJar().load(str(path), ignore_discard=True, ignore_expires=True)
    except (LoadError, UnicodeDecodeError) as error:
        raise SourceError(
            f"{path} is no file of cookies: {shown(error)}.\n"
            "Export them in Netscape's format (cookies.txt) from a browser."
        ) from error
    except OSError as error:
        raise SourceError(f"{path} can't be read: {error.strerror}.") from error


def _refuse_unknown_views(con: Any, work: Path, views: Sequence[str]) -> None:
    open_table(con, work, "manifest")
    there = {row[0] for row in con.execute("select distinct view from manifest").fetchall()}
    unknown = [view for view in views if view not in there]
    if unknown or not views:
        raise StageError(
            f"There is no view {shown(unknown[0] if unknown else '')} in {work}.\n"
            f"There are {', '.join(sorted(there))}."
        )


def _fold(con: Any, work: Path) -> list[str]:
    """Write sources.parquet of the ledger; if another command has the lock, the next one will."""
    try:
        with locked(work):
            if not is_current(work):
                refresh_sources(con, work)
    except StageError as error:
        busy = str(error).partition("\n")[0]
        return [f"{busy} sources.parquet is brought up to date by the next command."]
    return []


@dataclass(frozen=True, slots=True)
class _Run:
    work: Path
    fetching: Fetching
    ledger: Ledger
    tally: Tally
    expected: Expected
    on_progress: Callable[[DownloadProgress], None]

    def fetch_all(self, con: Any, *, afresh: bool) -> list[str]:
        """Fetch until nothing is left, or every address is refused; returns what to remark."""
        made = self.fetching
        proxies: tuple[str | None, ...] = made.proxies or (None,)
        paces = {
            proxy: Pace(
                str(pace_file(self.work, made.address, proxy)), made.sleep_s, made.bytes_per_s
            )
            for proxy in proxies
        }
        for pace in paces.values():
            pace.forget_walls()
        rates = measured_rates(con)
        schedule = Schedule(planned_videos(con), paces, made.retries, made.backoff_s, made.walls)
        folder = self.work.absolute() / "downloads"
        folder.mkdir(parents=True, exist_ok=True)

        def tasks() -> Any:
            for video in schedule.videos():
                if video is None:
                    yield None
                    continue
                yield FetchTask(
                    youtube_id=video.youtube_id,
                    url=made.url_template.replace("{id}", video.youtube_id),
                    clips=video.clips,
                    attempt=video.num_attempts + 1,
                    afresh=afresh,
                    folder=str(folder),
                    policy=made.policy,
                    short_side=made.short_side,
                    audio=made.audio,
                    pad_s=made.pad_s,
                    rates=rates,
                    pace=paces[video.proxy],
                    cookies=made.cookies,
                    proxy=video.proxy,
                    stall_s=made.stall_s,
                )

        done = run_local(
            fetch_video,
            tasks(),
            workers=made.workers,
            timeout_s=made.timeout_s,
            second_try=False,
        )
        with closing(done):
            for task, result in done:
                fetched = _of_failed(result) if isinstance(result, Failed) else result
                self.ledger.append(task, fetched, keep=made.keep)
                is_last = schedule.settle(task.youtube_id, fetched.status, fetched.is_wall)
                self.tally.add(task, fetched, is_last=is_last)
                self.on_progress(self.tally.progress(self.expected))
        self.tally.is_stopped = schedule.is_stopped
        return list(self.tally.warnings)


def _of_failed(failed: Failed) -> Fetched:
    late = failed.why.startswith("not done")
    return Fetched("transient" if late else "ours", failed.why)


def remove_stored(con: Any, work: Path) -> int:
    """Remove downloads that were not to be kept and whose clips are all in shards; how many.

    sources.parquet of `work` must be current. What the ledger names is removed only if it lies in
    the downloads of `work`.
    """
    folder = (work / "downloads").absolute()
    if not folder.is_dir():
        return 0
    read_attempts(con, work)
    con.execute("create or replace temp table decoded as select clip_id, true as stored from index")
    gone = 0
    for (uri,) in con.execute(f"{read_sql('discarded')} order by uri").fetchall():
        path = Path(uri)
        if path.parent.parent == folder and path.is_file():
            path.unlink()
            gone += 1
    con.execute("drop table temp.decoded").fetchall()
    return gone
