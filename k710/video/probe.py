"""What a copy of a clip is and whether it is sound, without encoding it."""

import hashlib
import os
from dataclasses import dataclass, replace
from fractions import Fraction

import av
from av import VideoStream

from k710.errors import MediaError
from k710.statuses import Status
from k710.video.byte_range import ByteRange
from k710.video.cut import SLACK_S, Cut, Window, decoder_log, is_enough
from k710.video.frames import open_video
from k710.video.streams import constant_rate, container_of, take_alone, time_base_of, video_seconds

__all__ = ["Facts", "Probed", "facts_of", "is_window", "probe_clip"]

_BEYOND_S = 1  # a trimmed file may be that much longer than its window and is decoded to its end


@dataclass(frozen=True, slots=True)
class Facts:
    """What a file says of its pictures: columns of sources.parquet. None: it doesn't say."""

    width: int | None = None  # px
    height: int | None = None  # px
    fps: float | None = None
    num_frames: int | None = None
    duration_s: float | None = None
    codec: str | None = None


@dataclass(frozen=True, slots=True)
class Probed:
    """A copy of a clip, looked into. `status` as in sources.parquet, `detail` says why."""

    status: Status
    detail: str | None
    trimmed: bool | None
    facts: Facts
    sha256: str | None = None  # of the file

    def is_kept(self, window: Window) -> bool:
        """Whether so much of the window is there that the clip goes into a shard."""
        return self.status == Status.OK or (
            self.status == Status.TRUNCATED and is_enough(self.facts.duration_s, window.seconds)
        )

    def can_be_copied(self, window: Window) -> bool:
        """Whether the file, if it is kept, may go in as it is: it's no longer than the window."""
        facts = self.facts
        is_known = None not in (facts.fps, facts.num_frames, facts.width, facts.height)
        seconds = facts.duration_s
        is_short = seconds is not None and seconds <= window.seconds + SLACK_S
        return bool(self.trimmed) and is_known and is_short


def probe_clip(source: ByteRange, window: Window, *, trimmed: bool | None) -> Probed:
    """What the copy at `source` of the clip `window` is: `ok`, `truncated`, `empty` or `damaged`.

    A file that holds the window alone is decoded to its end, or to that of the window if it is
    longer. Of a whole video only the packets are counted: `k710 shard` will decode what it needs.
    `trimmed` None is decided by the duration. `missing` where the file can't be read.
    """
    try:
        if source.size_bytes() == 0:
            return Probed(Status.EMPTY, "the file has no bytes in it", trimmed, Facts())
        digest = hashlib.sha256()
        for chunk in source.chunks():
            digest.update(chunk)
        found = _look_into(source, window, trimmed)
        return replace(found, sha256=digest.hexdigest())
    except OSError as error:
        words = f"can't be read: {error.strerror or type(error).__name__}"
        return Probed(Status.MISSING, words, trimmed, Facts())


def is_window(seconds: float | None, window: Window) -> bool:
    """Whether a file of that length is the window alone rather than a whole video."""
    return seconds is not None and abs(seconds - window.seconds) <= SLACK_S


def facts_of(stream: VideoStream) -> Facts:
    """The facts in the header of an open video; frames where the header counts them."""
    rate = stream.average_rate
    seconds = video_seconds(stream)
    return Facts(
        width=stream.codec_context.width or None,
        height=stream.codec_context.height or None,
        fps=float(rate) if rate else None,
        num_frames=stream.frames or None,
        duration_s=None if seconds is None else round(seconds, 6),
        codec=stream.codec_context.codec.canonical_name,
    )


def _look_into(source: ByteRange, window: Window, trimmed: bool | None) -> Probed:
    try:
        with (
            decoder_log() as log,
            source.opened() as file,
            open_video(file) as (_, stream),
        ):
            facts = facts_of(stream)
            if trimmed is None:
                trimmed = is_window(facts.duration_s, window)
            if not trimmed:
                return _count_packets(stream, facts, window)
            cut = Cut(window.seconds, constant_rate(stream), beyond_s=_BEYOND_S)
            for _ in cut.frames(stream, log, from_s=0):
                pass
            status, detail, _ = cut.status()
            if cut.at_end:
                facts = replace(facts, num_frames=cut.num_decoded)
            if not cut.is_clean:  # what the header counts does not all come out
                facts = replace(facts, num_frames=None)
            return Probed(status, detail, trimmed, facts)
    except MediaError as error:
        return Probed(Status.DAMAGED, media_words(error), trimmed, Facts())


def _count_packets(stream: VideoStream, facts: Facts, window: Window) -> Probed:
    """A whole video, its packets counted: is the window in it?"""
    num_frames, end, broken = 0, Fraction(0), None
    start = (stream.start_time or 0) * time_base_of(stream)
    take_alone(stream)
    try:
        for packet in container_of(stream).demux(stream):
            if packet.size:
                num_frames += 1
                if packet.pts is not None:
                    last = packet.pts + (packet.duration or 0)
                    end = max(end, last * time_base_of(stream) - start)
    except av.error.FFmpegError as error:
        broken = error.strerror
    seconds = float(end) or facts.duration_s or 0.0
    found = min(seconds, window.end_s) - window.start_s
    if broken is None:
        facts = replace(facts, num_frames=num_frames, duration_s=round(seconds, 6))
    elif found < window.seconds - SLACK_S:  # what is broken after the window does no harm
        return Probed(Status.DAMAGED, broken, False, facts)
    if found <= 0:
        return Probed(Status.EMPTY, f"the video ends at {seconds:.1f} s", False, facts)
    if found < window.seconds - SLACK_S:
        words = f"{found:.1f} of {window.seconds} s"
        return Probed(Status.TRUNCATED, words, False, facts)
    return Probed(Status.OK, None, False, facts)


def media_words(error: MediaError) -> str:
    """What a MediaError says, without the file's name: that is in another column."""
    cause = error.__cause__
    if isinstance(cause, av.error.FFmpegError) and cause.strerror:
        return str(cause.strerror)
    text = str(error).rpartition(os.sep)[2].rstrip(".")
    return "there is no video in it" if text.endswith("has no video in it") else text
