"""What can befall a video: noise over its pictures, packets moved, cut or put in another file."""

import contextlib
import io
import random
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

from support.made_videos import Pixels


class PlacedPacket(NamedTuple):
    """A packet with a picture: when it is shown, and where in the file it lies."""

    at_s: Fraction
    place: int
    size: int
    is_keyframe: bool


def packets_of(video: Path | bytes) -> list[PlacedPacket]:
    """The packets with a picture, in the order of the file."""
    with av.open(str(video) if isinstance(video, Path) else io.BytesIO(video)) as container:
        stream = container.streams.video[0]
        return [
            PlacedPacket(
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


def damaged(data: bytes, rng: random.Random, num_bytes: int) -> bytes:
    """The file with so many of the bytes of its pictures, all in one place, made others."""
    packets = packets_of(data)
    at = rng.randrange(packets[0].place, packets[-1].place + packets[-1].size - num_bytes)
    noise = bytes(byte ^ rng.randrange(1, 256) for byte in data[at : at + num_bytes])
    return data[:at] + noise + data[at + num_bytes :]


def frames_without_doubt(data: bytes, rate: Fraction | int) -> dict[int, Pixels]:
    """All frames that FFmpeg makes of a damaged file without doubting them, by their numbers."""
    frames = {}
    with av.open(io.BytesIO(data)) as container:
        for packet in container.demux(video=0):
            with contextlib.suppress(av.error.FFmpegError):
                for frame in packet.decode():
                    if not frame.is_corrupt:
                        frames[round(frame.time * rate)] = frame.to_ndarray(format="rgb24")
    return frames


def remux(
    source: Path,
    path: Path,
    *,
    container: str | None = None,
    from_packet: int = 0,
    to_packet: int | None = None,
    shift: Fraction | int = 0,
    change: Callable[[Any, int], None] | None = None,
    title: str = "",
    options: Mapping[str, str] | None = None,
) -> Path:
    """Copy the packets [from_packet, to_packet), `shift` seconds later, each given to `change`.

    The format is `container`, or that of the ending of `path`; `options` are of its writer.
    """
    with (
        av.open(str(source)) as reading,
        av.open(str(path), "w", format=container, options=dict(options or {})) as writing,
    ):
        writing.metadata["title"] = title
        stream = reading.streams.video[0]
        copy = writing.add_stream_from_template(stream)
        later = int(shift / stream.time_base)
        for number, packet in enumerate(reading.demux(stream)):
            if number < from_packet or packet.dts is None:
                continue
            if to_packet is not None and number >= to_packet:
                break
            packet.dts += later
            packet.pts = None if packet.pts is None else packet.pts + later
            packet.stream = copy
            if change is not None:
                change(packet, number)
            writing.mux(packet)
    return path
