"""Which frames of a video a clip of the model has: sparse segments, in training and in tests.

The video's frames are cut into as many segments as the clip has frames, and one frame is taken of
each. Only indices matter, never times. Source: slowfast/datasets/decoder.py of the reference.
"""

import itertools

__all__ = ["train_bounds", "view_frames"]


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
