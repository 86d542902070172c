"""Videos that tests make: pictures that show their numbers or noise, held in any format."""

import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, Self, TypeVar

import av
import numpy as np
import numpy.typing as npt

from k710.video.profiles import PROFILES

Pixels = npt.NDArray[np.uint8]
Size = tuple[int, int]  # width, height
File = TypeVar("File", Path, io.BytesIO)
BITS = 9  # of the number that a picture shows


@dataclass(frozen=True)
class Format:
    """How a file holds its pictures."""

    container: str = "mp4"
    codec: str = "libx264"
    options: Mapping[str, str] = field(default_factory=dict)  # of the encoder
    gop: int = 250  # the most frames from one keyframe to the next
    pix_fmt: str = "yuv420p"
    pixel_shape: Fraction | None = None  # width by height; None: square

    def but(self, options: Mapping[str, str] | None = None, **changes: Any) -> Self:
        """The same with other values; `options` are added."""
        return replace(self, options={**self.options, **(options or {})}, **changes)


_X264 = Format(options={"preset": "veryfast"})
_HIDDEN = {"auto-alt-ref": "1", "lag-in-frames": "10"}  # frames that are decoded and not shown
FORMATS = {
    "one group": _X264.but({"bf": "3"}),
    "short groups": _X264.but({"x264-params": "scenecut=0:keyint=10"}, gop=10),
    "open groups": _X264.but({"x264-params": "open-gop=1:keyint=10:bframes=3:ref=4"}, gop=10),
    "open in mkv": _X264.but(
        {"x264-params": "open-gop=1:keyint=10:bframes=3"}, gop=10, container="matroska"
    ),
    "intra": _X264.but(gop=1),
    "mpeg4": Format(codec="mpeg4", options={"bf": "2"}, gop=12),
    "mpeg4 in avi": Format("avi", "mpeg4", {"bf": "2"}, 12),
    "plain avi": Format("avi", "mpeg4", gop=12),
    "h264 in avi": _X264.but({"bf": "2"}, gop=12, container="avi"),
    "pyramid": _X264.but({"bf": "5", "b-pyramid": "normal"}, gop=20, container="matroska"),
    "intra refresh": _X264.but({"x264-params": "intra-refresh=1:keyint=12:bframes=0"}, gop=12),
    "hevc": Format(
        codec="libx265", options={"x265-params": "keyint=10:open-gop=1:log-level=none"}, gop=10
    ),
    "vp8": Format("webm", "libvpx", {**_HIDDEN, "b": "200k"}, 12),
    "hidden frames": Format("webm", "libvpx-vp9", {**_HIDDEN, "cpu-used": "8"}, 12),
    "vp9": Format("webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}, 20),
    "av1": Format(
        "matroska",
        "libsvtav1",
        {"preset": "10", "crf": "10", "svtav1-params": "keyint=20:enable-tf=0"},
        20,
    ),
}


def format_of_profile(name: str) -> Format:
    """The format of the clips that `k710 shard --profile NAME` encodes."""
    return Format(options=dict(PROFILES[name].options), gop=PROFILES[name].gop)


@dataclass(frozen=True)
class Sound:
    """A sound track; its samples are float32 of (channels, samples)."""

    codec: str
    layout: str
    samples: npt.NDArray[np.float32]
    rate: int = 48_000


# Pictures


def bars(number: int, size: Size = (160, 96)) -> Pixels:
    """RGB: `number` in binary, a bar for each bit."""
    width, height = size
    lit = [235 if number >> bit & 1 else 20 for bit in range(BITS)]
    row = np.asarray(lit, np.uint8)[np.arange(width) * BITS // width]
    return np.broadcast_to(row[None, :, None], (height, width, 3)).copy()


def numbered(number: int, size: Size = (160, 96)) -> Pixels:
    """RGB: `number` as bars above, noise that moves below."""
    drawn = np.roll(_noise(size, 0, values=(90, 160)), number * 3, axis=1)
    above = size[1] * 2 // 3
    drawn[:above] = bars(number, size)[:above]
    return drawn


def moving_noise(seed: int = 0) -> Callable[[int, Size], Pixels]:
    """A way to draw RGB pictures of noise, of which no two are alike."""

    def draw(number: int, size: Size) -> Pixels:
        drawn = np.roll(_noise(size, seed), number * 3, axis=1)
        drawn[number % size[1]] = number * 5 % 256
        return drawn

    return draw


@cache
def _noise(size: Size, seed: int, *, values: tuple[int, int] = (0, 256)) -> Pixels:
    width, height = size
    return np.random.default_rng(seed).integers(*values, (height, width, 3), np.uint8)


def number_in(pixels: Pixels) -> int:
    """The number that a picture shows, scaled or not."""
    height, width = pixels.shape[:2]
    row = pixels[height // 6 : height // 2].mean(axis=(0, 2))
    centres = (np.arange(BITS) * 2 + 1) * width // (2 * BITS)
    return sum(1 << bit for bit, centre in enumerate(centres) if row[centre] > 128)


def numbers_in(clip: bytes | Path) -> list[int]:
    """The numbers that the pictures of a whole file show."""
    return [number for _, number in numbers_by_time(clip)]


def numbers_by_time(clip: bytes | Path) -> list[tuple[float, int]]:
    """When each picture of a whole file is shown, in seconds, and its number."""
    with av.open(str(clip) if isinstance(clip, Path) else io.BytesIO(clip)) as container:
        return [
            (float(frame.pts * frame.time_base), number_in(frame.to_ndarray(format="rgb24")))
            for frame in container.decode(video=0)
        ]


# Files


def make_video(
    file: File,
    numbers: Iterable[int] = range(100),
    *,
    format: Format = FORMATS["short groups"],
    rate: Fraction | int = 25,
    at_ms: Callable[[int], int] | None = None,
    size: Size = (160, 96),
    draw: Callable[[int, Size], Pixels] = numbered,
    sound: Sound | None = None,
) -> File:
    """Write the pictures of `numbers`, `rate` a second or each `at_ms(number)`; returns `file`.

    The same arguments give the same bytes.
    """
    target = str(file) if isinstance(file, Path) else file
    with av.open(target, "w", format=format.container) as container:
        stream = _add_stream(container, format, size=size, rate=rate)
        if at_ms:
            stream.codec_context.time_base = Fraction(1, 1000)
        audio = (
            container.add_stream(sound.codec, sound.rate, layout=sound.layout) if sound else None
        )
        for place, number in enumerate(numbers):
            frame = av.VideoFrame.from_ndarray(draw(number, size), format="rgb24")
            frame.pts, frame.time_base = place, 1 / Fraction(rate)
            if at_ms:
                frame.pts, frame.time_base = at_ms(number), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound:
            _write_sound(container, audio, sound)
    return file


def _add_stream(container: Any, format: Format, *, size: Size, rate: Fraction | int) -> Any:
    stream = container.add_stream(format.codec, rate=rate, options=dict(format.options))
    stream.width, stream.height = size
    stream.pix_fmt = format.pix_fmt
    stream.gop_size = format.gop
    stream.codec_context.thread_count = 1
    if format.pixel_shape:
        stream.codec_context.sample_aspect_ratio = format.pixel_shape
    return stream


def _write_sound(container: Any, stream: Any, sound: Sound) -> None:
    chunk = stream.codec_context.frame_size or 1024
    resampler = av.AudioResampler(
        format=stream.codec_context.format.name, layout=sound.layout, rate=sound.rate
    )
    for start in range(0, sound.samples.shape[1], chunk):
        part = np.ascontiguousarray(sound.samples[:, start : start + chunk])
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=sound.layout)
        frame.sample_rate = sound.rate
        frame.pts, frame.time_base = start, Fraction(1, sound.rate)
        for piece in resampler.resample(frame):
            container.mux(stream.encode(piece))
    container.mux(stream.encode(None))


def make_loud_video(
    path: Path, codec: str, layout: str, *, rate: int = 48_000, seconds: float = 4
) -> Path:
    """A video of four seconds with clicks at 1.0 and 2.5 s in `seconds` of sound."""
    mono = _clicks([1.0, 2.5], seconds, rate)
    channels = {"mono": 1, "stereo": 2, "5.1": 6}[layout]
    format = FORMATS["mpeg4 in avi" if path.suffix == ".avi" else "one group"]
    if path.suffix == ".mkv":
        format = format.but(container="matroska")
    sound = Sound(codec, layout, mono.repeat(channels, 0), rate)
    return make_video(path, format=format, sound=sound)


def _clicks(at_s: Iterable[float], seconds: float, rate: int) -> npt.NDArray[np.float32]:
    """Mono sound, (1, samples): 10 ms of 1 kHz at each of those times, and silence."""
    sound = np.zeros((1, int(seconds * rate)), np.float32)
    burst = 0.8 * np.sin(np.arange(rate // 100) * 2 * np.pi * 1000 / rate)
    for time in at_s:
        start = int(time * rate)
        sound[0, start : start + len(burst)] = burst[: max(0, sound.shape[1] - start)]
    return sound
