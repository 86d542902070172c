"""What a stream of an open video says of itself; times in seconds, as fractions."""

from collections.abc import Iterator
from fractions import Fraction
from typing import TypeAlias

import av
from av import VideoStream
from av.container import InputContainer
from av.stream import Discard, Stream

__all__ = [
    "MAX_FPS",
    "VideoPacket",
    "constant_rate",
    "container_of",
    "has_no_times",
    "nominal_rates",
    "seeks_exactly",
    "take_alone",
    "time_base_of",
    "video_seconds",
]

VideoPacket: TypeAlias = "av.Packet[VideoStream]"  # takes no [] at run time

MAX_FPS = 240


def container_of(stream: Stream) -> InputContainer:
    """The open file that the stream is of."""
    container = stream.container
    assert isinstance(container, InputContainer)
    return container


def has_no_times(container: InputContainer) -> bool:
    """Whether the format doesn't say when pictures are shown, and FFmpeg's guesses are not it.

    Then the n-th frame that comes out has the time of the n-th packet that went in.
    """
    return container.format.name in ("avi", "mpegvideo")


def seeks_exactly(container: InputContainer) -> bool:
    """Whether a seek ends before what was asked for, and the times after it are the true ones.

    MPEG's streams have no index: FFmpeg guesses the place, and then the times of some pictures.
    """
    return container.format.name not in ("mpegts", "mpeg")


def time_base_of(stream: Stream) -> Fraction:
    """How many seconds one unit of the stream's time stamps is."""
    assert stream.time_base is not None  # FFmpeg gives one to each stream of a file
    return stream.time_base


def constant_rate(stream: VideoStream) -> Fraction:
    """The source's own average rate in frames a second, as a fraction that H.264 can carry.

    It is the container's word: Matroska often has a nominal rate there, above the average.
    """
    return next(nominal_rates(stream), Fraction(25))


def nominal_rates(stream: VideoStream) -> Iterator[Fraction]:
    """The rates that the container or FFmpeg has for the stream, the average first."""
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate is not None and 0 < rate <= MAX_FPS:
            yield rate.limit_denominator(10_000)


def video_seconds(stream: VideoStream) -> float | None:
    """How long the file says that its pictures are; None where it does not say."""
    if stream.duration:
        return float(stream.duration * time_base_of(stream))
    container = container_of(stream)
    if container.duration:
        start = (stream.start_time or 0) * time_base_of(stream)
        return float(Fraction(container.duration, av.time_base) - max(start, Fraction(0)))
    return None


def take_alone(stream: Stream) -> None:
    """Read packets of this stream alone: damage of the sound is none of the pictures."""
    for other in container_of(stream).streams:
        other.discard = Discard.default if other is stream else Discard.all
