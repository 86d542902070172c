"""Get the clips that no copy is there of: which videos, at what pace, and what came of it.

Each attempt's line is in the ledger when it ends. sources.parquet is made of the ledger, here at
the end, or by the next command that needs it. So a run may be killed at any moment, and the next
one fetches what is pending.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from k710.download.options import (
    DownloadOptions,
    refuse_unready,
    site_name,
    with_environment,
)
from k710.download.rate_limit import Pace, pace_file
from k710.download.schedule import WHOLE, Schedule, Selection, plan_videos, planned_videos
from k710.download.summary import (
    DownloadProgress,
    DownloadSummary,
    Expected,
    Tally,
    expect,
    measured_rates,
)
from k710.download.ytdlp import (
    Fetched,
    FetchTask,
    attempt_of,
    fetch_video,
    said,
    scratch_dir,
    ytdlp_version,
)
from k710.engines.local import Failed, run_local
from k710.errors import StageError, shown, without_secrets
from k710.files import locked, word_os_errors
from k710.labels.orders import resolve_label
from k710.part import Part
from k710.sources.ledger import Ledger, open_ledger, read_attempts
from k710.sources.outcomes import done_shards, open_outcomes
from k710.sources.table import current_sources, is_current, refresh_sources
from k710.statuses import Status
from k710.tables.connection import connect, connect_to_read
from k710.tables.reading import open_table
from k710.tables.schemas import MANIFEST
from k710.tables.views import require_views

__all__ = ["AGAIN", "check_again", "download_videos"]

AGAIN = tuple(status for status in Status if status.retry in ("asked", "without_copy"))
"""Statuses of clips that a run tries if it is told to; of `failed` it means those with a copy, and
those of videos that were given up."""
_MEMORY = "1GB"
_CAREFUL = DownloadOptions()


def download_videos(
    views: Sequence[str],
    *,
    work: str | os.PathLike[str] = "work",
    options: DownloadOptions = _CAREFUL,
    classes: Sequence[str] | None = None,
    again: Collection[str] = (),
    limit: int | None = None,
    part: Part = WHOLE,
    dry_run: bool = False,
    on_progress: Callable[[DownloadProgress], None] = lambda progress: None,
) -> DownloadSummary:
    """Fetch the videos of the clips of `views` that have no copy; returns what became of them.

    Writes videos to downloads/ in `work`, a line for each attempt to ledger/, and sources.parquet.
    `classes` are names; `again` statuses that count as final otherwise; `limit` is of videos;
    `part` is a share of them. `dry_run` fetches and writes nothing. StageError where
    there is no manifest, or another process fetches the same.
    """
    work = Path(work)
    check_again(again)
    if limit is not None and limit < 1:
        raise ValueError(f"limit ({limit}) must be 1 or more")
    from_environment = not options.proxies
    options = with_environment(options)
    refuse_unready(options)
    with connect_to_read() as con:  # before a folder of a mistyped name is made
        open_table(con, work, MANIFEST)
        require_views(con, work, list(views) or [""])
    rows = None if classes is None else sorted({resolve_label(name) for name in classes})
    selection = Selection(views, again, rows, part)
    with contextlib.ExitStack() as stack:
        stack.enter_context(word_os_errors(work))
        # Before the plan is made: what another run fetched until then is not fetched again.
        ledger = (
            None if dry_run else stack.enter_context(open_ledger(work, part, tool=ytdlp_version()))
        )
        # Its own place to spill: what has the lock of `work` clears the one there.
        spill = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="k710-")))
        con = stack.enter_context(connect(spill, memory_limit=_MEMORY))
        told = current_sources(con, work)
        remarks = list(dict.fromkeys([*told, *read_attempts(con, work)]))
        open_outcomes(con, work, sorted(done_shards(work)))
        tally = Tally(given_up=plan_videos(con, selection, limit, tool=ytdlp_version()))
        expected = expect(con, work, options)
        if from_environment and options.proxies:
            remarks.append(
                f"Through the proxy of the environment: {without_secrets(options.proxies[0])}. "
                "--proxy names another, NO_PROXY the hosts to ask without."
            )
        if tally.given_up:
            remarks.append(
                f"{tally.given_up:,} videos are pending and not asked for: the site calls them "
                "unavailable for no known reason, and was asked three times with this yt-dlp. Ask "
                "again: --again failed."
            )
        if ledger is not None:
            if expected.videos:
                run = _Run(work, options, ledger, tally, expected, on_progress)
                remarks += run.fetch_all(con)
            remarks += _fold(con, work)
        current_sources(con, work)
        return tally.summary(con, views, expected, work, dry_run=dry_run, remarks=remarks)


def check_again(again: Collection[str]) -> None:
    """ValueError where these are no statuses that count as final."""
    unknown = sorted(set(again) - set(AGAIN))
    if unknown:
        raise ValueError(f"{shown(unknown[0])} is none of {', '.join(AGAIN)}")


def _fold(con: duckdb.DuckDBPyConnection, work: Path) -> list[str]:
    """Write sources.parquet of the ledger; if another command has the lock, the next one will."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(work))
        except StageError as error:
            busy = str(error).partition("\n")[0]
            return [f"{busy} sources.parquet is brought up to date by the next command."]
        if not is_current(work):
            refresh_sources(con, work)  # what it has to say was said when the run began
    return []


