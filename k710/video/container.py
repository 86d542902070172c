"""A video file that is open: the demuxers that may open it, and which of its streams is the video.

In: a path, bytes, or a file. Out: PyAV's container and a stream. What goes wrong is a MediaError.
"""

import contextlib
import errno
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import av
import av.error
from av import VideoStream
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition

from k710.errors import MediaError, printable
from k710.video.formats import DEMUXERS
from k710.video.recognise import what_it_seems

__all__ = ["UnreadableVideo", "fault_words", "name_of", "open_video"]

_OPTIONS = {"format_whitelist": ",".join(DEMUXERS), "protocol_whitelist": "file"}
_OPENED = ", ".join(
    "mkv, webm" if name == "matroska" else one.endings[0][1:] for name, one in DEMUXERS.items()
)
# The ffmpeg program's weight of a stream's default flag, against its pixels.
_DEFAULT_PX = 5_000_000
_NO_VIDEO = Disposition.attached_pic | Disposition.timed_thumbnails
# A track with fewer pictures than a tenth of another's is a cover or a slide show.
_STILL = 10
_ENOUGH = 5 * _STILL  # packets of one stream that tell what the others are


class UnreadableVideo(MediaError):
    """A file that can't be opened or decoded; `words` say why, without the file's name."""

    def __init__(self, name: str, words: str) -> None:
        super().__init__(f"{name} can't be decoded: {words}.")
        self.words = words


@contextlib.contextmanager
def open_video(
    source: str | Path | bytes | BinaryIO, *, probe: bool = True
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The `av` container and its video stream, decoded by one thread; closed at the end.

    `source` is a path, a whole file as bytes, or an open binary file, which stays open. Only what
    is in `k710.video.formats` is opened, whatever the name says, and no other file than `source`.
    Without `probe` an MP4 in memory is opened without decoding: rates and pixel format may be
    unknown then. What FFmpeg says against it, inside the block too, is an UnreadableVideo.

    Of several video streams it is the one that the ffmpeg program takes: that of most pixels, where
    the default flag counts as five million; of those alone that are no cover, thumbnails or still
    picture, flagged as such or not, and that FFmpeg has a decoder for.
    """
    name = name_of(source)
    is_open = False
    try:
        with _open(source, probe=probe) as container:
            is_open = True
            chosen = _choose(container, name)
            if chosen is not None:
                yield container, chosen
                return
            index = _choose_by_packets(container)
        with _open(source, probe=probe) as container:  # of which nothing is read yet
            yield container, _single_threaded(container, index)
    except FFmpegError as error:
        words = fault_words(error)
        seems = None if is_open else what_it_seems(source)
        # FFmpeg knows what it is then, and may not open it.
        is_refused = not is_open and error.errno == errno.EINVAL
        if is_refused and seems is None:
            words = (
                f"it is broken, or in a format that k710 does not open (it opens {_OPENED}): "
                "convert it with ffmpeg to .mp4"
            )
        if seems is not None:
            words = f"{'' if is_refused else f'{words}: '}it seems to be {seems}"
        raise UnreadableVideo(name, words) from error


def name_of(source: str | Path | bytes | BinaryIO) -> str:
    """What messages call the source."""
    if isinstance(source, (str, Path)):
        return printable(str(source))
    name = getattr(source, "name", None)
    return printable(name) if isinstance(name, str) else "the video"


def fault_words(error: FFmpegError) -> str:
    """What FFmpeg says, in words that say something."""
    words = printable(error.strerror or type(error).__name__)
    if error.errno == errno.EINVAL:
        return f"its data make no sense to FFmpeg ({words})"
    return words


def _open(source: str | Path | bytes | BinaryIO, *, probe: bool) -> InputContainer:
    file: object = source
    kind = None
    options = dict(_OPTIONS)
    if isinstance(source, bytes):
        file = io.BytesIO(source)  # shares the bytes
        # FFmpeg asks each of its formats, which takes it longer than to decode a small clip.
        kind = "mp4" if source[4:8] == b"ftyp" else None
        if kind and not probe:  # it would decode a frame, to tell what the decoder tells anyway
            options |= {"codec_whitelist": "none", "probesize": "32"}
    elif isinstance(source, (str, Path)):
        file = f"file:{source}"  # never a protocol: there are videos called concat:a|b.mp4
    else:
        source.seek(0)
    # Titles are in any encoding, and nobody reads them.
    return av.open(file, "r", kind, options=options, metadata_errors="replace")


def _choose(container: InputContainer, name: str) -> VideoStream | None:
    """The video stream; None where only packets can tell. MediaError where there is none."""
    streams = [one for one in container.streams.video if not one.disposition & _NO_VIDEO]
    if not streams:
        raise MediaError(f"{name} has no video in it.")
    if not any(one.codec_context for one in streams):
        raise UnreadableVideo(name, "FFmpeg knows no decoder for it")
    if len(streams) > 1 and not all(one.frames for one in streams):
        return None
    return _single_threaded(container, _best(streams, [one.frames for one in streams]))


def _choose_by_packets(container: InputContainer) -> int:
    """The number of the video stream in a container whose header doesn't count pictures."""
    streams = [one for one in container.streams.video if not one.disposition & _NO_VIDEO]
    places = {one.index: place for place, one in enumerate(streams)}
    counts = [0] * len(streams)
    with contextlib.suppress(FFmpegError):  # what was there before the damage tells
        for packet in container.demux(streams):
            counts[places[packet.stream_index]] += packet.size > 0
            if max(counts) >= _ENOUGH:
                break
    return _best(streams, counts)


def _best(streams: Sequence[VideoStream], counts: Sequence[int]) -> int:
    """The number of the stream that the ffmpeg program takes, of those that move."""
    most = max(counts)

    def rank(place: int) -> tuple[bool, bool, int, int]:
        one, count = streams[place], counts[place]
        moves = count * _STILL >= most and (count > 1 or most <= 1)
        if one.codec_context is None:
            return False, moves, 0, -place
        pixels = one.codec_context.width * one.codec_context.height
        is_default = Disposition.default in one.disposition
        return True, moves, pixels + _DEFAULT_PX * is_default, -place

    return streams[max(range(len(streams)), key=rank)].index


def _single_threaded(container: InputContainer, index: int) -> VideoStream:
    stream = container.streams[index]
    assert isinstance(stream, VideoStream)
    stream.codec_context.thread_type = "NONE"
    stream.codec_context.thread_count = 1
    return stream
