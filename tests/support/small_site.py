"""A small manifest, and videos for a server on 127.0.0.1 to answer with: for tests of downloads."""

import io
import json
import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from yt_dlp.postprocessor.ffmpeg import FFmpegPostProcessor

from k710.download.options import DownloadOptions
from k710.download.rate_limit import Pace
from k710.download.run import download_videos
from k710.download.streams import Rates
from k710.download.summary import DownloadSummary
from k710.download.ytdlp import Fetched, FetchTask, attempt_of, fetch_video
from k710.part import Part
from k710.sources.ledger import FetchedFile, open_ledger
from support.list_files import vid
from support.loopback import Answer, Loopback
from support.made_videos import Format, bars, make_video
from support.small_manifest import manifest_of

FPS = 10
VIEW = "k400/train"


@cache
def video(seconds: int = 4, *, format: str = "mp4", first: int = 0, b_frames: int = 0) -> bytes:
    """A video of a few kB whose frames show their numbers, with keyframes every 2 s.

    `first` frames late: its first one is not shown at 0.
    """
    options = {"preset": "ultrafast", "bf": str(b_frames)}
    return make_video(
        io.BytesIO(),
        range(seconds * FPS),
        format=Format(format, options=options, gop=2 * FPS),
        rate=FPS,
        at_ms=lambda number: (number + first) * 1000 // FPS,
        size=(108, 64),
        draw=bars,
    ).getvalue()


def good(seconds: int = 4, **more: Any) -> Answer:
    """The answer that a video gets when all is well."""
    return Answer(body=video(seconds), content_type="video/mp4", **more)


def tell(server: Loopback, name: str, *answers: Answer, ending: str = ".mp4") -> str:
    """Answer for the video `name` so; returns its address."""
    return server.tell(f"/{vid(name)}{ending}", *(answers or (good(),)))


def template(server: Loopback, ending: str = ".mp4") -> str:
    """The --url-template of a server."""
    return f"http://127.0.0.1:{server.server_port}/{{id}}{ending}"


def asked(server: Loopback) -> dict[str, int]:
    """How often each path was asked for."""
    counts: dict[str, int] = {}
    for seen in list(server.seen):
        counts[seen.path] = counts.get(seen.path, 0) + 1
    return counts


def work_of(folder: Path, names: Iterable[str], start: int = 1, end: int = 3) -> Path:
    """A work directory with a clip of each of these videos."""
    return manifest_of(folder, *(("yoga", name, start, end) for name in names))


def fetching(server: Loopback, **more: Any) -> DownloadOptions:
    """Quick, from `server`."""
    quick = {"sleep_s": 0.0, "backoff_s": 0.0, "workers": 1, "policy": "whole", "stall_s": 60.0}
    return DownloadOptions(**{"url_template": template(server), **quick, **more})


def download(work: Path, how: DownloadOptions, **options: Any) -> DownloadSummary:
    """`download_videos` for the one view."""
    return download_videos([VIEW], work=work, options=how, **options)


def lines(work: Path) -> list[dict[str, Any]]:
    """The ledger's lines, oldest first."""
    found = []
    for path in work.glob("ledger/*.jsonl"):
        for line in path.read_bytes().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:  # cut short by a kill
                continue
    return sorted(found, key=lambda line: line["ended_at"])


def statuses_of(work: Path) -> dict[str, list[str]]:
    """The status of each attempt at each id, in order."""
    found: dict[str, list[str]] = {}
    for line in lines(work):
        found.setdefault(line["youtube_id"], []).append(line["status"])
    return found


def a_task(folder: Path, url: str, name: str = "a", **more: Any) -> FetchTask:
    """An attempt at the video `name`, to be kept in `folder`/downloads."""
    youtube_id = vid(name)
    plain: Mapping[str, Any] = {
        "youtube_id": youtube_id,
        "url": url,
        "site": "http://x/{id}",
        "clips": ((f"{youtube_id}_000001_000003", 1, 3),),
        "attempt": 1,
        "afresh": False,
        "folder": str(folder / "downloads"),
        "policy": "whole",
        "short_side": 320,
        "audio": False,
        "pad_s": 1,
        "rates": Rates(),
        "pace": Pace(str(folder / "pace.json"), 0, None),
        "cookies": None,
        "proxy": None,
        "stall_s": 60.0,
    }
    return FetchTask(**{**plain, **more})


def files_below(folder: Path) -> set[str]:
    """Every file below `folder`, hidden ones too."""
    return {
        str(Path(root, name).relative_to(folder))
        for root, _, names in os.walk(folder)
        for name in names
    }


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """The size and time of every file below `folder`."""
    return {
        name: (stat.st_size, stat.st_mtime_ns)
        for name in files_below(folder)
        for stat in [(folder / name).stat()]
    }


def ffmpeg_on_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have an ffmpeg program on PATH, that of imageio-ffmpeg; skips where there is none."""
    program = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ffmpeg").symlink_to(program)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    # In a process where there was none so far, yt-dlp goes by that.
    monkeypatch.setattr(FFmpegPostProcessor, "_version_cache", {None: None})


def without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask 127.0.0.1 itself, whatever this machine is behind."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def fetch(folder: Path, url: str, name: str = "a", **more: Any) -> Fetched:
    """One attempt, in this process."""
    return fetch_video(a_task(folder, url, name, **more))


def page(text: str) -> Answer:
    """An answer that is a web page."""
    return Answer(body=text.encode(), content_type="text/html; charset=utf-8")


def video_page(url: str, **more: Any) -> Answer:
    """A page that says of its video how long it is, and how large."""
    said = {
        "@context": "https://schema.org",
        "@type": "VideoObject",
        "name": "../../name",
        "contentUrl": url,
        "duration": "PT24S",
        "encodingFormat": "video/mp4",
        **more,
    }
    title = "<title>../../x [bold]t[/bold] %(id)s {id}</title>"
    script = f'<script type="application/ld+json">{json.dumps(said)}</script>'
    return page(f"<html><head>{title}{script}</head></html>")


def append(
    work: Path, fetched: Fetched, name: str = "a", *, keep: bool = True, **more: Any
) -> None:
    """Write the line of an attempt at the video `name`."""
    with open_ledger(work, Part(1, 1), tool="yt-dlp 1") as ledger:
        ledger.append(attempt_of(a_task(work, "http://x", name, **more), fetched, keep=keep))


def file_of(
    work: Path, name: str, *clips: str, starts_at_s: float = 0.0, size: int = 1
) -> FetchedFile:
    """A file in downloads/: the whole video `name`, or a section with these clips."""
    path = work / "downloads" / "ab" / f"{vid(name)}{'.1-3' if clips else ''}.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    return FetchedFile(str(path), size, starts_at_s, clips)
