"""Where downloads lie: a whole video is ID.mp4, a section of it ID.7-27.mp4, in 256 folders."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from k710.download.streams import Span
from k710.errors import MediaError
from k710.sources.ledger import FetchedFile
from k710.video.container import open_video
from k710.video.formats import DEMUXERS
from k710.video.streams import time_base_of

__all__ = ["downloaded_path", "found", "put"]

# By what the file is, and not by what the site called it.
_ENDINGS = {name: demuxer.endings[0] for name, demuxer in DEMUXERS.items()}


def downloaded_path(folder: Path, youtube_id: str, ending: str, span: Span | None = None) -> Path:
    """Where a video lies, or a section of it: in one of 256 folders, by a hash of its id."""
    shelf = hashlib.sha256(youtube_id.encode()).hexdigest()[:2]
    # A section's name says nothing to `k710 index`, or it would take it for a whole video.
    part = "" if span is None else f".{span.start_s}-{span.end_s}"
    return folder / shelf / f"{youtube_id}{part}{ending}"


def found(folder: Path, youtube_id: str, span: Span | None = None) -> FetchedFile | None:
    """The video, or the section, if it is in its place and can be opened."""
    for ending in _ENDINGS.values():
        path = downloaded_path(folder, youtube_id, ending, span)
        with contextlib.suppress(OSError, MediaError), _opened(path) as (_, starts_at_s):
            return _file(path, starts_at_s, span)
    return None


def put(made: Path, folder: Path, youtube_id: str, span: Span | None = None) -> FetchedFile:
    """Move what was made to its place, whole or not at all. MediaError where it is no video."""
    with _opened(made) as (ending, starts_at_s):
        target = downloaded_path(folder, youtube_id, ending, span)
    target.parent.mkdir(exist_ok=True)
    with made.open("rb") as file:
        os.fsync(file.fileno())
    made.replace(target)
    return _file(target, starts_at_s, span)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[str, float]]:
    """The ending for what the file is, and the time of its first frame, by its own stamps."""
    with open_video(str(path)) as (container, stream):
        ending = _ENDINGS[container.format.name.partition(",")[0]]
        yield ending, float((stream.start_time or 0) * time_base_of(stream))


def _file(path: Path, starts_at_s: float, span: Span | None) -> FetchedFile:
    if span is None:
        return FetchedFile(str(path), path.stat().st_size, 0.0, ())
    return FetchedFile(str(path), path.stat().st_size, round(starts_at_s, 6), span.clips)
