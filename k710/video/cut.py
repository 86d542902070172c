"""The frames of one window of a video at a constant rate, and how the window fared.

A window is a clip's `[start, end)` in seconds of the YouTube video; where it lies in a file is told
by `k710.video.placing`. Decoding starts at the keyframe before the window. Times of showing decide,
not places in the file.

Not covered: damage that the decoder does not notice. Broken H.264 mostly is; a few bytes may still
decode to something, and FFmpeg's decoders of HEVC, VP8 and VP9 fill in most without a word.
"""

import contextlib
import itertools
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

import av
import av.logging
from av import VideoFrame, VideoStream
from av.error import FFmpegError

from k710.errors import printable
from k710.statuses import Status
from k710.video.container import fault_words
from k710.video.streams import (
    VideoPacket,
    constant_rate,
    container_of,
    has_no_times,
    take_alone,
    time_base_of,
)

__all__ = [
    "SLACK_S",
    "Cut",
    "DecoderLog",
    "Shown",
    "Window",
    "decoder_log",
    "is_enough",
]

DecoderLog: TypeAlias = list[tuple[int, str, str]]
"""What FFmpeg logged: (level, who, words) each."""

SLACK_S = 0.5
"""A file or a cut is as long as its window if it differs by no more than this."""

# Seeking goes by times of decoding in MP4: a frame or two later than asked, so try further back.
_SEEK_BACK_S = (0, 5, 60)
_MAX_WORDS = 200
# Stricter than FFmpeg's default, and as the standards are: H.264 without CABAC must end where its
# data do, and HEVC may carry checksums. Other decoders complain of sound files if they are strict.
_STRICT = {"h264": "aggressive", "hevc": "crccheck"}
# So many zeros in a packet of these codecs are a hole (a download that broke off): they never write
# them. Only in AVI there may be some between slices, and anywhere at the end.
_HOLE = bytes(16)
_HOLES_IN = ("h264", "hevc")
# A picture says that others can be forgotten, and they were left out before an open group.
_HARMLESS = "mmco:"
_MOST_LATE = 3  # frames that are shown between a packet's turn and its frame: where no times are


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
        decoding = _Decoding(stream, log, self.seconds - self.late_s, max(0, from_s))
        last: VideoFrame | None = None
        last_slot = 0
        size: tuple[int, int] | None = None
        for frame, at in decoding.frames():
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


@contextlib.contextmanager
def decoder_log() -> Iterator[DecoderLog]:
    """What FFmpeg logs as an error in this thread inside the block: (level, who, words) each."""
    before = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    # Or else a file is sound that complains in the words of the file before it.
    av.logging.set_skip_repeated(False)
    try:
        with av.logging.Capture(local=True) as log:
            yield log
    finally:
        av.logging.set_level(before[0])
        av.logging.set_skip_repeated(before[1])


