"""One video, fetched once: the task that download workers run, and all that k710 knows of yt-dlp.

yt-dlp is used as a library: no shell, no configuration file, no plugin. It writes to a folder of
the task's own under names of ours; what it made is opened, and only then moved to its place. So a
worker may be killed at any moment, and a file that is in its place is whole.
"""

import copy
import io
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from k710.download.files import found, put
from k710.download.options import ffmpeg_keeps_to
from k710.download.rate_limit import Pace
from k710.download.streams import Rates, Span, best_streams, prefers_sections, spans
from k710.errors import MediaError, printable
from k710.files import disk_full
from k710.machine import free_memory
from k710.sources.ledger import Attempt, FetchedFile
from k710.sources.refusals import cleaned, refusal
from k710.statuses import Status
from k710.tables.clip_ids import YOUTUBE_ID
from k710.video.probe import media_words
from k710.video.remux import out_of_transport

__all__ = [
    "FetchTask",
    "Fetched",
    "attempt_of",
    "fetch_video",
    "said",
    "scratch_dir",
    "ytdlp_version",
]

_RETRIES_INSIDE = 2  # of a connection that breaks: goes on where it broke
_BLOCK_BYTES = 1 << 16
_CHARGE_BYTES = 1 << 18  # the lock of the governor is not taken for less
_MAX_REDIRECTS = 5
_SHORT = 6  # letters: what is shorter is a word of its own elsewhere


@dataclass(frozen=True, slots=True)
class FetchTask:
    """One attempt at one video."""

    youtube_id: str
    url: str
    site: str  # what the ledger calls it
    clips: tuple[tuple[str, int, int], ...]  # id, start, end in seconds
    attempt: int
    afresh: bool  # not what is there: that was no good
    folder: str  # of the videos that are there
    policy: str  # whole, sections, auto
    short_side: int  # px
    audio: bool
    pad_s: int
    rates: Rates
    pace: Pace
    cookies: str | None
    proxy: str | None
    stall_s: float


@dataclass(frozen=True, slots=True)
class Fetched:
    """What became of an attempt. Without a file for it, a clip is not in the video."""

    status: Status
    detail: str | None
    kind: str | None = None  # whole, sections; None: it didn't come to that
    files: tuple[FetchedFile, ...] = ()
    num_bytes: int = 0  # had from the network, kept or not
    seconds: float = 0.0
    is_wall: bool = False
    was_asked: bool = True  # False: it was there already
    warnings: tuple[str, ...] = ()


def attempt_of(task: FetchTask, fetched: Fetched, *, keep: bool) -> Attempt:
    """The ledger's line of an attempt."""
    return Attempt(
        youtube_id=task.youtube_id,
        attempt=task.attempt,
        clips=tuple(clip_id for clip_id, _, _ in task.clips),
        status=fetched.status,
        detail=fetched.detail,
        kind=fetched.kind,
        files=fetched.files,
        num_bytes=fetched.num_bytes,
        seconds=fetched.seconds,
        is_wall=fetched.is_wall,
        keep=keep,
        site=task.site,
    )


@dataclass(slots=True)
class _Log:
    """What yt-dlp says, in place of its prints."""

    task: FetchTask
    warnings: list[str] = field(default_factory=list)

    def debug(self, message: str) -> None: ...

    def info(self, message: str) -> None: ...

    def warning(self, message: str) -> None:
        text = said(self.task, re.sub(r"^WARNING: ", "", message))
        if text not in self.warnings and len(self.warnings) < 5:
            self.warnings.append(text)

    def error(self, message: str) -> None: ...  # it is raised as well


@dataclass(slots=True)
class _Meter:
    """Counts bytes, and holds the fetch to the pace."""

    pace: Pace
    num_bytes: int = 0
    _charged: int = 0
    _so_far: dict[str, int] = field(default_factory=dict)

    def __call__(self, progress: Mapping[str, Any]) -> None:
        name = str(progress.get("filename"))
        now = int(progress.get("downloaded_bytes") or 0)
        # A fetch that begins anew counts again: the bytes were had.
        self.num_bytes += (
            now - self._so_far.get(name, 0) if now >= self._so_far.get(name, 0) else now
        )
        self._so_far[name] = now
        if self.num_bytes - self._charged >= _CHARGE_BYTES or progress.get("status") == "finished":
            self.settle()

    def settle(self) -> None:
        """Charge what has come since the last time."""
        due, self._charged = self.num_bytes - self._charged, self.num_bytes
        self.pace.charge(due)


def ytdlp_version() -> str:
    """`yt-dlp 2026.10.26`: what the ledger says made an attempt."""
    return f"yt-dlp {metadata.version('yt-dlp')}"


def scratch_dir(task: FetchTask) -> Path:
    """Where an attempt keeps what isn't whole yet; gone when it ends, but for a kill."""
    return Path(task.folder) / ".partial" / task.youtube_id


