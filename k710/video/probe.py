"""What a copy of a clip is and whether it is sound, without encoding it."""

import hashlib
import os
from dataclasses import dataclass, replace

from av import VideoStream

from k710.errors import MediaError
from k710.statuses import Status
from k710.video.byte_range import ByteRange
from k710.video.container import UnreadableVideo, open_video
from k710.video.cut import SLACK_S, Cut, Window, is_enough
from k710.video.decoding import DecoderLog, decoder_log
from k710.video.formats import CAN_BE_COPIED
from k710.video.placing import PictureTimes, Placed, place_window
from k710.video.streams import container_of, video_seconds

__all__ = ["Facts", "Probed", "media_words", "place_in", "probe_clip"]

_BEYOND_S = 1  # a trimmed file may be nearly that much longer than its window


@dataclass(frozen=True, slots=True)
class Facts:
    """What a file says of its pictures: columns of sources.parquet. None: it doesn't say.

    `num_frames` is None too where not all that a reader of the file finds is as it should be: it is
    damaged after the window, lies on its side, changes its size. Such a file is never copied.
    """

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
    starts_at_s: float | None = None  # time in the video of the first picture, if the file says so

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


def probe_clip(
    source: ByteRange, window: Window, *, trimmed: bool | None, starts_at_s: float | None = None
) -> Probed:
    """What the copy at `source` of the clip `window` is: `ok`, `truncated`, `mismatched`, ...

    A file that is the window alone is decoded to its end; one that is named so and is longer is
    `mismatched`. Of a whole video only the packets are counted: `k710 shard` will decode what it
    needs. `trimmed` None is decided by the length of the pictures; `starts_at_s` is of a section.
    `missing` where the file can't be read.
    """
    try:
        if source.size_bytes() == 0:
            return Probed(Status.EMPTY, "the file has no bytes in it", trimmed, Facts())
        digest = hashlib.sha256()
        for chunk in source.chunks():
            digest.update(chunk)
        found = _look_into(source, window, trimmed, starts_at_s)
        return replace(found, sha256=digest.hexdigest())
    except OSError as error:
        words = f"can't be read: {error.strerror or type(error).__name__}"
        return Probed(Status.MISSING, words, trimmed, Facts())


def place_in(
    source: ByteRange, window: Window, *, trimmed: bool | None, starts_at_s: float | None
) -> tuple[Placed, Facts]:
    """Where the window lies in the file, and what that says. MediaError where it is no video."""
    with decoder_log() as log, source.opened() as file, open_video(file) as (_, stream):
        facts = _facts_of(stream)
        placed = place_window(stream, log, window, trimmed=trimmed, starts_at_s=starts_at_s)
    if placed.pictures_s is not None:
        facts = replace(facts, duration_s=round(float(placed.pictures_s), 6))
    fps = float(placed.fps)
    if placed.trimmed and abs((facts.fps or 0) - fps) > fps / 10:  # H.264 in AVI may have 600
        facts = replace(facts, fps=fps)
    return placed, facts


def _facts_of(stream: VideoStream) -> Facts:
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


def _look_into(
    source: ByteRange, window: Window, trimmed: bool | None, starts_at_s: float | None
) -> Probed:
    try:
        placed, facts = place_in(source, window, trimmed=trimmed, starts_at_s=starts_at_s)
        if placed.mismatch is not None:
            return Probed(Status.MISMATCHED, placed.mismatch, True, facts)
        with decoder_log() as log, source.opened() as file, open_video(file) as (_, stream):
            if placed.trimmed:
                return _decode(stream, log, facts, window, placed)
            return _count_packets(stream, log, facts, window, placed)
    except MediaError as error:
        return Probed(Status.DAMAGED, media_words(error), trimmed, Facts())


def _decode(
    stream: VideoStream, log: DecoderLog, facts: Facts, window: Window, placed: Placed
) -> Probed:
    """A file that is the window alone, decoded to its end."""
    cut = Cut(window.seconds, placed.fps, beyond_s=_BEYOND_S)
    for _ in cut.frames(stream, log, from_s=placed.begins_s):
        pass
    status, detail, _ = cut.status()
    kind = container_of(stream).format.name.partition(",")[0]
    is_plain = placed.begins_s == 0 and not cut.turn.filters
    num_frames = cut.num_decoded if cut.at_end else facts.num_frames
    if not (cut.is_clean and is_plain and not cut.changes_size and kind in CAN_BE_COPIED):
        num_frames = None
    return Probed(status, detail, True, replace(facts, num_frames=num_frames))


def _count_packets(
    stream: VideoStream, log: DecoderLog, facts: Facts, window: Window, placed: Placed
) -> Probed:
    """A whole video, its packets counted: is the window in it?"""
    pictures = PictureTimes(stream, log)
    pictures.read(until_s=None)
    broken, seconds, begins = pictures.broken, float(pictures.read_s), float(placed.begins_s)
    found = min(seconds, begins + window.seconds) - max(0.0, begins)
    if broken is None:
        facts = replace(facts, num_frames=len(pictures.times), duration_s=round(seconds, 6))
    elif found < window.seconds - SLACK_S:  # what is broken after the window does no harm
        return Probed(Status.DAMAGED, broken, False, facts)
    seen = Probed(Status.OK, None, False, facts, starts_at_s=placed.starts_at_s)
    if found <= 0:
        words = f"the video ends at {window.start_s - begins + seconds:.1f} s"
        return replace(seen, status=Status.EMPTY, detail=words)
    if found < window.seconds - SLACK_S:
        words = f"{found:.1f} of {window.seconds} s"
        return replace(seen, status=Status.TRUNCATED, detail=words)
    return seen


def media_words(error: MediaError) -> str:
    """What a MediaError says, without the file's name: that is in another column."""
    if isinstance(error, UnreadableVideo):
        return error.words
    text = str(error).rpartition(os.sep)[2].rstrip(".")
    return "there is no video in it" if text.endswith("has no video in it") else text