class _Decoding:
    """A stream that is decoded from before a window on, and what went wrong of it.

    All times are in seconds after the window's start.
    """

    def __init__(
        self, stream: VideoStream, log: DecoderLog, seconds: Fraction, from_s: int | Fraction
    ) -> None:
        self.container, self.stream, self.log = container_of(stream), stream, log
        self.seconds, self.from_s = seconds, from_s
        self.codec: str = stream.codec_context.name
        self.time_base = time_base_of(stream)
        self.step = 1 / constant_rate(stream)
        self.is_counted = has_no_times(self.container)
        self.slack = Fraction(0)  # how far a time that `_due` gives may be off
        # A transport stream made of segments counts anew in each, and FFmpeg takes that for loss. The
        # decoder tells where some is.
        self.has_loose_flags = self.container.format.name == "mpegts"
        self.has_no_zeros = self.codec in _HOLES_IN and not self.is_counted
        self._reset()

    def _reset(self) -> None:
        self.fault: str | None = None  # in what the window needs
        self.late: Fraction | None = None  # when the first fault after the window is
        self.broken: str | None = None  # why there were no more packets
        self.is_clean = True  # no fault anywhere, and every picture came out
        self.zero = (self.stream.start_time or 0) * self.time_base + self.from_s
        self.last: Fraction | None = None  # time of the latest frame
        # What is shown before this keyframe needs what was before it in the file: left out.
        self.keyframe_at: Fraction | float = -math.inf
        self.turns: deque[Fraction] = deque()  # if counted: times of packets without frames yet
        self.num_turns = 0

    def frames(self) -> Iterator[tuple[VideoFrame, Fraction]]:
        """Frames and their times, the first not after 0 if there is one; until the first fault."""
        if self.codec in _STRICT:
            self.stream.codec_context.options = {"err_detect": _STRICT[self.codec]}
        take_alone(self.stream)
        self.log.clear()  # of what FFmpeg tried when it opened the file
        packets = self._packets(None)
        first = next(packets, None)
        self.is_counted = self.is_counted or first is None or first.pts is None
        self.slack = self.step * (_MOST_LATE if self.is_counted else 0)
        if self.is_counted or not self.from_s:
            yield from self._decode(itertools.chain([first], packets))
            return
        base = self.stream.start_time or 0
        for back_s in (*_SEEK_BACK_S, self.from_s):
            self._reset()
            target = int((self.zero - back_s) / self.time_base)
            frames = self._decode(self._packets(max(base, target)))
            frame, at = next(frames, (None, Fraction(0)))
            if target <= base or (self.fault is not None and back_s >= max(_SEEK_BACK_S)):
                break
            # There are files that call every frame a keyframe.
            if frame is not None and at <= 0 and frame.key_frame:
                break
        if frame is not None:
            yield frame, at
            yield from frames

    def _packets(self, seek_to: int | None) -> "Iterator[VideoPacket | None]":
        """Packets; None at an end that is none."""
        try:
            if seek_to is not None:
                self.container.seek(seek_to, stream=self.stream, backward=True)
            for packet in self.container.demux(self.stream):
                self.broken = self._take_complaint(self.container.format.name)
                if self.broken is not None:  # it may have left out more than it knows
                    break
                yield packet
        except FFmpegError as error:
            said = self._take_complaint(self.container.format.name)
            self.broken = said or _shorten(fault_words(error))
        if self.broken is not None:
            self.is_clean = False
            yield None

    def _decode(
        self, packets: "Iterator[VideoPacket | None]"
    ) -> Iterator[tuple[VideoFrame, Fraction]]:
        for number, packet in enumerate(packets):
            due = None if packet is None else self._due(packet)
            if number == 0 or self.fault is not None:
                self._begin_at_keyframe(packet, due, is_first=number == 0)
            for frame in self._decode_packet(packet, due):
                at = self._time_of(frame)
                if at is None:
                    self.is_clean = False
                    continue
                if frame.is_corrupt:
                    self._blame(f"the picture at {float(at + self.from_s):.2f} s is corrupt", at)
                if self.fault is not None and at > 0:
                    return
                yield frame, at
            if self.fault is not None and (due is None or due > 0):
                return

    def _due(self, packet: VideoPacket) -> Fraction | None:
        """When the packet's picture is shown, if it says so; nearly, if frames are counted."""
        if not self.is_counted:
            return None if packet.pts is None else packet.pts * self.time_base - self.zero
        if not packet.size:
            return None
        # AVI counts frames that are shown a second time.
        turn = self.num_turns * self.step if packet.dts is None else packet.dts * self.time_base
        if self.num_turns == 0:
            self.zero = turn + self.from_s
        self.num_turns += 1
        self.turns.append(turn - self.zero)
        return self.turns[-1]

    def _begin_at_keyframe(
        self, packet: "VideoPacket | None", due: Fraction | None, *, is_first: bool
    ) -> None:
        """At a keyframe not after the window's start, nothing before it matters any more."""
        if packet is None or not packet.is_keyframe or due is None:
            return
        if is_first or due + self.slack <= 0:
            self.fault = None
            self.keyframe_at = due

    def _decode_packet(
        self, packet: "VideoPacket | None", due: Fraction | None
    ) -> list[VideoFrame]:
        """The frames that come out when `packet` goes in. What goes wrong is noted."""
        leads = packet is not None and self._leads(packet, due)
        frames: list[VideoFrame] = []
        words = None
        try:
            if packet is None:
                return list(self.stream.codec_context.decode(None))
            if packet.is_corrupt and not self.has_loose_flags:
                words = "the file ends within a picture"
            elif self.has_no_zeros and _HOLE in bytes(packet).rstrip(b"\0"):
                words = "there are zeros in the file where a picture should be"
            frames = packet.decode()
        except FFmpegError as error:
            words = words or _shorten(fault_words(error))
            if self.turns:
                self.turns.pop()
        words = self._take_complaint(self.codec) or words
        if leads:  # what it needs is not there
            self.is_clean = self.is_clean and words is None
        elif words is not None:
            self._blame(words, due)
        elif self.late is not None and due is not None and due < self.seconds:
            self.fault = self.fault or "a picture that others need is broken"
        return frames

    def _leads(self, packet: VideoPacket, due: Fraction | None) -> bool:
        if self.is_counted or not packet.size or self.keyframe_at == -math.inf:
            return False
        return self.last is None if due is None else due < self.keyframe_at

    def _blame(self, words: str, at: Fraction | None) -> None:
        self.is_clean = False
        if at is not None and at - self.slack >= self.seconds:
            self.late = at if self.late is None else min(self.late, at)
        elif self.fault is None:
            self.fault = words

    def _take_complaint(self, who: str) -> str | None:
        """What the decoder or demuxer `who` complained of since the last time."""
        said = [message for _, name, message in self.log if name == who]
        self.log[:] = [entry for entry in self.log if entry[1] != who]
        self.is_clean = self.is_clean and not said
        said = [message for message in said if not message.startswith(_HARMLESS)]
        return _shorten(said[0]) if said else None

    def _time_of(self, frame: VideoFrame) -> Fraction | None:
        """The frame's time; None if it is to be left out.

        A frame without a time, or with one that goes back, is taken to follow at the constant rate.
        """
        at: Fraction | None = None
        if self.is_counted:
            at = self.turns.popleft() if self.turns else None
        elif frame.pts is not None:
            at = frame.pts * self.time_base - self.zero
        if at is None:
            if self.last is None:
                return None
        elif at < self.keyframe_at:
            return None
        if self.last is None:
            assert at is not None
            if not self.from_s:  # a file begins with its first frame, whatever its header says
                self.zero += at
                self.keyframe_at -= at
                at = Fraction(0)
        elif at is None or at <= self.last:
            at = self.last + self.step
        self.last = at
        return at


def _num_shown(frame: VideoFrame, stream: VideoStream, fps: Fraction) -> int:
    """For how many frames of the constant rate the source's last frame is shown."""
    seconds = (frame.duration or 0) * time_base_of(stream)
    # As long as it says, where that is believable.
    return max(1, round(seconds * fps)) if 0 < seconds <= 1 else 1


def _shorten(message: str) -> str:
    return printable(message.strip().rstrip("."))[:_MAX_WORDS]