@dataclass(frozen=True, slots=True)
class _Run:
    work: Path
    options: DownloadOptions
    ledger: Ledger
    tally: Tally
    expected: Expected
    on_progress: Callable[[DownloadProgress], None]

    def fetch_all(self, con: duckdb.DuckDBPyConnection) -> list[str]:
        """Fetch until nothing is left, or every address is refused; returns what to remark."""
        options = self.options
        proxies: tuple[str | None, ...] = options.proxies or (None,)
        paces = {
            proxy: Pace(
                str(pace_file(self.work, options.address, proxy)),
                options.sleep_s,
                options.bytes_per_s,
            )
            for proxy in proxies
        }
        with contextlib.ExitStack() as stack:
            for pace in paces.values():
                stack.enter_context(pace.in_use())
            return self._fetch(con, paces)

    def _fetch(self, con: duckdb.DuckDBPyConnection, paces: Mapping[str | None, Pace]) -> list[str]:
        options = self.options
        rates = measured_rates(con)
        schedule = Schedule(
            planned_videos(con), paces, options.retries, options.backoff_s, options.walls
        )
        folder = Path(os.path.abspath(self.work / "downloads"))
        folder.mkdir(parents=True, exist_ok=True)

        def tasks() -> Any:
            for video in schedule.videos():
                if video is None:
                    yield None
                    continue
                yield FetchTask(
                    youtube_id=video.youtube_id,
                    url=options.url_template.replace("{id}", video.youtube_id),
                    site=site_name(options.url_template),
                    clips=video.clips,
                    attempt=video.num_attempts + 1,
                    afresh=video.afresh,
                    folder=str(folder),
                    policy=options.policy,
                    short_side=options.short_side,
                    audio=options.audio,
                    pad_s=options.pad_s,
                    rates=rates,
                    pace=paces[video.proxy],
                    cookies=options.cookies,
                    proxy=video.proxy,
                    stall_s=options.stall_s,
                )

        done = run_local(
            fetch_video,
            tasks(),
            workers=options.workers,
            timeout_s=options.timeout_s,
            second_try=False,
        )
        with closing(done):
            for task, result in done:
                fetched = _of_failed(task, result) if isinstance(result, Failed) else result
                self.ledger.append(attempt_of(task, fetched, keep=options.keep))
                is_wall = fetched.is_wall if fetched.was_asked else None
                is_last = schedule.settle(task.youtube_id, fetched.status, is_wall, fetched.detail)
                self.tally.add(task, fetched, is_last=is_last)
                self.on_progress(self.tally.progress(self.expected))
        self.tally.stopped_by = schedule.stopped_by
        return list(self.tally.warnings)


def _of_failed(task: FetchTask, failed: Failed) -> Fetched:
    shutil.rmtree(scratch_dir(task), ignore_errors=True)  # its worker can't any more
    status = Status.TRANSIENT if failed.is_late else Status.FAILED
    return Fetched(status, said(task, failed.why), seconds=failed.seconds)
