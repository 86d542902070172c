"""Which frames of a video a clip of the model has: sparse segments, in training and in tests.

The video's frames are cut into as many segments as the clip has frames, and one frame is taken of
each. Only indices matter, never times. Source: slowfast/datasets/decoder.py of the reference.
"""

import itertools

import numpy as np

__all__ = ["generator_of", "train_bounds", "train_frames", "view_frames"]


def _edges(video_frames: int, clip_frames: int) -> list[int]:
    """clip_frames + 1 edges; neighbouring segments share theirs. Halves go to the even number."""
    if video_frames < 1 or clip_frames < 1:
        raise ValueError(
            f"video_frames ({video_frames}) and clip_frames ({clip_frames}) must be above 0"
        )
    length = (video_frames - 1) / clip_frames
    return [round(length * place) for place in range(clip_frames + 1)]


def train_bounds(video_frames: int, clip_frames: int) -> list[tuple[int, int]]:
    """First and last frame, both included, that frame i of a training clip is drawn from."""
    edges = _edges(video_frames, clip_frames)
    last = video_frames - 1
    return [(min(a, last), min(b, last)) for a, b in itertools.pairwise(edges)]


def train_frames(generator: np.random.Generator, video_frames: int, clip_frames: int) -> list[int]:
    """One frame of each segment, drawn evenly; a frame at a border may come twice."""
    bounds = train_bounds(video_frames, clip_frames)
    return [int(generator.integers(first, last, endpoint=True)) for first, last in bounds]


def generator_of(seed: int, epoch: int, position: int, repetition: int = 0) -> np.random.Generator:
    """The generator of all that chance decides of the clip at a position of an epoch's order.

    A stream of its own for each: neither rank, worker nor what was drawn before has a part in it.
    """
    # A counter-based generator: `position` and `repetition` are the upper words of its counter.
    return np.random.Generator(
        np.random.Philox(key=[seed, epoch], counter=[0, 0, position, repetition])
    )


def view_frames(video_frames: int, clip_frames: int, view: int, views: int) -> list[int]:
    """The frames of test view `view` of `views`, counted from 0: evenly apart in each segment.

    One view takes the middle of each segment. Of a video shorter than the clip, frames come twice.
    """
    if not 0 <= view < views:
        raise ValueError(f"view ({view}) must be from 0 to views ({views}) - 1")
    edges = _edges(video_frames, clip_frames)
    length = (video_frames - 1) / clip_frames
    offset = int(length / (views + 1) * (view + 1))
    last = video_frames - 1
    return [min(edge + offset, last) for edge in edges[:-1]]
