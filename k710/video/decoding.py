"""The frames of a stream from before a window on, each with its time, and what went wrong of it.

Not covered: damage that the decoder does not notice. Broken H.264 mostly is; a few bytes may still
decode to something, and FFmpeg's decoders of HEVC, VP8 and VP9 fill in most without a word.
"""

import contextlib
import itertools
import math
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import TypeAlias

import av.logging
from av import VideoFrame, VideoStream
from av.error import FFmpegError

from k710.errors import printable
from k710.video.container import fault_words
from k710.video.streams import (
    VideoPacket,
    constant_rate,
    container_of,
    has_no_times,
    seeks_exactly,
    take_alone,
    time_base_of,
)

__all__ = ["DecoderLog", "Decoding", "decoder_log"]

DecoderLog: TypeAlias = list[tuple[int, str, str]]
"""What FFmpeg logged: (level, who, words) each."""

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
# Packets that wait for a keyframe to start from take no more than this.
_HELD_BYTES = 256 << 20


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


class Decoding:
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
        # A transport stream made of segments counts anew in each, and FFmpeg takes that for loss.
        # The decoder tells where some is.
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
        if not seeks_exactly(self.container):
            yield from self._decode(self._from_keyframe(itertools.chain([first], packets)))
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

    def _from_keyframe(
        self, packets: "Iterator[VideoPacket | None]"
    ) -> "Iterator[VideoPacket | None]":
        """Of all packets those from the last keyframe on that is shown before the window."""
        held: list[VideoPacket | None] = []
        num_bytes = 0
        for packet in packets:
            due = None if packet is None else self._due(packet)
            if packet is not None and packet.is_keyframe and due is not None and due <= 0:
                held, num_bytes = [], 0
            held.append(packet)
            num_bytes += packet.size if packet is not None else 0
            if num_bytes > _HELD_BYTES or (due is not None and due > 0):
                break
        yield from held
        held.clear()
        yield from packets

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


def _shorten(message: str) -> str:
    return printable(message.strip().rstrip("."))[:_MAX_WORDS]
