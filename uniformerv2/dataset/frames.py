"""Which frames of a video a clip of the model has, in training and in tests.

Sparse: the video's frames are cut into as many segments as the clip has frames, and one frame is
taken of each. Dense: frames that are a stride apart. Only indices matter, never times. Source of
the sparse form: slowfast/datasets/decoder.py of the reference.
"""

import itertools
from dataclasses import dataclass

import numpy as np

__all__ = ["Sampling", "train_bounds", "train_frames", "view_frames"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How frames are chosen: `clip_frames` of them; sparse, or dense with a `stride`."""

    clip_frames: int = 8
    stride: int | None = None

    def training(
        self,
        generator: np.random.Generator,
        video_frames: int,
        window: tuple[int, int] | None = None,
    ) -> list[int]:
        """The frames of a training clip, drawn; of the part [start, end) of the video if told."""
        start, end = window or (0, video_frames)
        if self.stride is None:
            drawn = train_frames(generator, end - start, self.clip_frames)
        else:
            room = self._room(end - start)
            drawn = self._dense(int(generator.integers(0, room, endpoint=True)), end - start)
        return [start + index for index in drawn]

    def views(
        self, video_frames: int, views: int, window: tuple[int, int] | None = None
    ) -> list[list[int]]:
        """The frames of each test view, evenly apart in time; one view is in the middle."""
        start, end = window or (0, video_frames)
        if self.stride is None:
            chosen = [view_frames(end - start, self.clip_frames, v, views) for v in range(views)]
        else:
            room, last = self._room(end - start), max(views - 1, 1)
            starts = [room * view // last if views > 1 else room // 2 for view in range(views)]
            chosen = [self._dense(first, end - start) for first in starts]
        return [[start + index for index in indices] for indices in chosen]

    def _room(self, video_frames: int) -> int:
        assert self.stride is not None
        return max(video_frames - 1 - (self.clip_frames - 1) * self.stride, 0)

    def _dense(self, first: int, video_frames: int) -> list[int]:
        """Of a video that is too short, the last frame comes again."""
        assert self.stride is not None
        indices = (first + place * self.stride for place in range(self.clip_frames))
        return [min(index, video_frames - 1) for index in indices]


def _edges(video_frames: int, clip_frames: int) -> list[int]:
    """clip_frames + 1 edges; neighbouring segments share theirs. Halves go to the even number."""
    if video_frames < 1 or clip_frames < 1:
        raise ValueError(
            f"video_frames ({video_frames}) and clip_frames ({clip_frames}) must be above 0"
        )
    length = (video_frames - 1) / clip_frames
    return [round(length * place) for place in range(clip_frames + 1)]


def train_bounds(video_frames: int, clip_frames: int) -> list[tuple[int, int]]:
    """The frames of a video among which each frame of a training clip is drawn.

    Args:
        video_frames: Frames of the video.
        clip_frames: Frames of the clip.

    Returns:
        One (first, last) for each frame of the clip, both included, counted from 0.

    Raises:
        ValueError: One of the numbers is not above 0.
    """
    edges = _edges(video_frames, clip_frames)
    last = video_frames - 1
    return [(min(a, last), min(b, last)) for a, b in itertools.pairwise(edges)]


def train_frames(generator: np.random.Generator, video_frames: int, clip_frames: int) -> list[int]:
    """One frame of each segment, drawn evenly; a frame at a border may come twice."""
    bounds = train_bounds(video_frames, clip_frames)
    return [int(generator.integers(first, last, endpoint=True)) for first, last in bounds]


def view_frames(video_frames: int, clip_frames: int, view: int, views: int) -> list[int]:
    """The frames of one test view, evenly apart in each segment; one view takes the middle.

    Args:
        video_frames: Frames of the video.
        clip_frames: Frames of the clip.
        view: Which view, from 0.
        views: How many there are.

    Returns:
        `clip_frames` indices, counted from 0; of a video shorter than the clip, some come twice.

    Raises:
        ValueError: `view` is not one of the views, or a number of frames is not above 0.
    """
    if not 0 <= view < views:
        raise ValueError(f"view ({view}) must be from 0 to views ({views}) - 1")
    edges = _edges(video_frames, clip_frames)
    length = (video_frames - 1) / clip_frames
    offset = int(length / (views + 1) * (view + 1))
    last = video_frames - 1
    return [min(edge + offset, last) for edge in edges[:-1]]
