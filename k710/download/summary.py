"""What a download run is up to, how far it is, and what came of it."""

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from k710.download.options import DownloadOptions
from k710.download.schedule import StoppedBy
from k710.download.streams import Rates
from k710.download.ytdlp import Fetched, FetchTask, ytdlp_version
from k710.statuses import Status
from k710.tables.connection import run
from k710.tables.schemas import read_sql
from k710.video.encode import Encoding, bytes_per_second

__all__ = [
    "DownloadProgress",
    "DownloadSummary",
    "Expected",
    "Tally",
    "ViewStatus",
    "expect",
    "measured_rates",
]

_SHOWN_REASONS = 8
_MOST_REASONS = 1_000  # that are counted apart: true messages are few, hostile ones needn't be


@dataclass(frozen=True, slots=True)
class Expected:
    """What is pending. Estimates are of what the ledger has measured; None: nothing yet."""

    videos: int
    clips: int
    hours: float  # of the clips' windows
    at_least_bytes: int  # for the windows alone, at the rate of our own encodes
    estimated_bytes: int | None
    estimated_hours: float | None  # that downloading takes
    free_bytes: int


@dataclass(frozen=True, slots=True)
class DownloadProgress:
    """How far a run is."""

    clips: int  # whose fate is known
    clips_in_all: int
    num_bytes: int
    ok: int  # clips


@dataclass(frozen=True, slots=True)
class ViewStatus:
    """How many clips of a view have a status."""

    view: str
    status: str
    clips: int


@dataclass(frozen=True, slots=True)
class DownloadSummary:
    """What a run did, or would do (`dry_run`); `asdict` of it is what `--json` prints."""

    views: tuple[ViewStatus, ...]
    expected: Expected  # when the run began
    attempts: int
    videos: int  # whose fate is known
    statuses: dict[str, int]  # of the clips of these
    reasons: tuple[tuple[str, str, int], ...]  # status, what yt-dlp said, videos: most first
    num_bytes: int
    seconds: float  # of all attempts together
    is_stopped: bool  # too often in a row nothing came, and no known reason: the rest is pending
    stopped_by: StoppedBy | None
    given_up: int  # pending videos that were not asked for: asked often enough
    remarks: tuple[str, ...]
    dry_run: bool
    work: str
    tool: str  # yt-dlp and its version

    @property
    def came_to_nothing(self) -> bool:
        """Whether it asked, and not one video came."""
        return self.attempts > 0 and not self.statuses.get(Status.OK)


@dataclass(slots=True)
class Tally:
    """Counts what became of the videos of a run."""

    attempts: int = 0
    videos: int = 0
    clips: int = 0
    num_bytes: int = 0
    seconds: float = 0.0
    given_up: int = 0
    stopped_by: StoppedBy | None = None
    statuses: Counter[str] = field(default_factory=Counter)
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    warnings: dict[str, None] = field(default_factory=dict)

    def add(self, task: FetchTask, fetched: Fetched, *, is_last: bool) -> None:
        """Count an attempt; `is_last`: the video isn't tried again in this run."""
        self.attempts += 1
        self.num_bytes += fetched.num_bytes
        self.seconds += fetched.seconds
        for warning in fetched.warnings:
            if len(self.warnings) < _SHOWN_REASONS:
                self.warnings.setdefault(f"yt-dlp warns: {warning}")
        if not is_last:
            return
        self.videos += 1
        self.clips += len(task.clips)
        self.statuses[fetched.status] += len(task.clips)
        reason = (fetched.status, fetched.detail or "")
        if fetched.status != Status.OK and (
            reason in self.reasons or len(self.reasons) < _MOST_REASONS
        ):
            self.reasons[reason] += 1

    def progress(self, expected: Expected) -> DownloadProgress:
        """How far the run is."""
        return DownloadProgress(
            self.clips, expected.clips, self.num_bytes, self.statuses[Status.OK]
        )

    def summary(
        self,
        con: duckdb.DuckDBPyConnection,
        views: Sequence[str],
        expected: Expected,
        work: Path,
        *,
        dry_run: bool,
        remarks: Sequence[str],
    ) -> DownloadSummary:
        """What the run did. `manifest` and `sources` must be tables on `con`, and current."""
        rows = run(con, read_sql("k710/download/view_statuses.sql"), {"views": list(views)})
        reasons = sorted(self.reasons.items(), key=lambda item: (-item[1], item[0]))
        return DownloadSummary(
            views=tuple(ViewStatus(*row) for row in rows),
            expected=expected,
            attempts=self.attempts,
            videos=self.videos,
            statuses=dict(sorted(self.statuses.items())),
            reasons=tuple((*reason, count) for reason, count in reasons[:_SHOWN_REASONS]),
            num_bytes=self.num_bytes,
            seconds=round(self.seconds, 3),
            is_stopped=self.stopped_by is not None,
            stopped_by=self.stopped_by,
            given_up=self.given_up,
            remarks=tuple(remarks),
            dry_run=dry_run,
            work=str(work),
            tool=ytdlp_version(),
        )


def expect(con: duckdb.DuckDBPyConnection, work: Path, options: DownloadOptions) -> Expected:
    """What `todo` will take. `attempts` must be a table on `con`."""
    values = {"policy": options.policy}
    (row,) = run(con, read_sql("k710/download/expected.sql"), values)
    videos, clips, window_s, video_bytes, clip_bytes, attempt_s = row
    by_clip = options.policy == "sections"
    measured = clip_bytes if by_clip else video_bytes
    per_address = options.sleep_s / max(1, len(options.proxies))
    hours = None
    if attempt_s is not None:
        hours = videos * max(per_address, attempt_s / options.workers) / 3600
    per_second = bytes_per_second(Encoding(short_side=options.short_side))
    return Expected(
        videos=videos,
        clips=clips,
        hours=window_s / 3600,
        at_least_bytes=round(window_s * per_second),
        estimated_bytes=(
            None if measured is None else round(measured * (clips if by_clip else videos))
        ),
        estimated_hours=hours,
        free_bytes=shutil.disk_usage(work).free,
    )


def measured_rates(con: duckdb.DuckDBPyConnection) -> Rates:
    """How fast whole videos and sections came so far, by the ledger."""
    rows = run(
        con,
        "select kind, sum(num_bytes) / sum(seconds) from attempts "
        "where status = 'ok' and seconds > 0 and num_bytes > 0 group by kind",
    )
    measured = dict(rows)
    assumed = Rates()
    return Rates(
        measured.get("whole") or assumed.whole_bytes_per_s,
        measured.get("sections") or assumed.section_bytes_per_s,
    )
