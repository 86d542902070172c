"""The frames of one window of a video at a constant rate, and how the window fared.

A window is a clip's `[start, end)` in seconds of the YouTube video. A *trimmed* file is that window
alone, a *whole* one the video; both begin with their first frame. Decoding starts at the keyframe
before the window. Times of showing decide, not places in the file.

Not covered: damage that the decoder does not notice. Broken H.264 mostly is; a few bytes may still
decode to something, and FFmpeg's HEVC decoder conceals a broken slice without a word.
"""

import contextlib
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import av.logging
from av.error import FFmpegError

from k710.errors import printable

__all__ = ["SLACK_S", "Cut", "Shown", "Window", "constant_rate", "decoder_log", "video_seconds"]

SLACK_S = 0.5
"""A file or a cut is as long as its window if it differs by no more than this."""

_MAX_FPS = 240
# Seeking goes by times of decoding in MP4: a frame or two later than asked, so try further back.
_SEEK_BACK_S = (0, 5, 60)
_MAX_WORDS = 200


@dataclass(frozen=True, slots=True)
class Window:
    """The part `[start_s, end_s)` of a video that is a clip, in whole seconds."""

    start_s: int
    end_s: int

    @property
    def seconds(self) -> int:
        return self.end_s - self.start_s


@dataclass(frozen=True, slots=True)
class Shown:
    """A decoded frame, and how many frames of the constant rate show it."""

    frame: Any
    times: int


