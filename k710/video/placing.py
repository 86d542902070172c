"""Where a clip's window lies in a file, by the packets: `index --probe` and `shard` ask here alone.

Zero is the container's start, as for players, for ffmpeg's -ss and for those who made the lists:
pictures that begin two seconds after the sound are shown from two seconds on. All that is said of
length is of the pictures: sound that goes on, and a header without a length (what is written to a
pipe has none), decide nothing.

In a trimmed file a lead of up to half a second counts for nothing, and its first picture is the
clip's: tools that cut without encoding leave so much before it (sound that AAC needs to get in
tune, frames that B-frames delay), and shifted by it the clip would begin with a picture that stands
still.
"""

import contextlib
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from statistics import median_high

import av
from av import VideoStream
from av.error import FFmpegError

from k710.video.container import fault_words
from k710.video.cut import SLACK_S, Window
from k710.video.decoding import DecoderLog
from k710.video.streams import (
    MAX_FPS,
    constant_rate,
    container_of,
    has_no_times,
    nominal_rates,
    seeks_exactly,
    take_alone,
    time_base_of,
    video_seconds,
)

__all__ = ["PictureTimes", "Placed", "is_window", "place_window"]

# A file may say by its own times which part of the video it is. What was a transport stream begins
# near 1.4 s for no reason: later times are believed. Those of MPEG-TS and FLV are not: their clock
# may be the server's, of a broadcast that was joined half-way.
_OWN_TIMES_FROM_S = 2
_WITH_OWN_TIMES = ("mov", "matroska")
# Pictures far apart have a hole between them, which is none of the rate's business: so many times
# as far as most, of some length, or so far.
_HOLE_STEPS = 5
_LEAST_HOLE_S = Fraction(1, 4)
_HOLE_S = 1
_FEW_STEPS = 5  # from picture to picture: fewer make no rate
# The container's rate counts if a window's is so near to it: below, where pictures were dropped or
# times jitter; hardly above, for a hole elsewhere lowers the container's average.
_NEAR_BELOW, _NEAR_ABOVE = Fraction(1, 10), Fraction(1, 50)
_COARSE = Fraction(1, 4)  # of a frame: times that are rounded by more are counted in frames
_SEEK_BACK_S = 1  # MP4 seeks by times of decoding


@dataclass(frozen=True, slots=True)
class Placed:
    """A window in an open file. Times are in seconds after its first picture."""

    trimmed: bool  # the file is the window alone
    begins_s: Fraction  # below 0: the pictures begin within the window
    fps: Fraction  # of the clip, unless the settings have one
    pictures_s: Fraction | None = None  # how long all pictures are, where they were read
    starts_at_s: float | None = None  # time in the video of the first picture, if the file says so
    mismatch: str | None = None  # why the file is not the window that it is named after


def is_window(seconds: float | Fraction, window: Window) -> bool:
    """Whether pictures of that length are the window alone rather than a whole video."""
    return abs(float(seconds) - window.seconds) <= SLACK_S


def place_window(
    stream: VideoStream,
    log: DecoderLog,
    window: Window,
    *,
    trimmed: bool | None,
    starts_at_s: float | None = None,
) -> Placed:
    """Find where `window` lies in a file of which nothing was read yet, and at what rate it is cut.

    Args:
        stream: The video stream of the open file, which must be opened anew to be decoded.
        log: A `decoder_log`.
        window: The clip's window, in the video.
        trimmed: Whether the file is named after the window; None: the length decides what it is.
        starts_at_s: Time in the video of the first picture of a section; 0 or None: a whole video.

    Returns:
        The place; with a `mismatch` where the file is named after the window, but longer.
    """
    pictures = PictureTimes(stream, log)
    if trimmed is False:
        return _placed_in_video(pictures, window, starts_at_s)
    pictures.read(until_s=window.seconds + Fraction(SLACK_S))
    seconds = pictures.seconds
    lengths = (seconds, pictures.lead_s + seconds)  # the file may be cut right, its pictures late
    if trimmed is None and not any(is_window(one, window) for one in lengths):
        return _placed_in_video(pictures, window, starts_at_s)
    mismatch = None
    if seconds > window.seconds + SLACK_S:
        own_start_s = pictures.own_start_s(window)
        if own_start_s is not None:
            placed = _placed_in_video(pictures, window, own_start_s)
            return replace(placed, starts_at_s=own_start_s)
        mismatch = (
            f"its pictures last {float(pictures.all_seconds()):.1f} s, and the window that it is "
            f"named after {window.seconds} s; name it ID.mp4 if it is the whole video"
        )
    fps = pictures.rate(Fraction(0), window.seconds)
    late_s = _in_frames(pictures.lead_s, pictures, fps)
    begins_s = Fraction(0) if pictures.lead_s <= SLACK_S else -late_s
    return Placed(True, begins_s, fps, pictures.seconds, mismatch=mismatch)


