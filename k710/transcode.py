"""One window of a video as an MP4 of its own: cut, turned upright, scaled, at a constant rate.

The bytes depend on the source, the settings, and the versions of PyAV and of the libraries in it:
one thread, and a scaler that rounds alike on every processor.

Pixels that aren't square stay so, with their shape noted in the MP4; no reader of ours minds it.

Not covered: deinterlacing; HDR to SDR; rotation by other than quarter turns.
"""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import av.filter

from k710.cut import Cut, Window, constant_rate
from k710.profiles import Colour, add_stream, profile_of

__all__ = ["Encoded", "Encoding", "encode_window", "encoder_versions", "scaled_size"]

_SCALER = "bicubic+accurate_rnd+full_chroma_int+bitexact"
# What makes a picture upright, by the signs of its display matrix (a, b, c, d), as FFmpeg does.
_TURNS = {
    (-1, 0, 0, 1): "hflip",
    (1, 0, 0, -1): "vflip",
    (-1, 0, 0, -1): "hflip,vflip",
    (0, 1, -1, 0): "transpose=clock",
    (0, -1, 1, 0): "transpose=cclock",
    (0, 1, 1, 0): "transpose=cclock_flip",
    (0, -1, -1, 0): "transpose=clock_flip",
}
_AUDIO_RATE = 48_000
_FULL_RANGE = 2


@dataclass(frozen=True, slots=True)
class Encoding:
    """How clips are made. Shards of one work directory are all made alike."""

    profile: str = "balanced"
    short_side: int = 320  # px; smaller sources keep their size
    fps: Fraction | None = None  # None: each source's own average rate
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
    """What decides the bytes beside source and settings: PyAV and the libraries it carries."""
    libraries = {
        name: ".".join(map(str, number))
        for name, number in sorted(av.library_versions.items())
        if name in ("libavcodec", "libavfilter", "libavformat", "libswscale", "libswresample")
    }
    return {"av": av.__version__, **libraries}