def fetch_video(task: FetchTask) -> Fetched:
    """Fetch the video of `task`, or sections of it, unless they are there already.

    Whatever goes wrong with one video is a status, with what yt-dlp said.
    """
    if not re.fullmatch(YOUTUBE_ID, task.youtube_id):
        raise AssertionError("ids are checked when the lists are read")
    began = time.monotonic()
    there = _already_there(task)
    if there is not None:
        return there
    scratch = scratch_dir(task)
    shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed
    log, meter = _Log(task), _Meter(task.pace)
    try:
        scratch.mkdir(parents=True)
        kind, files, detail = _fetch(task, scratch, log, meter)
        fetched = Fetched(Status.OK, detail, kind, files)
    except MediaError as error:
        fetched = Fetched(Status.DAMAGED, printable(media_words(error)))
    except OSError as error:
        _refuse_full_disk(task, str(error))
        fetched = Fetched(Status.FAILED, said(task, error.strerror or str(error)))
    except _ytdlp_error() as error:
        _refuse_full_disk(task, str(error))
        words = said(task, str(error))
        made = refusal(words)
        fetched = Fetched(made.status, words, is_wall=made.is_wall)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        free_memory()
    return Fetched(
        status=fetched.status,
        detail=fetched.detail,
        kind=fetched.kind,
        files=fetched.files,
        num_bytes=max(meter.num_bytes, sum(file.num_bytes for file in fetched.files)),
        seconds=round(time.monotonic() - began, 3),
        is_wall=fetched.is_wall,
        warnings=tuple(log.warnings),
    )


def _refuse_full_disk(task: FetchTask, what: str) -> None:
    """A full disk is no matter of one video: it ends the run, before it asks for all the rest."""
    # Not where a server words its refusal so.
    full = re.search(r"no space left|disk quota|file too large", what, re.IGNORECASE)
    if full and "HTTP Error" not in what:
        raise disk_full(Path(task.folder), said(task, what))


def said(task: FetchTask, message: str) -> str:
    """`message` fit for the ledger and the screen: `cleaned`, and no secret of a URL in it."""
    # Libraries quote parts of a URL too, such as its path with the query.
    for secret in sorted(_secrets(task), key=len, reverse=True):
        message = message.replace(secret, "...")
    return cleaned(message, task.youtube_id)


def _secrets(task: FetchTask) -> set[str]:
    """The parts of the task's URLs that are nobody's business, in each way they may be written."""
    secrets: set[str] = set()
    for address in filter(None, (task.proxy, task.url)):
        parts = urlsplit(address)
        user, _, password = parts.netloc.rpartition("@")[0].partition(":")
        secrets |= {f"{user}:{password}", password or user}
        values = [value for _, value in parse_qsl(parts.query)]
        secrets |= {one for one in (*values, parts.query, parts.fragment) if len(one) >= _SHORT}
    written = {way(secret) for secret in secrets for way in (str, quote, unquote)}
    return {secret for secret in written if len(secret) > 1 and task.youtube_id not in secret}


def _ytdlp_error() -> Any:
    from yt_dlp.utils import YoutubeDLError

    return YoutubeDLError


def _already_there(task: FetchTask) -> Fetched | None:
    """What an earlier run moved to its place, and was killed before it could say so."""
    if task.afresh:
        return None
    folder = Path(task.folder)
    whole = found(folder, task.youtube_id)
    if whole is not None:
        return Fetched(Status.OK, "it was there", "whole", (whole,), was_asked=False)
    if task.policy == "sections":
        wanted = spans(task.clips, task.pad_s)
        files = tuple(filter(None, (found(folder, task.youtube_id, span) for span in wanted)))
        if len(files) == len(wanted):
            return Fetched(Status.OK, "it was there", "sections", files, was_asked=False)
    return None


def _fetch(
    task: FetchTask, scratch: Path, log: _Log, meter: _Meter
) -> tuple[str, tuple[FetchedFile, ...], str | None]:
    wanted = spans(task.clips, task.pad_s)
    with _youtube_dl(_params(task, scratch, log, meter)) as ydl:
        info = _extracted(ydl, task.url)
        duration_s = float(info["duration"]) if info.get("duration") else None
        if not _in_sections(task, info, duration_s, wanted):
            ydl.process_ie_result(info, download=True)
            meter.settle()
            made = out_of_transport(_made(scratch, "whole"), audio=task.audio)
            return "whole", (put(made, Path(task.folder), task.youtube_id),), None
        there = [span for span in wanted if duration_s is None or span.start_s < duration_s]
        files = []
        for place, span in enumerate(there):
            file = None if task.afresh else found(Path(task.folder), task.youtube_id, span)
            files.append(file or _section(task, ydl, info, scratch, place, span, meter))
        ends = f"the video ends after {duration_s:g} s" if len(there) < len(wanted) else None
        return "sections", tuple(files), ends


