"""The frames of one window of a video at a constant rate, and how the window fared.

A window is a clip's `[start, end)` in seconds of the YouTube video; where it lies in a file is told
by `k710.video.placing`. Decoding starts at the keyframe before the window. Times of showing decide,
not places in the file.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from av import VideoFrame, VideoStream

from k710.statuses import Status
from k710.video.decoding import DecoderLog, Decoding
from k710.video.streams import time_base_of
from k710.video.upright import NO_TURN, Turn, turn_of

__all__ = ["SLACK_S", "Cut", "Shown", "Window", "is_enough"]

SLACK_S = 0.5
"""A file or a cut is as long as its window if it differs by no more than this."""


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

    frame: VideoFrame
    times: int


@dataclass(slots=True)
class Cut:
    """A window being decoded. When `frames` has ended, the other fields are final."""

    seconds: int  # of the window
    fps: Fraction
    num_frames: int = 0  # of the constant rate, from the window's start
    damage: str | None = None  # what the decoder or demuxer said, in its words
    beyond_s: int = 0  # go on that long after the window's end; damage there is none of the cut
    late_s: Fraction = Fraction(0)  # of the window, before the first frame
    changes_size: bool = False  # not all frames have the size of the first
    turn: Turn = NO_TURN  # what makes the frames upright: the first that is decoded says it for all
    num_decoded: int = 0  # frames of the source
    at_end: bool = False  # no frame of the source was left
    is_clean: bool = True  # nothing was left out or complained of, after the window neither
    starts_at: Fraction = Fraction(0)  # on the container's clock, in seconds

    @property
    def wanted_frames(self) -> int:
        """Frames of the constant rate after which there is no need to go on."""
        return round((self.seconds + self.beyond_s - self.late_s) * self.fps)

    def status(self) -> tuple[Status, str | None, bool]:
        """(`ok`, `truncated`, `empty` or `damaged`; the reason in words; whether it is kept)."""
        if self.damage is not None:
            return Status.DAMAGED, self.damage, False
        if self.num_frames == 0:
            return Status.EMPTY, "nothing of the window is in the file", False
        of_window = round((self.seconds - self.late_s) * self.fps)
        found_s = min(self.num_frames, of_window) / self.fps
        if found_s >= self.seconds - Fraction(SLACK_S):
            return Status.OK, None, True
        words = f"{float(found_s):.1f} of {self.seconds} s"
        return Status.TRUNCATED, words, is_enough(found_s, self.seconds)

    def frames(
        self, stream: VideoStream, log: DecoderLog, *, from_s: int | Fraction
    ) -> Iterator[Shown]:
        """The window's frames, `from_s` seconds after the file's first. Ends at the first damage.

        Where `from_s` is below 0, what is before the first frame is missing. Nothing may have been
        read of the stream's file before, which gives this stream alone from now on. `log` is a
        `decoder_log`.

        Of the source's frames each frame of the constant rate shows the one that is nearest before
        it, rounded as FFmpeg's fps filter does (near). A gap is filled with the frame before it.
        """
        self.late_s = Fraction(max(0, -from_s))
        decoding = Decoding(stream, log, self.seconds - self.late_s, max(0, from_s))
        last: VideoFrame | None = None
        last_slot = 0
        size: tuple[int, int] | None = None
        for frame, at in decoding.frames():
            if self.num_decoded == 0:
                self.turn = turn_of(frame)
            self.num_decoded += 1
            size = size or (frame.width, frame.height)
            self.changes_size |= size != (frame.width, frame.height)
            self.starts_at = decoding.zero
            slot = self._slot(at)
            if last is not None and slot > max(last_slot, 0):
                yield from self._show(last, slot)
            last, last_slot = frame, slot
            if slot >= self.wanted_frames:
                self.is_clean = decoding.is_clean
                return
        self.is_clean = decoding.is_clean
        self.at_end = decoding.late is None and decoding.fault is None and decoding.broken is None
        self.damage = decoding.fault
        if last is not None and self.damage is None:
            until = last_slot + _num_shown(last, stream, self.fps)
            if decoding.late is not None:  # a frame is there, if a broken one
                until = max(until, self._slot(decoding.late))
            if until > 0:
                yield from self._show(last, until)
        if self.num_frames < round((self.seconds - self.late_s) * self.fps):
            self.damage = self.damage or decoding.broken

    def _slot(self, at: Fraction) -> int:
        return int((at * self.fps * 2 + 1) // 2)

    def _show(self, frame: VideoFrame, until_slot: int) -> Iterator[Shown]:
        times = min(until_slot, self.wanted_frames) - self.num_frames
        if times > 0:
            self.num_frames += times
            yield Shown(frame, times)


def is_enough(found_s: float | Fraction | None, seconds: int) -> bool:
    """Whether a clip is kept of whose window of so many seconds only `found_s` are there: half."""
    return found_s is not None and found_s * 2 >= seconds


def _num_shown(frame: VideoFrame, stream: VideoStream, fps: Fraction) -> int:
    """For how many frames of the constant rate the source's last frame is shown."""
    seconds = (frame.duration or 0) * time_base_of(stream)
    # As long as it says, where that is believable.
    return max(1, round(seconds * fps)) if 0 < seconds <= 1 else 1