def scaled_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """(width, height) at that short side: never larger than before, even, in proportion."""
    short = max(2, min(short_side, width, height) // 2 * 2)
    long = max(2, round(max(width, height) * short / min(width, height) / 2) * 2)
    if short == min(width, height) // 2 * 2:  # not scaled: at most the odd row goes
        long = max(2, max(width, height) // 2 * 2)
    return (short, long) if width <= height else (long, short)


def encode_window(
    source: tuple[Any, Any],
    log: list[Any],
    window: Window,
    encoding: Encoding,
    *,
    from_s: int | Fraction,
) -> tuple[Cut, Encoded | None]:
    """The window that begins `from_s` seconds after the first frame of `source`, encoded.

    `source` is (container, stream) of an open video, `log` a `decoder_log`. None where the cut is
    not kept. Sound is taken only where the source has some.
    """
    container, stream = source
    cut = Cut(window.seconds, encoding.fps or constant_rate(stream))
    video = _Video(encoding, cut.fps)
    for shown in cut.frames(container, stream, log, from_s=from_s):
        video.add(shown.frame, shown.times)
    if not cut.status()[2]:
        return cut, None
    seconds = cut.num_frames / cut.fps
    samples = _samples(container, from_s, seconds) if encoding.audio else iter(())
    return cut, video.finish(samples)


class _Video:
    """An MP4 in memory that grows by frames."""

    def __init__(self, encoding: Encoding, fps: Fraction) -> None:
        self.encoding = encoding
        self.fps = fps
        self.file = io.BytesIO()
        # bitexact: no version of the muxer in the file.
        options = {"fflags": "+bitexact"}
        self.container = av.open(self.file, "w", format="mp4", options=options)
        self.stream: Any = None
        self.audio: Any = None
        self.size = (0, 0)
        self.num_frames = 0
        self.keyframes: list[int] = []  # in units of frames
        self.pending: list[Any] = []  # packets, until it is known whether there is sound
        self.converter: tuple[Any, Any] | None = None  # what frames look like, and their graph

    def add(self, frame: Any, times: int) -> None:
        frame = self._converted(frame)
        if self.stream is None:
            self._begin(frame)
        for _ in range(times):
            frame.pts, frame.time_base = self.num_frames, 1 / self.fps
            frame.pict_type = 0  # the source's keyframes are not the clip's
            self._take(self.stream.encode(frame))
            self.num_frames += 1

    def finish(self, samples: Iterator[Any]) -> Encoded:
        self._take(self.stream.encode(None))
        packets = list(self._sound(samples))
        for packet in [*self.pending, *packets]:
            self.container.mux(packet)
        self.container.close()
        ends = [*self.keyframes[1:], self.num_frames]
        gop = max(end - start for start, end in zip(self.keyframes, ends, strict=True))
        return Encoded(self.file.getvalue(), self.num_frames, float(self.fps), *self.size, gop=gop)

    def _begin(self, frame: Any) -> None:
        self.size = (frame.width, frame.height)
        colour = Colour(frame.color_primaries, frame.color_trc, frame.colorspace, range=1)
        profile = profile_of(self.encoding.profile)
        self.stream = add_stream(
            self.container, profile, size=self.size, fps=self.fps, colour=colour
        )

    def _take(self, packets: list[Any]) -> None:
        for packet in packets:
            if packet.is_keyframe:
                self.keyframes.append(round(packet.pts * packet.time_base * self.fps))
            self.pending.append(packet)

    def _sound(self, samples: Iterator[Any]) -> Iterator[Any]:
        for frame in samples:
            if self.audio is None:
                self.audio = self.container.add_stream("aac", rate=_AUDIO_RATE, layout="stereo")
                self.audio.codec_context.thread_count = 1
            yield from self.audio.encode(frame)
        if self.audio is not None:
            yield from self.audio.encode(None)

    def _converted(self, frame: Any) -> Any:
        """The frame upright, scaled, as yuv420p in limited range."""
        turn = _turn(frame)
        looks = (
            *(frame.width, frame.height, frame.format.name),
            *(frame.color_range, frame.colorspace, turn),
        )
        if self.converter is None or self.converter[0] != looks:
            self.converter = (looks, self._graph(frame, turn))
        graph = self.converter[1]
        if graph is None:
            return frame
        graph.vpush(frame)
        return graph.vpull()

    def _graph(self, frame: Any, turn: str) -> Any:
        lies = turn.startswith("transpose")
        upright = (frame.height, frame.width) if lies else (frame.width, frame.height)
        # All frames of a clip have one size, be it that the source changes its own half-way.
        size = self.size if self.stream else scaled_size(*upright, self.encoding.short_side)
        full = frame.color_range == _FULL_RANGE or frame.format.name.startswith("yuvj")
        if upright == size and not turn and frame.format.name == "yuv420p" and not full:
            return None
        graph = av.filter.Graph()
        graph.threads = 1
        nodes = [
            graph.add(
                "buffer",
                f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}"
                f":time_base=1/1000:colorspace={frame.colorspace}:range={frame.color_range}",
            )
        ]
        for name in filter(None, turn.split(",")):
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


def _samples(container: Any, from_s: int | Fraction, seconds: Fraction) -> Iterator[Any]:
    """The sound of the window as stereo frames at 48 kHz, cut to the sample; none if undecodable.

    The pictures decide how a clip fared: sound that breaks off ends there.
    """
    stream = next(iter(container.streams.audio), None)
    video = container.streams.video[0]
    if stream is None:
        return
    start = (video.start_time or 0) * Fraction(video.time_base) + from_s
    container.seek(max(0, int((start - 1) * av.time_base)), backward=True)
    resampler = av.AudioResampler(format="fltp", layout="stereo", rate=_AUDIO_RATE)
    wanted = round(seconds * _AUDIO_RATE)
    done = 0
    with contextlib.suppress(av.error.FFmpegError):
        for frame in container.decode(stream):
            if frame.pts is None:
                continue
            at = round((frame.pts * Fraction(frame.time_base) - start) * _AUDIO_RATE)
            for piece in resampler.resample(frame):
                skip = max(0, done - at)
                take = min(piece.samples - skip, wanted - max(done, at))
                if take > 0 and at + piece.samples > 0:
                    part = piece.to_ndarray()[:, skip : skip + take]
                    new = av.AudioFrame.from_ndarray(
                        _contiguous(part), format="fltp", layout="stereo"
                    )
                    done = max(done, at)
                    new.sample_rate, new.pts = _AUDIO_RATE, done
                    new.time_base = Fraction(1, _AUDIO_RATE)
                    done += take
                    yield new
                at += piece.samples
            if done >= wanted:
                return


def _contiguous(samples: Any) -> Any:
    import numpy as np

    return np.ascontiguousarray(samples)
