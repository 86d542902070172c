"""Clips out of shards into memory, with what chance decides of them: what a worker does all day.

Needs no PyTorch. What comes out is a function of the request alone: of which clip it is, of the
epoch and of the place in its order, and never of the process that does it or of what it did before.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from k710.errors import MediaError
from k710.video.frames import read_frames
from uniformerv2.dataset.draws import Chances, Draw, draw, generator_of
from uniformerv2.dataset.frames import Sampling
from uniformerv2.dataset.shard_reader import ByteSpan, ShardReader

__all__ = ["ClipRead", "Place", "Reading", "Request", "read_clip", "read_request", "spread"]

Bytes = npt.NDArray[np.uint8]
_ALIGNED = 64  # bytes: a line of the cache, and more than any vector load asks for


class Place(NamedTuple):
    """One clip that is to be read, and where in the order of which epoch it comes."""

    row: int  # of the view
    span: ByteSpan
    num_frames: int
    height: int
    width: int
    epoch: int
    position: int


class Request(NamedTuple):
    """Clips that one worker reads at a time, in their order."""

    number: int
    batch: int  # that the clips are of, counted as they are asked for
    places: tuple[Place, ...]


class ClipRead(NamedTuple):
    """What came of one clip: its draws, one for each repetition, or why it is broken."""

    draws: tuple[Draw, ...]
    error: str | None
    fetch_s: float
    decode_s: float
    shape: tuple[int, ...] = ()  # of its frames, as `Reading.shape` has it


@dataclass(frozen=True, slots=True)
class Reading:
    """What is read of each clip, the same for all clips of a run.

    In training `repetitions` draws of one choice of frames; in evaluation (`chances` is None) the
    frames of all `views`, one view after another.
    """

    reader: ShardReader
    sampling: Sampling = field(default_factory=Sampling)
    chances: Chances | None = None
    repetitions: int = 1
    views: int = 1
    seed: int = 0

    @property
    def num_frames(self) -> int:
        """How many frames are read of a clip."""
        return self.sampling.clip_frames * (self.views if self.chances is None else 1)

    def shape(self, place: Place) -> tuple[int, int, int, int]:
        """Of the clip's frames: number, height, width, colours."""
        return self.num_frames, place.height, place.width, 3


def spread(reading: Reading, places: Sequence[Place]) -> tuple[list[int], int]:
    """Where in one block of memory the frames of each clip start, and the block's bytes."""
    starts, end = [], 0
    for place in places:
        starts.append(end)
        frames, height, width, colours = reading.shape(place)
        end += -(-frames * height * width * colours // _ALIGNED) * _ALIGNED
    return starts, max(end, _ALIGNED)


def read_request(
    reading: Reading, request: Request, data: Sequence[tuple[bytes, float]], block: Bytes
) -> list[ClipRead]:
    """Decode the clips of a request into `block`; `data` has their bytes, and how long they took.

    A clip that can't be decoded has its error there, and nothing that counts in the block.
    """
    starts, _ = spread(reading, request.places)
    done = []
    for place, start, (content, fetch_s) in zip(request.places, starts, data, strict=True):
        shape = reading.shape(place)
        began = time.perf_counter()
        draws: tuple[Draw, ...] = ()
        error = None
        frames = block[start : start + math.prod(shape)].reshape(shape)
        try:
            draws, frames = read_clip(reading, place, content, frames)
        except MediaError as reason:
            error = str(reason)
        decode_s = time.perf_counter() - began
        done.append(ClipRead(draws, error, fetch_s, decode_s, frames.shape))
    return done


def read_clip(
    reading: Reading, place: Place, content: bytes, out: Bytes
) -> tuple[tuple[Draw, ...], Bytes]:
    """Fill `out` with the clip's frames; returns its draws, none in evaluation, and the frames.

    Those are `out`, or a view of it with height and width swapped: the index has the size that
    pictures have in a file, and shards may hold one whose pictures lie on their side in it.
    MediaError where its bytes are no such video.
    """
    if reading.chances is None:
        views = reading.sampling.views(place.num_frames, reading.views)
        frames = read_frames(content, [index for view in views for index in view], out=out)
        return (), frames
    generators = [
        generator_of(reading.seed, place.epoch, place.position, repetition)
        for repetition in range(reading.repetitions)
    ]
    # The frames come first out of the first stream: they are decoded once for all repetitions.
    chosen = reading.sampling.training(generators[0], place.num_frames)
    frames = read_frames(content, chosen, out=out)
    height, width = frames.shape[1:3]
    draws = tuple(draw(generator, height, width, reading.chances) for generator in generators)
    return draws, frames