@dataclass(slots=True)
class Cut:
    """A window being decoded. When `frames` has ended, `num_frames` and `damage` are final."""

    seconds: int  # of the window
    fps: Fraction
    num_frames: int = 0  # of the constant rate, from the window's start
    damage: str | None = None  # what the decoder or demuxer said, in its words
    beyond_s: int = 0  # go on that long after the window's end
    num_decoded: int = 0  # frames of the source
    at_end: bool = False  # no frame of the source was left

    @property
    def wanted_frames(self) -> int:
        """Frames of the constant rate after which there is no need to go on."""
        return round((self.seconds + self.beyond_s) * self.fps)

    @property
    def found_s(self) -> float:
        return float(self.num_frames / self.fps)

    def status(self) -> tuple[str, str | None, bool]:
        """(`ok`, `truncated`, `empty` or `damaged`; the reason in words; whether it is kept)."""
        if self.damage is not None:
            return "damaged", self.damage, False
        if self.num_frames == 0:
            return "empty", "nothing of the window is in the file", False
        if self.found_s >= self.seconds - SLACK_S:
            return "ok", None, True
        words = f"{self.found_s:.1f} of {self.seconds} s"
        return "truncated", words, self.found_s >= self.seconds / 2

    def frames(
        self, container: Any, stream: Any, log: list[Any], *, from_s: int | Fraction
    ) -> Iterator[Shown]:
        """The window's frames, `from_s` seconds after the file's first. Ends at the first damage.

        Of the source's frames each frame of the constant rate shows the one that is nearest before
        it, rounded as FFmpeg's fps filter does (near). A gap is filled with the frame before it.
        """
        last: Any = None
        last_slot = 0
        for frame, at in self._decoded(container, stream, log, from_s):
            slot = int((at * self.fps * 2 + 1) // 2)
            if last is not None and slot > max(last_slot, 0):
                yield from self._show(last, slot)
            last, last_slot = frame, slot
            if slot >= self.wanted_frames:
                return
        self.at_end = self.damage is None
        if last is None or not self.at_end:
            return
        duration = (last.duration or 0) * Fraction(stream.time_base)
        # The last frame is shown as long as it says, where that is believable.
        lasts = round(duration * self.fps) if 0 < duration <= 1 else 1
        if last_slot >= 0 or last_slot + lasts > 0:
            yield from self._show(last, last_slot + max(lasts, 1))

    def _show(self, frame: Any, until_slot: int) -> Iterator[Shown]:
        times = min(until_slot, self.wanted_frames) - self.num_frames
        if times > 0:
            self.num_frames += times
            yield Shown(frame, times)

    def _decoded(
        self, container: Any, stream: Any, log: list[Any], from_s: int | Fraction
    ) -> Iterator[tuple[Any, Fraction]]:
        """Frames from the keyframe before the window on, with their seconds after its start."""
        names = {stream.codec_context.name, container.format.name}
        try:
            for number, (frame, at) in enumerate(_from_keyframe(container, stream, from_s)):
                if number == 0 and from_s:
                    log.clear()  # of pictures that need what was before the keyframe
                if frame.is_corrupt:
                    self.damage = f"the picture at {float(at + from_s):.2f} s is corrupt"
                self._take_log(log, names)
                if self.damage is not None:
                    return
                self.num_decoded += 1
                yield frame, at
            self._take_log(log, names)
        except FFmpegError as error:
            self._take_log(log, names)
            self.damage = self.damage or _words(error.strerror or type(error).__name__)

    def _take_log(self, log: list[Any], names: set[str]) -> None:
        said = [message for _, name, message in log if name in names]
        log.clear()
        if said and self.damage is None:
            self.damage = _words(said[0])


def constant_rate(stream: Any) -> Fraction:
    """The source's own average rate in frames a second, as a fraction that H.264 can carry."""
    rate = stream.average_rate or stream.guessed_rate
    if not rate or not 0 < rate <= _MAX_FPS:
        rate = stream.guessed_rate if 0 < (stream.guessed_rate or 0) <= _MAX_FPS else Fraction(25)
    return Fraction(rate).limit_denominator(10_000)


def video_seconds(container: Any, stream: Any) -> float | None:
    """How long the file says that its pictures are; None where it does not say."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    if container.duration:
        start = (stream.start_time or 0) * Fraction(stream.time_base)
        return float(Fraction(container.duration, av.time_base) - max(start, Fraction(0)))
    return None


@contextlib.contextmanager
def decoder_log() -> Iterator[list[Any]]:
    """What FFmpeg logs as an error in this thread inside the block: (level, who, words) each."""
    before = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture(local=True) as log:
            yield log
    finally:
        av.logging.set_level(before)


def _from_keyframe(
    container: Any, stream: Any, from_s: int | Fraction
) -> Iterator[tuple[Any, Fraction]]:
    """Frames with their seconds after the window's start, the first not after it if there is one.

    Pictures that are shown before the keyframe that was sought need others before it: left out.
    """
    time_base = Fraction(stream.time_base)
    base = stream.start_time or 0
    if container.format.name == "avi":  # has no times of showing: frames are counted
        step = 1 / constant_rate(stream)
        for number, frame in enumerate(container.decode(stream)):
            yield frame, number * step - from_s
        return
    if not from_s:
        frames = _timed(container, stream, first_s=None)
        for frame, at in frames:
            yield frame, at
        return
    start = base * time_base + from_s
    for back_s in _SEEK_BACK_S:
        container.seek(max(base, int((start - back_s) / time_base)), stream=stream, backward=True)
        frames = _timed(container, stream, first_s=start)
        first = next(frames, None)
        if first is not None and first[1] <= 0:
            break
    else:
        container.seek(base, stream=stream, backward=True)
        frames = _timed(container, stream, first_s=start)
        first = next(frames, None)
    if first is not None:
        yield from itertools.chain([first], frames)


def _timed(
    container: Any, stream: Any, *, first_s: Fraction | None
) -> Iterator[tuple[Any, Fraction]]:
    """Frames from here on, with their seconds after `first_s` (None: after the first frame).

    A frame without a time, or with one that goes back, is taken to follow at the constant rate.
    """
    time_base = Fraction(stream.time_base)
    step = 1 / constant_rate(stream)
    is_sought, leads_before = first_s is not None, -math.inf
    last: Fraction | None = None
    for packet in container.demux(stream):
        if is_sought and packet.is_keyframe and packet.pts is not None:
            leads_before, is_sought = packet.pts, False
        for frame in packet.decode():
            if frame.pts is not None and frame.pts < leads_before:
                continue
            at = None if frame.pts is None else frame.pts * time_base
            if at is None or (last is not None and at <= last):
                at = step + last if last is not None else (first_s or Fraction(0))
            if first_s is None:
                first_s = at
            last = at
            yield frame, at - first_s


def _words(message: str) -> str:
    return printable(message.strip().rstrip("."))[:_MAX_WORDS]
