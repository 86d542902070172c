"""One window of a video as an MP4 of its own: cut, turned upright, scaled, at a constant rate.

The bytes depend on the source, the settings, and the versions of PyAV and of the libraries in it:
one thread, and a scaler that rounds alike on every processor.

Pixels that aren't square stay so, with their shape noted in the MP4; no reader of ours minds it.

Not covered: deinterlacing; HDR to SDR; rotation by other than quarter turns. Sound is computed with
fractions: where the processor has other vector instructions, its bytes may differ.
"""

import contextlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

import av
import av.error
import numpy as np
import numpy.typing as npt
from av import AudioFrame, AudioStream, Packet, VideoFrame, VideoStream
from av.filter import Graph
from av.stream import Disposition, Stream

from k710.video.cut import Cut, Window
from k710.video.decoding import DecoderLog
from k710.video.profiles import Colour, add_stream, profile_of
from k710.video.streams import constant_rate, container_of, take_alone
from k710.video.upright import Turn

__all__ = [
    "Encoded",
    "Encoding",
    "bytes_per_second",
    "encode_window",
    "encoder_versions",
    "scaled_size",
]

_SCALER = "bicubic+accurate_rnd+full_chroma_int+bitexact"
_AUDIO_RATE = 48_000
# Times in Matroska are in milliseconds: a gap is one only from here on.
_AUDIO_JITTER = _AUDIO_RATE // 20
_AUDIO_CHUNK = 1024  # samples of an AAC frame
_FULL_RANGE = 2
_REFERENCE_PX = 320  # of a profile's bytes per second


@dataclass(frozen=True, slots=True)
class Encoding:
    """How clips are made. Shards of one work directory are all made alike."""

    profile: str = "balanced"
    short_side: int = 320  # px; smaller sources keep their size
    fps: Fraction | None = None  # None: that of each source, in its window
    audio: bool = False

    def __post_init__(self) -> None:
        profile_of(self.profile)
        if not 16 <= self.short_side <= 4320:
            raise ValueError(f"short_side must be from 16 to 4320, and is {self.short_side}")
        if self.fps is not None and not 1 <= self.fps <= 240:
            raise ValueError(f"fps must be from 1 to 240, and is {self.fps}")

    def params(self) -> dict[str, Any]:
        """The settings as plain values, fit for JSON."""
        return {
            "profile": self.profile,
            "short_side": self.short_side,
            "fps": None if self.fps is None else str(self.fps),
            "audio": self.audio,
        }


def bytes_per_second(encoding: Encoding) -> float:
    """What a second of a clip takes in its shard, about."""
    per_second: float = profile_of(encoding.profile).bytes_per_second_at_320
    # Bytes grow about as the 1.5th power of the side: detail doesn't grow with the area.
    scaled: float = per_second * (encoding.short_side / _REFERENCE_PX) ** 1.5
    return scaled


@dataclass(frozen=True, slots=True)
class Encoded:
    """A clip as it goes into a shard: the bytes of an MP4, and what a reader wants to know."""

    data: bytes
    num_frames: int
    fps: float
    width: int  # px
    height: int  # px
    gop: int  # the most frames from one keyframe to the next

    @property
    def duration_s(self) -> float:
        return self.num_frames / self.fps


def encoder_versions() -> dict[str, str]:
    """What decides the bytes beside source and settings: PyAV, and FFmpeg and x264 in it."""
    libraries = {
        name: ".".join(map(str, number))
        for name, number in sorted(av.library_versions.items())
        if name in ("libavcodec", "libavfilter", "libavformat", "libswscale", "libswresample")
    }
    return {"av": av.__version__, **libraries, "x264": _x264_version()}


@cache
def _x264_version() -> str:
    # It tells nobody but those who read the first picture.
    codec = av.CodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt = 16, 16, "yuv420p"
    codec.time_base, codec.thread_count = Fraction(1, 25), 1
    frame = av.VideoFrame(16, 16, "yuv420p")
    frame.pts = 0
    data = b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)])
    found = re.search(rb"x264 - core (\d+(?: r\w+)?)", data)
    return found[1].decode() if found else "unknown"


