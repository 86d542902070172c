"""Videos that tests make, and clips of them. Every picture shows its number, to be told apart."""

import io
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from k710.video.cut import Cut, Window, decoder_log
from k710.video.encode import Encoded, Encoding, encode_window
from k710.video.frames import open_video

BITS = 9
Pixels = npt.NDArray[np.uint8]

# Ways to hold the same pictures: container, codec, options, longest group.
KINDS: dict[str, tuple[str, str, dict[str, str], int]] = {
    "one group": ("mp4", "libx264", {"bf": "3"}, 250),
    "short groups": ("mp4", "libx264", {"x264-params": "scenecut=0:keyint=10"}, 10),
    "open groups": ("mp4", "libx264", {"x264-params": "open-gop=1:keyint=10:bframes=3:ref=4"}, 10),
    "open in mkv": ("matroska", "libx264", {"x264-params": "open-gop=1:keyint=10:bframes=3"}, 10),
    "intra": ("mp4", "libx264", {}, 1),
    "mpeg4": ("mp4", "mpeg4", {"bf": "2"}, 12),
    "mpeg4 in avi": ("avi", "mpeg4", {"bf": "2"}, 12),
    "h264 in avi": ("avi", "libx264", {"bf": "2"}, 12),
    "hevc": ("mp4", "libx265", {"x265-params": "keyint=10:open-gop=1:log-level=none"}, 10),
    "vp9": ("webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}, 20),
    "av1": (
        "matroska",
        "libsvtav1",
        {"preset": "10", "crf": "10", "svtav1-params": "keyint=20:enable-tf=0"},
        20,
    ),
}


def picture(number: int, size: tuple[int, int] = (160, 96)) -> Pixels:
    """RGB: `number` as bars above, noise that moves below."""
    width, height = size
    made = np.random.default_rng(0).integers(90, 160, (height, width, 3), np.uint8)
    made = np.roll(made, number * 3, axis=1)
    bars = [235 if number >> bit & 1 else 20 for bit in range(BITS)]
    columns = np.arange(width) * BITS // width
    made[: height * 2 // 3] = np.asarray(bars, np.uint8)[columns][None, :, None]
    return made


def number_in(pixels: Pixels) -> int:
    """The number that a picture shows, scaled or not."""
    height, width = pixels.shape[:2]
    row = pixels[height // 6 : height // 2].mean(axis=(0, 2))
    centres = (np.arange(BITS) * 2 + 1) * width // (2 * BITS)
    return sum(1 << bit for bit, centre in enumerate(centres) if row[centre] > 128)


def numbers_in(clip: bytes) -> list[int]:
    """The numbers that the pictures of a whole file show."""
    with av.open(io.BytesIO(clip)) as container:
        stream = container.streams.video[0]
        return [number_in(frame.to_ndarray(format="rgb24")) for frame in container.decode(stream)]


def make_video(
    path: Path,
    numbers: Iterable[int] = range(100),
    *,
    kind: str = "short groups",
    rate: Fraction | int = 25,
    at_ms: Callable[[int], int] | None = None,
    size: tuple[int, int] = (160, 96),
    pix_fmt: str = "yuv420p",
    options: Mapping[str, str] | None = None,
    draw: Callable[[int, tuple[int, int]], Pixels] = picture,
    form: str | None = None,
    shape: Fraction | None = None,
    sound: Mapping[str, Any] | None = None,
) -> Path:
    """Write the pictures with those numbers, `rate` a second, or each `at_ms(number)`."""
    default_form, codec, kind_options, group = KINDS[kind]
    if codec == "libx264":
        kind_options = {"preset": "veryfast", **kind_options}
    with av.open(str(path), "w", format=form or default_form) as container:
        stream: Any = container.add_stream(
            codec, rate=rate, options=kind_options | {**(options or {})}
        )
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        stream.gop_size = group
        stream.codec_context.thread_count = 1
        if shape:
            stream.codec_context.sample_aspect_ratio = shape
        if at_ms:
            stream.codec_context.time_base = Fraction(1, 1000)
        audio = _add_sound(container, sound) if sound else None
        for place, number in enumerate(numbers):
            frame: Any = av.VideoFrame.from_ndarray(draw(number, size), format="rgb24")
            frame.pts, frame.time_base = place, 1 / Fraction(rate)
            if at_ms:
                frame.pts, frame.time_base = at_ms(number), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio:
            _write_sound(container, audio, sound)
    return path


def _add_sound(container: Any, sound: Mapping[str, Any]) -> Any:
    stream = container.add_stream(sound["codec"], rate=sound["rate"], layout=sound["layout"])
    return stream


def _write_sound(container: Any, stream: Any, sound: Any) -> None:
    samples = sound["samples"]
    chunk = stream.codec_context.frame_size or 1024
    form = stream.codec_context.format.name
    resampler = av.AudioResampler(format=form, layout=sound["layout"], rate=sound["rate"])
    for start in range(0, samples.shape[1], chunk):
        part = np.ascontiguousarray(samples[:, start : start + chunk], dtype=np.float32)
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=sound["layout"])
        frame.sample_rate = sound["rate"]
        frame.pts, frame.time_base = start, Fraction(1, sound["rate"])
        for piece in resampler.resample(frame):
            container.mux(stream.encode(piece))
    container.mux(stream.encode(None))


def clicks(at_s: Iterable[float], seconds: float, rate: int = 48_000) -> npt.NDArray[np.float32]:
    """Mono sound, (1, samples): 10 ms of 1 kHz at each of those times, and silence."""
    sound = np.zeros((1, int(seconds * rate)), np.float32)
    burst = 0.8 * np.sin(np.arange(rate // 100) * 2 * np.pi * 1000 / rate)
    for time in at_s:
        start = int(time * rate)
        sound[0, start : start + len(burst)] = burst[: max(0, sound.shape[1] - start)]
    return sound


def packets_of(path: Path) -> list[tuple[Fraction, int, int, bool]]:
    """(seconds, place in the file, bytes, whether a keyframe) of each packet with a picture."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [
            (
                (packet.pts if packet.pts is not None else packet.dts or 0) * stream.time_base,
                *(packet.pos, packet.size, packet.is_keyframe),
            )
            for packet in container.demux(stream)
            if packet.size
        ]


def overwritten(path: Path, from_s: float, to_s: float, *, seed: int = 0) -> bytes:
    """The file with noise in all pictures shown in `[from_s, to_s)`, the first 40 bytes left."""
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    for at, place, size, _ in packets_of(path):
        if from_s <= at < to_s and size > 60:
            data[place + 40 : place + size] = rng.integers(0, 256, size - 40, np.uint8).tobytes()
    return bytes(data)


def copied(
    source: Path,
    path: Path,
    *,
    from_packet: int = 0,
    shift: Fraction | int = 0,
    form: str = "mp4",
    options: Mapping[str, str] | None = None,
) -> Path:
    """The packets from that one on as they are, `shift` seconds later: a stream copy."""
    with (
        av.open(str(source)) as reading,
        av.open(str(path), "w", format=form, options=dict(options or {})) as writing,
    ):
        stream = reading.streams.video[0]
        copy = writing.add_stream_from_template(stream)
        for number, packet in enumerate(reading.demux(stream)):
            if number >= from_packet and packet.dts is not None:
                later = int(shift / stream.time_base)
                packet.dts += later
                packet.pts = None if packet.pts is None else packet.pts + later
                packet.stream = copy
                writing.mux(packet)
    return path


def with_sound(path: Path, codec: str, layout: str, **more: Any) -> Path:
    mono = clicks([1.0, 2.5], more.pop("seconds", 4), rate=more.get("rate", 48_000))
    channels = {"mono": 1, "stereo": 2, "5.1": 6}[layout]
    sound = {"codec": codec, "layout": layout, "rate": 48_000, "samples": mono.repeat(channels, 0)}
    return make_video(
        path,
        sound=sound | more,
        kind=("mpeg4 in avi" if path.suffix == ".avi" else "one group"),
        form={".mkv": "matroska", ".avi": "avi"}.get(path.suffix),
    )


def encoded(
    source: Path | bytes, start_s: int, end_s: int, **settings: Any
) -> tuple[Cut, Encoded | None]:
    with decoder_log() as log, open_video(source) as video:
        window = Window(start_s, end_s)
        return encode_window(video[1], log, window, Encoding(**settings), from_s=start_s)


def clip_of(source: Path | bytes, start_s: int = 0, end_s: int = 1, **settings: Any) -> Encoded:
    clip = encoded(source, start_s, end_s, **settings)[1]
    assert clip is not None
    return clip
