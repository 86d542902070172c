"""Videos of moving noise, no frame like another, and what can befall them."""

import contextlib
import io
import random
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from k710.video.profiles import PROFILES, add_stream

NUM_FRAMES = 50
FPS = Fraction(25)
WIDTH, HEIGHT = 170, 98  # no multiples of 16: FFmpeg pads the rows
KINDS = {
    "one group": ("mp4", "libx264", {"bf": "3"}, 250),
    "short groups": ("mp4", "libx264", {"tune": "fastdecode", "sc_threshold": "0"}, 12),
    "open groups": ("mp4", "libx264", {"x264-params": "open-gop=1:keyint=10:bframes=3"}, 10),
    "pyramid": ("matroska", "libx264", {"bf": "5", "b-pyramid": "normal"}, 20),
    "intra": ("mp4", "libx264", {}, 1),
    "mpeg4": ("mp4", "mpeg4", {"bf": "2"}, 12),
    "avi": ("avi", "mpeg4", {}, 12),
    "refresh": ("mp4", "libx264", {"x264-params": "intra-refresh=1:keyint=12:bframes=0"}, 12),
    "hevc": ("mp4", "libx265", {"x265-params": "keyint=10:log-level=none"}, 10),
    "vp8": ("webm", "libvpx", {"auto-alt-ref": "1", "lag-in-frames": "10", "b": "200k"}, 12),
    "vp9": (
        "webm",
        "libvpx-vp9",
        {"auto-alt-ref": "1", "lag-in-frames": "10", "cpu-used": "8"},
        12,
    ),
}
ALL = (*KINDS, *PROFILES)


@cache
def encoded(kind: str, folder: Path) -> Path:
    """A video of moving noise, no frame like another."""
    path = folder / f"{kind}.video"
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    form = KINDS[kind][0] if kind in KINDS else "mp4"
    with av.open(str(path), "w", format=form) as container:
        if kind in PROFILES:
            stream = add_stream(container, PROFILES[kind], size=(WIDTH, HEIGHT), fps=FPS)
        else:
            _, codec, options, group = KINDS[kind]
            stream = container.add_stream(codec, rate=FPS, options=options)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            stream.gop_size = group
            stream.codec_context.thread_count = 1
        for number in range(NUM_FRAMES):
            picture[number % HEIGHT] = number * 5
            frame = av.VideoFrame.from_ndarray(np.roll(picture, number, 1), format="rgb24")
            frame = frame.reformat(format="yuv420p")
            frame.pts, frame.time_base = number, 1 / FPS
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@cache
def all_frames(path: Path) -> list[npt.NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def decoded_as_it_is(data: bytes) -> dict[int, npt.NDArray[np.uint8]]:
    """All frames that FFmpeg makes of a damaged file without doubting them, by their numbers."""
    frames = {}
    with av.open(io.BytesIO(data)) as container:
        for packet in container.demux(video=0):
            with contextlib.suppress(av.error.FFmpegError):
                for frame in packet.decode():
                    if not frame.is_corrupt:
                        frames[round(frame.time * FPS)] = frame.to_ndarray(format="rgb24")
    return frames


def damaged(data: bytes, rng: random.Random, num_bytes: int) -> bytes:
    """The file with so many of the bytes of its pictures, all in one place, made others."""
    with av.open(io.BytesIO(data)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    at = rng.randrange(packets[0].pos, packets[-1].pos + packets[-1].size - num_bytes)
    noise = bytes(byte ^ rng.randrange(1, 256) for byte in data[at : at + num_bytes])
    return data[:at] + noise + data[at + num_bytes :]


def remuxed(
    path: Path,
    out: Path,
    change: Callable[[Any, int], None] | None = None,
    *,
    title: str = "",
    **options: str,
) -> Path:
    """The same packets in another file, each changed after it got its place in decoding order."""
    with (
        av.open(str(path)) as source,
        av.open(str(out), "w", container_options=options) as container,
    ):
        container.metadata["title"] = title
        stream = container.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.dts is None:
                continue
            packet.stream = stream
            if change is not None:
                change(packet, number)
            container.mux(packet)
    return out