def scaled_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """(width, height) at that short side: never larger than before, even, in proportion."""
    if min(width, height) <= short_side:  # at most the odd row goes
        return max(2, width // 2 * 2), max(2, height // 2 * 2)
    short = short_side // 2 * 2
    long = round(max(width, height) * short / min(width, height) / 2) * 2
    return (short, long) if width <= height else (long, short)


def encode_window(
    stream: VideoStream,
    log: DecoderLog,
    window: Window,
    encoding: Encoding,
    *,
    from_s: int | Fraction,
    fps: Fraction | None = None,
) -> tuple[Cut, Encoded | None]:
    """Encode the window that begins `from_s` seconds after the first frame of `stream`.

    Nothing may have been read of the open video before; `log` is a `decoder_log`. `fps` is the
    clip's rate where the settings have none; None: that of the container. None comes back where the
    cut is not kept. Sound is taken only where the source has some in the window, and is then as
    long as the pictures.
    """
    cut = Cut(window.seconds, encoding.fps or fps or constant_rate(stream))
    video = _Video(encoding, cut, stream.sample_aspect_ratio)
    try:
        for shown in cut.frames(stream, log, from_s=from_s):
            video.add(shown.frame, shown.times)
        if not cut.status()[2]:
            return cut, None
        sound = _read_sound(stream, cut) if encoding.audio else None
        return cut, video.finish(sound)
    finally:
        video.close()


class _Video:
    """An MP4 in memory that grows by frames."""

    def __init__(self, encoding: Encoding, cut: Cut, shape: Fraction | None) -> None:
        self.encoding = encoding
        self.cut = cut
        self.fps = cut.fps
        self.shape = shape  # width of the source's pixels by their height, if it says so
        self.file = io.BytesIO()
        # bitexact: no version of the muxer in the file.
        options = {"fflags": "+bitexact"}
        self.container = av.open(self.file, "w", format="mp4", options=options)
        self.stream: VideoStream | None = None
        self.size = (0, 0)
        self.num_frames = 0
        self.keyframes: list[int] = []  # in units of frames
        self.pending: list[Packet[Stream]] = []  # packets, until it is known whether there is sound
        # What frames look like, and their graph.
        self.converter: tuple[object, Graph | None] | None = None

    def add(self, frame: VideoFrame, times: int) -> None:
        source, frame = frame, self._convert(frame)
        if self.stream is None:
            self.stream = self._add_stream(frame, source)
        for _ in range(times):
            frame.pts, frame.time_base = self.num_frames, 1 / self.fps
            frame.pict_type = 0  # the source's keyframes are not the clip's
            self._take(self.stream.encode(frame))
            self.num_frames += 1

    def finish(self, sound: npt.NDArray[np.float32] | None) -> Encoded:
        assert self.stream is not None  # a cut that is kept has frames
        self._take(self.stream.encode(None))
        packets = [] if sound is None else list(self._encode_sound(sound))
        for packet in [*self.pending, *packets]:
            self.container.mux(packet)
        self.container.close()
        ends = [*self.keyframes[1:], self.num_frames]
        gop = max(end - start for start, end in zip(self.keyframes, ends, strict=True))
        return Encoded(self.file.getvalue(), self.num_frames, float(self.fps), *self.size, gop=gop)

    def close(self) -> None:
        """Free the encoder now: it is large, and in a cycle that Python finds when it likes."""
        self.container.close()
        self.stream = None
        self.pending.clear()

    def _add_stream(self, frame: VideoFrame, source: VideoFrame) -> VideoStream:
        self.size = (frame.width, frame.height)
        colour = Colour(frame.color_primaries, frame.color_trc, frame.colorspace, range=1)
        profile = profile_of(self.encoding.profile)
        stream = add_stream(self.container, profile, size=self.size, fps=self.fps, colour=colour)
        shape = _pixel_shape(self.shape, source, self.cut.turn, self.size)
        if shape is not None:
            stream.codec_context.sample_aspect_ratio = shape
        return stream

    def _take(self, packets: "list[Packet[Stream]]") -> None:
        for packet in packets:
            if packet.is_keyframe:
                assert packet.pts is not None
                self.keyframes.append(round(packet.pts * packet.time_base * self.fps))
            self.pending.append(packet)

    def _encode_sound(self, sound: npt.NDArray[np.float32]) -> "Iterator[Packet[Stream]]":
        stream = self.container.add_stream("aac", rate=_AUDIO_RATE, layout="stereo")
        stream.codec_context.thread_count = 1
        for start in range(0, sound.shape[1], _AUDIO_CHUNK):
            part = np.ascontiguousarray(sound[:, start : start + _AUDIO_CHUNK])
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="stereo")
            frame.sample_rate = _AUDIO_RATE
            frame.pts, frame.time_base = start, Fraction(1, _AUDIO_RATE)
            yield from stream.encode(frame)
        yield from stream.encode(None)

    def _convert(self, frame: VideoFrame) -> VideoFrame:
        """The frame upright, scaled, as yuv420p in limited range."""
        looks = (
            *(frame.width, frame.height, frame.format.name),
            *(frame.color_range, frame.colorspace),
        )
        if self.converter is None or self.converter[0] != looks:
            self.converter = (looks, self._make_graph(frame))
        graph = self.converter[1]
        if graph is None:
            return frame
        graph.vpush(frame)
        return graph.vpull()

    def _make_graph(self, frame: VideoFrame) -> Graph | None:
        turn = self.cut.turn
        upright = turn.size(frame.width, frame.height)
        # All frames of a clip have one size, be it that the source changes its own half-way.
        size = self.size if self.stream else scaled_size(*upright, self.encoding.short_side)
        full = frame.color_range == _FULL_RANGE or frame.format.name.startswith("yuvj")
        is_so = upright == size and not turn.filters and frame.format.name == "yuv420p"
        if is_so and not full:
            return None
        graph = Graph()
        graph.threads = 1
        nodes = [
            graph.add(
                "buffer",
                f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}"
                f":time_base=1/1000:colorspace={frame.colorspace}:range={frame.color_range}",
            )
        ]
        for name in filter(None, turn.filters.split(",")):
            kind, _, value = name.partition("=")
            nodes.append(graph.add(kind, value or None))
        nodes += [
            graph.add("scale", f"{size[0]}:{size[1]}:flags={_SCALER}:out_range=tv"),
            graph.add("format", "yuv420p"),
            graph.add("buffersink"),
        ]
        graph.link_nodes(*nodes)
        graph.configure()
        return graph