def _section(
    task: FetchTask,
    ydl: Any,
    info: Mapping[str, Any],
    scratch: Path,
    place: int,
    span: Span,
    meter: _Meter,
) -> FetchedFile:
    """One section, in its place before the next is asked for: a later failure doesn't cost it."""
    ydl.params["download_ranges"] = lambda *_: [
        {"start_time": span.start_s, "end_time": span.end_s, "index": place}
    ]
    try:
        ydl.process_ie_result(copy.deepcopy(info), download=True)
    except _ytdlp_error() as error:
        if "ffmpeg exited" in str(error):
            _ask_without_ffmpeg(task, ydl, info)
        raise
    made = _made(scratch, str(place))
    meter.settle()  # ffmpeg's bytes count only when it has ended
    return put(made, Path(task.folder), task.youtube_id, span)


def _ask_without_ffmpeg(task: FetchTask, ydl: Any, info: Mapping[str, Any]) -> None:
    """Raise what the site says of a stream that ffmpeg failed at: it says a number, and no why."""
    from yt_dlp.networking import Request

    formats = info.get("formats") or [info]
    for one in best_streams(formats, short_side=task.short_side, audio=task.audio):
        headers = {**(one.get("http_headers") or {}), "Range": "bytes=0-0"}
        ydl.urlopen(Request(str(one["url"]), headers=headers)).close()


def _params(task: FetchTask, scratch: Path, log: _Log, meter: _Meter) -> dict[str, Any]:
    def streams(context: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        chosen = best_streams(context["formats"], short_side=task.short_side, audio=task.audio)
        if len(chosen) == 2:
            yield {
                "format_id": "+".join(str(one.get("format_id")) for one in chosen),
                "ext": "mkv",
                "requested_formats": list(chosen),
                "protocol": "+".join(str(one.get("protocol")) for one in chosen),
            }
        else:
            yield from chosen

    # yt-dlp would put variables of the environment in place of their names.
    escaped = str(scratch).replace("%", "%%").replace("$", "%(k710|$)s")
    return {
        "outtmpl": {"default": f"{escaped}/%(section_number|whole)s.%(ext)s"},
        "format": streams,
        "quiet": True,
        "noprogress": True,
        "color": "no_color",
        "logger": log,
        "progress_hooks": [meter],
        "noplaylist": True,
        "updatetime": False,
        "overwrites": True,
        "fixup": "never",
        "merge_output_format": "mkv",
        "buffersize": _BLOCK_BYTES,
        "noresizebuffer": True,
        "socket_timeout": task.stall_s,
        "retries": _RETRIES_INSIDE,
        "fragment_retries": _RETRIES_INSIDE,
        "skip_unavailable_fragments": False,  # or a part of the video is missing, without a word
        "extractor_retries": 0,  # k710 does that, and says so in the ledger
        "cachedir": str(Path(task.folder) / ".cache"),
        "cookiefile": _own_copy(task.cookies),
        "proxy": task.proxy,
        "external_downloader_args": {
            "ffmpeg_i": ["-rw_timeout", str(round(1e6 * task.stall_s))],  # microseconds
            # The packets of a section keep their time after the first of the video: that tells
            # where it begins. A connection that breaks is an error, and not the end.
            "ffmpeg_o": ["-copyts", "-start_at_zero", "-xerror"],
        },
    }


def _own_copy(cookies: str | None) -> io.StringIO | None:
    """A copy of the cookies: yt-dlp writes to the file, and several workers would at once."""
    if cookies is None:
        return None
    return io.StringIO(Path(cookies).read_text(encoding="utf-8"))


def _youtube_dl(params: dict[str, Any]) -> Any:
    os.environ["YTDLP_NO_PLUGINS"] = "1"
    from yt_dlp import YoutubeDL
    from yt_dlp.globals import plugin_dirs

    plugin_dirs.value = []
    return YoutubeDL(params)


def _extracted(ydl: Any, url: str) -> dict[str, Any]:
    """What the site says of the video, with its streams, redirections followed."""
    from yt_dlp.utils import ExtractorError

    info: dict[str, Any] = ydl.extract_info(url, download=False, process=False)
    for _ in range(_MAX_REDIRECTS):
        kind = info.get("_type", "video")
        if kind == "video":
            return info
        if kind not in ("url", "url_transparent"):
            break
        info = ydl.extract_info(
            info["url"], download=False, process=False, ie_key=info.get("ie_key")
        )
    raise ExtractorError("the address is not that of one video", expected=True)


def _in_sections(
    task: FetchTask, info: Mapping[str, Any], duration_s: float | None, wanted: Sequence[Span]
) -> bool:
    if task.policy != "auto":
        return task.policy == "sections"
    if shutil.which("ffmpeg") is None or not ffmpeg_keeps_to(filter(None, [task.proxy])):
        return False
    formats = info.get("formats") or [info]
    chosen = best_streams(formats, short_side=task.short_side, audio=task.audio)
    seconds = sum(span.end_s - span.start_s for span in wanted)
    return bool(chosen) and prefers_sections(chosen[0], duration_s, seconds, task.rates)


def _made(scratch: Path, stem: str) -> Path:
    """The one file of that name that yt-dlp made."""
    made = [path for path in sorted(scratch.iterdir()) if path.name.partition(".")[0] == stem]
    if len(made) != 1 or made[0].suffix in (".part", ".ytdl"):
        raise MediaError("yt-dlp said that all went well, and made no video.")
    return made[0]
