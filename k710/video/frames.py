"""Chosen frames of a video: exactly those, decoding no more than they need.

A first pass over the packets alone tells each frame's time stamp and the keyframes; then only the
groups of pictures that hold a wanted frame are decoded, up to the last one wanted, and of those
only what is wanted or what others refer to. What does not keep to that picture (AVI, a codec with
pictures that aren't shown, missing or repeated time stamps) is decoded from the start.

Pictures are upright, as the ffmpeg program shows them: turned and mirrored as the file says. Pixels
that aren't square stay so.

Not covered: probing, cutting and encoding; sound; damage that a decoder hides (FFmpeg's of HEVC
conceals a broken slice without a word).
"""

import itertools
import operator
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import av.error
import numpy as np
import numpy.typing as npt
from av import VideoCodecContext, VideoFrame, VideoStream
from av.video.reformatter import VideoReformatter

from k710.errors import MediaError
from k710.video.container import name_of, open_video
from k710.video.streams import VideoPacket, container_of, has_no_times, seeks_exactly
from k710.video.upright import Turn, turn_of

__all__ = ["num_frames", "read_frames"]

# Each of their packets shows one frame. VP8 has packets that show none, MPEG-4 may have.
_ONE_TO_ONE = ("h264", "hevc", "libdav1d", "av1", "vp9")
# Others take "not referred to" differently: FFmpeg drops wanted frames of AV1 with it.
_CAN_SKIP = ("h264",)
# A frame may refer to one that is shown so many later: the most that H.264 and HEVC can hold back.
_MOST_AHEAD = 16
# Packets are kept from the first pass up to this, and read again after a seek above it.
_KEPT_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class _Scan:
    """What the packets tell. Time stamps are in the stream's time base, and sorted."""

    frames: list[int]
    keyframes: list[int]
    packets: "list[VideoPacket] | None"  # as in the file; None if they are too many to keep


