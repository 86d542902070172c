"""Chosen frames of a video: exactly those, decoding no more than they need.

A first pass over the packets alone tells each frame's time stamp and the keyframes; then only the
groups of pictures that hold a wanted frame are decoded, and of those only what is wanted or what
others refer to. What does not keep to that picture (AVI, missing or repeated time stamps) is
decoded from the start.

Not covered: probing, cutting and encoding; sound.
"""

import contextlib
import io
import itertools
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import numpy.typing as npt

from k710.errors import MediaError, printable

__all__ = ["read_frames"]

# A playlist called .mp4 would make FFmpeg read other files, or ask the network for them.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"
# Others take "not referred to" differently: FFmpeg drops wanted frames of AV1 with it.
_CAN_SKIP = ("h264",)


@dataclass(frozen=True, slots=True)
class _Stamps:
    """Time stamps of a stream, in its time base, both sorted."""

    frames: list[int]
    keyframes: list[int]


def read_frames(
    source: str | Path | bytes,
    indices: Sequence[int],
    *,
    size: tuple[int, int] | None = None,
) -> npt.NDArray[np.uint8]:
    """The frames at `indices` as RGB: uint8 of shape (len(indices), height, width, 3).

    Frames count from 0 in the order in which they are shown; an index may stand there twice, in any
    order. `size` is (width, height) to scale to, in the pass that makes RGB of them. `source` is a
    path or a whole file as bytes. MediaError where that is no video, or an index is not in it.
    """
    wanted = sorted(set(indices))
    if not wanted:
        raise ValueError("indices must name at least one frame")
    if wanted[0] < 0:
        raise ValueError(f"indices must not be negative, and one is {wanted[0]}")
    with _opened(source) as (container, stream):
        stamps = _stamps(container, stream)
        frames: dict[int, npt.NDArray[np.uint8]] | None = None
        if stamps is not None and wanted[-1] < len(stamps.frames):
            frames = _by_groups(container, stream, stamps, wanted, size)
    if frames is None:
        with _opened(source) as (container, stream):
            frames = _from_the_start(container, stream, wanted, size)
    return np.stack([frames[index] for index in indices])


@contextlib.contextmanager
def _opened(source: str | Path | bytes) -> Iterator[tuple[Any, Any]]:
    """The container and its first video stream, decoded by one thread; closed at the end."""
    name = "the video" if isinstance(source, bytes) else str(source)
    file = io.BytesIO(source) if isinstance(source, bytes) else str(source)
    try:
        with av.open(file, options={"format_whitelist": _FORMATS}) as container:
            if not container.streams.video:
                raise MediaError(f"{name} has no video in it.")
            stream = container.streams.video[0]
            stream.thread_type = "NONE"
            stream.codec_context.thread_count = 1
            yield container, stream
    except (av.error.FFmpegError, OSError) as error:
        words = printable(error.strerror or type(error).__name__)
        raise MediaError(f"{name} can't be decoded: {words}.") from error


def _stamps(container: Any, stream: Any) -> _Stamps | None:
    """The time stamps of all frames; None where packets don't tell of frames one to one."""
    if container.format.name == "avi":  # has no times of showing, and FFmpeg's guesses are not them
        return None
    frames: list[int] = []
    keyframes: list[int] = []
    for packet in container.demux(stream):
        if not packet.size:  # the end
            continue
        if packet.pts is None or packet.is_discard or packet.is_corrupt:
            return None
        frames.append(packet.pts)
        if packet.is_keyframe:
            keyframes.append(packet.pts)
    frames.sort()
    repeated = any(a == b for a, b in itertools.pairwise(frames))
    if repeated or not keyframes or min(keyframes) != frames[0]:
        return None
    return _Stamps(frames, sorted(keyframes))


def _by_groups(
    container: Any,
    stream: Any,
    stamps: _Stamps,
    wanted: list[int],
    size: tuple[int, int] | None,
) -> dict[int, npt.NDArray[np.uint8]] | None:
    """The wanted frames by index; None if one did not come out under its time stamp."""
    groups: dict[int, dict[int, int]] = {}  # keyframe's stamp -> frame's stamp -> index
    for index in wanted:
        stamp = stamps.frames[index]
        # The keyframe by the time shown, not by place in the file: after it may come frames that
        # are shown before it, and need the group before.
        keyframe = stamps.keyframes[bisect_right(stamps.keyframes, stamp) - 1]
        groups.setdefault(keyframe, {})[stamp] = index
    can_skip = stream.codec_context.name in _CAN_SKIP
    frames: dict[int, npt.NDArray[np.uint8]] = {}
    for keyframe, missing in groups.items():
        container.seek(keyframe, stream=stream, backward=True)
        for packet in container.demux(stream):
            if can_skip:
                needed = not packet.size or packet.pts in missing
                stream.codec_context.skip_frame = "DEFAULT" if needed else "NONREF"
            for frame in packet.decode():
                index_or_none = missing.pop(frame.pts, None)
                if index_or_none is not None:
                    frames[index_or_none] = _rgb(frame, size)
            if not missing:
                break
        if missing:
            return None
    return frames


def _from_the_start(
    container: Any, stream: Any, wanted: list[int], size: tuple[int, int] | None
) -> dict[int, npt.NDArray[np.uint8]]:
    left = set(wanted)
    frames: dict[int, npt.NDArray[np.uint8]] = {}
    num_frames = 0
    for frame in container.decode(stream):
        if num_frames in left:
            left.remove(num_frames)
            frames[num_frames] = _rgb(frame, size)
        num_frames += 1
        if not left:
            return frames
    raise MediaError(f"Frame {min(left)} was asked for, and the video has {num_frames}.")


def _rgb(frame: Any, size: tuple[int, int] | None) -> npt.NDArray[np.uint8]:
    width, height = size or (frame.width, frame.height)
    array: npt.NDArray[np.uint8] = frame.to_ndarray(format="rgb24", width=width, height=height)
    return array