def _pixel_shape(
    shape: Fraction | None, source: VideoFrame, turn: Turn, size: tuple[int, int]
) -> Fraction | None:
    """Width by height of the clip's pixels, so that it looks as its source; None: square."""
    if not shape or not Fraction(1, 10) <= shape <= 10:
        return None
    width, height = turn.size(source.width, source.height)
    if turn.is_quarter:
        shape = 1 / shape
    # Kinetics has many a 640/639, from rounding a width: that's square.
    if shape.limit_denominator(100) == 1:
        return None
    return Fraction(shape * width * size[1], height * size[0]).limit_denominator(1000)


def _read_sound(video: VideoStream, cut: Cut) -> npt.NDArray[np.float32] | None:
    """The sound of the window, (2, samples) at 48 kHz, silence where there is none; None if all is.

    The pictures decide how a clip fared: sound that can't be decoded is silence.
    """
    streams = [one for one in container_of(video).streams.audio if one.codec_context is not None]
    if not streams:
        return None
    # The one that the ffmpeg program takes.
    stream = max(streams, key=lambda one: (Disposition.default in one.disposition, one.channels))
    wanted = round(cut.num_frames / cut.fps * _AUDIO_RATE)
    sound = np.zeros((2, wanted), np.float32)
    end = 0
    with contextlib.suppress(av.error.FFmpegError):
        for at, piece in _resample(stream, cut.starts_at):
            if at >= wanted:
                break
            skip = max(0, -at)
            samples = piece.to_ndarray()[:, skip : skip + wanted - max(at, 0)]
            if samples.shape[1]:
                end = max(at, 0) + samples.shape[1]
                sound[:, end - samples.shape[1] : end] = samples
    return sound if end else None


def _resample(stream: AudioStream, start: Fraction) -> Iterator[tuple[int, AudioFrame]]:
    """Stereo frames at 48 kHz, each with its first sample's place after `start`."""
    take_alone(stream)
    container = container_of(stream)
    begins = Fraction(container.start_time or 0, av.time_base)
    # What a second earlier is decodable is enough for any codec to be in tune.
    container.seek(int(max(begins, start - 1) * av.time_base), backward=True)
    ends: int | None = None
    looks: tuple[str, str, int] | None = None
    for frame in _decode_audio(stream):
        new = (frame.format.name, frame.layout.name, frame.sample_rate)
        if looks != new:
            looks = new
            resampler = av.AudioResampler(format="fltp", layout="stereo", rate=_AUDIO_RATE)
        for piece in resampler.resample(frame):
            at = ends
            if piece.pts is not None and piece.time_base is not None:
                at = round((piece.pts * piece.time_base - start) * _AUDIO_RATE)
                if ends is not None and abs(at - ends) <= _AUDIO_JITTER:
                    at = ends
            if at is not None:
                ends = at + piece.samples
                yield at, piece


def _decode_audio(stream: AudioStream) -> Iterator[AudioFrame]:
    for packet in container_of(stream).demux(stream):
        with contextlib.suppress(av.error.FFmpegError):
            yield from packet.decode()