class _Pictures:
    """The array that is being read, filled by frames in any order."""

    def __init__(
        self,
        indices: Sequence[int],
        size: tuple[int, int] | None,
        pixels: str,
        name: str,
        out: npt.NDArray[np.uint8] | None,
    ) -> None:
        self.size = size
        self.out = out
        self.pixels = pixels
        self.name = name
        self.rows: dict[int, list[int]] = {}  # index of a frame -> where it goes
        for row, index in enumerate(indices):
            self.rows.setdefault(index, []).append(row)
        self.num_rows = len(indices)
        self.array: npt.NDArray[np.uint8] | None = None
        self.reformatter = VideoReformatter()
        self.turn: Turn | None = None

    def look(self, frame: VideoFrame) -> None:
        """Take from the first decoded frame, a keyframe, how all lie: others may not say it."""
        self.turn = self.turn or turn_of(frame)

    def put(self, index: int, frame: VideoFrame) -> None:
        """Write a decoded frame to its rows, upright."""
        turn = self.turn
        assert turn is not None
        width, height = self.size or turn.size(frame.width, frame.height)
        rgb = self.pixels == "rgb24"
        if not rgb and (width % 2 or height % 2):
            raise ValueError(f"yuv420p needs even sizes, and {self.name} is {width}x{height}.")
        if self.array is None:
            picture = (height, width, 3) if rgb else (height * 3 // 2, width)
            self.array = self._room((self.num_rows, *picture))
            self.height, self.width = height, width
        elif (height, width) != (self.height, self.width):
            raise MediaError(
                f"{self.name} changes from {self.width}x{self.height} to {width}x{height}: "
                "its frames fit one array only if size is given."
            )
        lying = turn.size(width, height)
        as_it_is = (frame.width, frame.height) == lying and not rgb
        if not (as_it_is and frame.format.name in ("yuv420p", "yuvj420p")):
            # By its own matrix and range, and where its chroma says that it lies. One thread, or
            # swscale starts one for each core.
            frame = self.reformatter.reformat(
                frame, *lying, "rgb24" if rgb else "yuv420p", threads=1
            )
        first, *others = self.rows[index]
        _copy_planes(frame, self.array[first], turn)
        for row in others:
            self.array[row] = self.array[first]

    def _room(self, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        """Where pictures of that shape go. MediaError where `out` has no such room."""
        out = self.out
        if out is None:
            return np.empty(shape, np.uint8)
        num, height, width, *colours = shape
        if self.turn and self.turn.is_quarter and out.shape == (num, width, height, *colours):
            return out.reshape(shape)
        if out.shape != shape:
            raise MediaError(
                f"{self.name} gives pictures of {shape}, and {out.shape} are expected."
            )
        return out


def read_frames(
    source: str | Path | bytes,
    indices: Sequence[int],
    *,
    size: tuple[int, int] | None = None,
    pixels: Literal["rgb24", "yuv420p"] = "rgb24",
    out: npt.NDArray[np.uint8] | None = None,
) -> npt.NDArray[np.uint8]:
    """The frames at `indices` as RGB: uint8 of shape (len(indices), height, width, 3).

    With `pixels="yuv420p"` they are of shape (len(indices), height * 3 // 2, width): the rows of Y,
    then those of U and V, which have half the width and fill two to a row; matrix and range are the
    video's own, and height and width must be even.

    Frames count from 0 in the order in which they are shown; an index may stand there twice, in any
    order. They are upright: turned and mirrored as the file says. `size` is (width, height) to
    scale to, in the pass that makes RGB of them. `out` is what is filled and returned, if it is
    given: of that shape, contiguous; of pictures that lie on their side it may have the shape that
    they have in the file, and a view of it comes back. `source` is a path or a whole file as bytes.
    MediaError where that is no video, an index is not in it, or `out` has another shape; what `out`
    holds then is undefined.
    """
    indices = [operator.index(index) for index in indices]
    _check(indices, size, pixels)
    if out is not None and not (out.dtype == np.uint8 and out.flags.c_contiguous):
        raise ValueError("out must be a contiguous array of uint8")
    pictures = _Pictures(indices, size, pixels, name_of(source), out)
    with open_video(source, probe=False) as (_, stream):
        scan = _scan(stream)
        done = (
            scan is not None
            and max(pictures.rows) < len(scan.frames)
            and _read_by_groups(stream, scan, pictures)
        )
    if not done:
        with open_video(source) as (_, stream):
            _read_from_start(stream, pictures)
    assert pictures.array is not None
    return pictures.array


def num_frames(source: str | Path | bytes) -> int:
    """How many frames an undamaged file has: by its packets where they tell, else all are decoded.

    Of a damaged one `read_frames` may find fewer. MediaError where that is no video.
    """
    with open_video(source) as (container, stream):
        scan = _scan(stream)
    if scan is not None:
        return len(scan.frames)
    with open_video(source) as (container, stream):
        count = sum(1 for _ in container.decode(stream))
    if not count:
        raise MediaError(f"{name_of(source)} has no frame that can be decoded.")
    return count


def _check(indices: list[int], size: tuple[int, int] | None, pixels: str) -> None:
    if not indices:
        raise ValueError("indices must name at least one frame")
    if min(indices) < 0:
        raise ValueError(f"indices must not be negative, and one is {min(indices)}")
    if size is not None and min(size) < 1:
        raise ValueError(f"size must be (width, height) in pixels, and is {size}")
    if pixels not in ("rgb24", "yuv420p"):
        raise ValueError(f"pixels ({pixels!r}) must be rgb24 or yuv420p")


def _scan(stream: VideoStream) -> _Scan | None:
    """What all packets tell; None where they don't tell of frames one to one."""
    container = container_of(stream)
    if has_no_times(container):
        return None
    if stream.codec_context.name not in _ONE_TO_ONE:
        return None
    frames: list[int] = []
    keyframes: list[int] = []
    packets: list[VideoPacket] | None = []
    num_bytes = 0
    for packet in container.demux(stream):
        pts = packet.pts
        size = packet.size
        if pts is None and not size:  # the end
            continue
        if pts is None or not size or packet.is_discard or packet.is_corrupt:
            return None
        frames.append(pts)
        if packet.is_keyframe:
            keyframes.append(pts)
        num_bytes += size
        if num_bytes > _KEPT_BYTES:
            if not seeks_exactly(container):
                return None
            packets = None
        if packets is not None:
            packets.append(packet)
    frames.sort()
    repeated = any(a == b for a, b in itertools.pairwise(frames))
    if repeated or not keyframes or min(keyframes) != frames[0]:
        return None
    return _Scan(frames, sorted(keyframes), packets)


def _read_by_groups(stream: VideoStream, scan: _Scan, pictures: _Pictures) -> bool:
    """Read the pictures group by group. False if one did not come out sound under its stamp."""
    groups: dict[int, dict[int, int]] = {}  # keyframe's stamp -> frame's stamp -> index
    for index in sorted(pictures.rows):
        stamp = scan.frames[index]
        # The keyframe by the time shown, not by place in the file: after it may come frames that
        # are shown before it, and need the group before.
        keyframe = scan.keyframes[bisect_right(scan.keyframes, stamp) - 1]
        groups.setdefault(keyframe, {})[stamp] = index
    try:
        for keyframe, packets in _group_packets(stream, scan, groups):
            missing = groups[keyframe]
            for frame in _decode_wanted(stream.codec_context, packets, set(missing)):
                # FFmpeg fills in what it can't decode, and goes on. What is shown before the
                # keyframe may need frames before it, and is no matter.
                if frame.is_corrupt and not (frame.pts is not None and frame.pts < keyframe):
                    return False
                pictures.look(frame)
                if frame.pts in missing:
                    pictures.put(missing.pop(frame.pts), frame)
            if missing:
                return False
    except av.error.FFmpegError:
        # Damaged, or no sound keyframe: decoding from the start will tell.
        return False
    return True


def _group_packets(
    stream: VideoStream, scan: _Scan, keyframes: Iterable[int]
) -> Iterator[tuple[int, Iterator[VideoPacket]]]:
    """Each keyframe, and the packets from there on for a decoder that knows none before."""
    places: dict[int, int] = {}
    if scan.packets is not None:
        places = {packet.pts or 0: place for place, packet in enumerate(scan.packets)}
    for keyframe in keyframes:
        if scan.packets is not None:
            stream.codec_context.flush_buffers()
            yield keyframe, itertools.islice(scan.packets, places[keyframe], None)
        else:
            container = container_of(stream)
            container.seek(keyframe, stream=stream, backward=True)
            yield keyframe, container.demux(stream)


def _decode_wanted(
    codec: VideoCodecContext, packets: Iterator[VideoPacket], wanted: set[int]
) -> Iterator[VideoFrame]:
    """The frames whose stamps are `wanted`, with others among them, decoding few others."""
    can_skip = codec.name in _CAN_SKIP
    for packet in packets:
        if can_skip:
            codec.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
        yield from codec.decode(packet)
        wanted.discard(packet.pts)
        if not wanted:
            break
    # A decoder holds frames back until it has seen what may be shown before them. No need.
    yield from codec.decode(None)


def _read_from_start(stream: VideoStream, pictures: _Pictures) -> None:
    left = set(pictures.rows)
    newest: int | None = None
    num_frames = 0
    damaged = False
    for frame in container_of(stream).decode(stream):
        # All up to the next keyframe may refer to what could not be decoded, and so may some that
        # are shown before it.
        damaged = frame.is_corrupt or (damaged and not frame.key_frame)
        pictures.look(frame)
        if num_frames in left:
            left.remove(num_frames)
            newest = num_frames
            pictures.put(num_frames, frame)
        reach = _MOST_AHEAD if frame.is_corrupt else 0
        if damaged and newest is not None and newest >= num_frames - reach:
            raise MediaError(f"{pictures.name} is damaged at or near frame {newest}.")
        num_frames += 1
        if newest is not None and not left and num_frames > newest + _MOST_AHEAD:
            return
    if left:
        raise MediaError(f"Frame {min(left)} was asked for, and the video has {num_frames}.")


def _copy_planes(frame: VideoFrame, array: npt.NDArray[np.uint8], turn: Turn) -> None:
    """Copy the bytes of all planes, upright and without padding, one after another."""
    flat = array.reshape(-1)
    start = 0
    for plane in frame.planes:
        # A packed plane's width is in pixels.
        depth = 3 if frame.format.name == "rgb24" else 1
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
        upright = rows[:, : plane.width * depth]
        if turn.filters:
            upright = turn.apply(upright.reshape(plane.height, plane.width, depth))
        end = start + upright.size
        flat[start:end].reshape(upright.shape)[:] = upright
        start = end