def _placed_in_video(pictures: "PictureTimes", window: Window, starts_at_s: float | None) -> Placed:
    if starts_at_s:
        begins_s = window.start_s - Fraction(starts_at_s)
        return Placed(False, begins_s, pictures.rate(begins_s, window.seconds))
    lead_s = pictures.lead_s
    fps = pictures.rate(window.start_s - lead_s, window.seconds)
    return Placed(False, window.start_s - _in_frames(lead_s, pictures, fps), fps)


def _in_frames(lead_s: Fraction, pictures: "PictureTimes", fps: Fraction) -> Fraction:
    """The lead of the sound as a whole number of frames, none if it is shorter than one.

    So ffmpeg's -ss takes the same picture as without the sound that AAC begins with to get in tune.
    """
    frames = lead_s * fps
    nearest = round(frames)
    # Times in Matroska are in milliseconds, and those of AVI in frames.
    off = (pictures.time_base + Fraction(1, av.time_base)) * fps
    return (nearest if abs(frames - nearest) <= off < _COARSE else math.floor(frames)) / fps


class PictureTimes:
    """When the pictures of a file are shown: its packets, read from the start on."""

    def __init__(self, stream: VideoStream, log: DecoderLog) -> None:
        self.stream, self.log = stream, log
        self.container, self.time_base = container_of(stream), time_base_of(stream)
        self.times: list[int] = []  # in the stream's time base
        self.end = 0  # of what was read
        self.broken: str | None = None  # why there may be more than were read
        self.is_counted = has_no_times(self.container)
        take_alone(stream)
        log.clear()  # of what FFmpeg tried when it opened the file
        self._packets = self._shown()
        head = next(self._packets, None)
        self.first = stream.start_time or 0
        if head is not None:
            self._packets = itertools.chain([head], self._packets)
            self.first = head[0] if self.is_counted else self.first

    @property
    def lead_s(self) -> Fraction:
        """How long after the container's start the first picture is shown, in seconds."""
        start = self.container.start_time
        if start is None:
            return Fraction(0)
        return max(Fraction(0), self.first * self.time_base - Fraction(start, av.time_base))

    @property
    def read_s(self) -> Fraction:
        """How long the pictures are that were read."""
        return max(Fraction(0), (self.end - self.first) * self.time_base)

    @property
    def seconds(self) -> Fraction:
        """How long the pictures are that were read; of a broken file as long as its header says."""
        said = video_seconds(self.stream) if self.broken else None
        return max(self.read_s, Fraction(said or 0))

    def all_seconds(self) -> Fraction:
        """How long all pictures are."""
        self.read(until_s=None)
        return self.seconds

    def own_start_s(self, window: Window) -> float | None:
        """The time of the first picture, if it may be that in the video: the window is in it.

        The file's start tells, not the picture's: the pictures of a whole video may come late.
        """
        begins_s = Fraction(self.container.start_time or 0, av.time_base)
        start_s = self.first * self.time_base
        is_told = self.container.format.name.partition(",")[0] in _WITH_OWN_TIMES
        if not is_told or begins_s < _OWN_TIMES_FROM_S or start_s > window.start_s + SLACK_S:
            return None
        is_inside = start_s + self.all_seconds() >= window.end_s - SLACK_S
        return float(start_s) if is_inside else None

    def read(self, *, until_s: Fraction | None) -> None:
        """Go on until a picture is shown that long after the first one; None: to the end."""
        for at, end, _ in self._packets:
            self.times.append(at)
            self.end = max(self.end, end)
            if until_s is not None and (end - self.first) * self.time_base > until_s:
                return
        complaint = (what for _, name, what in self.log if name == self.container.format.name)
        self.broken = self.broken or next(complaint, None)

    def rate(self, begins_s: Fraction, seconds: int) -> Fraction:
        """The rate of a clip of that part: the container's, unless the pictures there differ.

        A hole lowers the container's average, and counts for nothing in the part itself.
        """
        rate = constant_rate(self.stream)
        first = self.first + begins_s / self.time_base
        last = first + seconds / self.time_base
        if self.is_counted or begins_s <= 0 or not seeks_exactly(self.container):
            self.read(until_s=begins_s + seconds + _HOLE_S)  # pictures lie in another order
            times = self.times
        else:
            times = self._times_from(first, last)
        shown = sorted({at for at in times if first <= at < last})
        found = _rate_without_holes(
            [(b - a) * self.time_base for a, b in itertools.pairwise(shown)]
        )
        if found is None or (1 - _NEAR_BELOW) * rate <= found <= (1 + _NEAR_ABOVE) * rate:
            return rate
        return _nominal(found, self.stream)

    def _times_from(self, first: Fraction, last: Fraction) -> list[int]:
        times = []
        with contextlib.suppress(FFmpegError):
            target = max(self.first, int(first - _SEEK_BACK_S / self.time_base))
            self.container.seek(target, stream=self.stream, backward=True)
            for at, _, decoded_at in self._shown():
                times.append(at)
                if decoded_at >= last:
                    break
        return times

    def _shown(self) -> Iterator[tuple[int, int, int]]:
        """When each picture is shown, until when, and when it is decoded, in the file's order."""
        step = round(1 / (constant_rate(self.stream) * self.time_base))
        last: int | None = None
        try:
            for packet in self.container.demux(self.stream):
                if not packet.size or packet.is_discard:
                    continue
                if last is None and packet.pts is None:
                    self.is_counted = True
                at = packet.dts if self.is_counted else packet.pts
                if self.is_counted and (at is None or (last is not None and at <= last)):
                    at = 0 if last is None else last + step
                if at is not None:
                    last = at
                    decoded_at = at if packet.dts is None else packet.dts
                    yield at, at + (packet.duration or step), decoded_at
        except FFmpegError as error:
            self.broken = fault_words(error)


def _rate_without_holes(steps: list[Fraction]) -> Fraction | None:
    """The rate of pictures so many seconds apart; None where that is no rate of a video."""
    steps = [step for step in steps if step <= _HOLE_S]
    if len(steps) < _FEW_STEPS:
        return None
    hole_s = max(_LEAST_HOLE_S, _HOLE_STEPS * median_high(steps))
    steps = [step for step in steps if step <= hole_s]
    found = len(steps) / sum(steps, Fraction(0))
    return found if 1 <= found <= MAX_FPS else None


def _nominal(rate: Fraction, stream: VideoStream) -> Fraction:
    """The rate that was meant, where times are rounded: the container has it, or it is usual."""
    whole, ntsc = round(rate), round(rate * 1001 / 1000)
    for known, share in (
        *((known, Fraction(1, 50)) for known in nominal_rates(stream)),
        *((usual, Fraction(1, 2500)) for usual in (Fraction(whole), Fraction(ntsc * 1000, 1001))),
    ):
        if abs(rate - known) <= share * known:
            return known
    return rate.limit_denominator(1000)
