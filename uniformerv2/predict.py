"""The classes of videos, by the mean of the views of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from k710.errors import WeightsError, shown
from k710.video.frames import num_frames, read_frames
from uniformerv2.augment.transforms import evaluation_clip
from uniformerv2.dataset.frames import view_frames
from uniformerv2.weights.class_order import ClassOrder

__all__ = ["Prediction", "predict", "predict_videos"]

_MIDDLE = (1,)
_ALL = (0, 1, 2)


@dataclass(frozen=True, slots=True)
class Prediction:
    """One class of a video."""

    name: str
    row: int  # of the head
    probability: float  # the mean over views


def predict(
    model: nn.Module,
    video: str | Path,
    order: ClassOrder | None,
    *,
    size: int,
    clip_frames: int = 8,
    views: int = 1,
    crops: int = 1,
    top: int = 5,
) -> list[Prediction]:
    """Predict the classes of a video, by the mean of the probabilities of several views.

    Args:
        model: From clips, float (N, 3, T, size, size), to logits (N, classes).
        video: A video file; each frame is decoded once.
        order: Which class each row of the head is; without it a row is called "class 7".
        size: Pixels of the model's square input.
        clip_frames: Frames of a clip.
        views: Clips of each video, evenly apart in time.
        crops: 1, the middle, or 3 along the longer side.
        top: How many classes are returned.

    Returns:
        Its `top` classes, the likeliest first.

    Raises:
        MediaError: The file is no video.
        WeightsError: What the model says of it is no number.
        ValueError: `crops` is neither 1 nor 3.
    """
    if crops not in (1, 3):
        raise ValueError(f"crops ({crops}) must be 1 or 3")
    names = None if order is None else order.names()
    mean = _scores(model, video, size, clip_frames, views, crops)
    if not mean.isfinite().all():
        raise WeightsError(
            f"What the model says of {shown(video, limit=1000)} is no number: its weights are "
            "damaged. Try another step of its run."
        )
    best = mean.topk(min(top, len(mean)))
    pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
    return [Prediction(names[row] if names else f"class {row}", row, p) for p, row in pairs]


def predict_videos(
    model: nn.Module,
    videos: Sequence[str | Path],
    order: ClassOrder | None,
    *,
    size: int,
    clip_frames: int = 8,
    views: int = 1,
    crops: int = 1,
    top: int = 5,
) -> list[list[Prediction]]:
    """Predict the classes of each of `videos`, in their order; all else is as of `predict`."""
    return [
        predict(
            model,
            video,
            order,
            size=size,
            clip_frames=clip_frames,
            views=views,
            crops=crops,
            top=top,
        )
        for video in videos
    ]


@torch.inference_mode()
def _scores(
    model: nn.Module, video: str | Path, size: int, clip_frames: int, views: int, crops: int
) -> Tensor:
    """The probabilities (classes,) of a video: the mean of its views."""
    total = num_frames(video)
    chosen = [view_frames(total, clip_frames, view, views) for view in range(views)]
    needed = sorted({index for indices in chosen for index in indices})
    frames = torch.from_numpy(read_frames(video, needed))
    place = {index: row for row, index in enumerate(needed)}
    scores = [
        _probabilities(model, frames[[place[index] for index in indices]], size, crops)
        for indices in chosen
    ]
    return torch.cat(scores).mean(0)


def _probabilities(model: nn.Module, frames: Tensor, size: int, crops: int) -> Tensor:
    clips = [evaluation_clip(frames, size, crop) for crop in (_MIDDLE if crops == 1 else _ALL)]
    logits: Tensor = model(torch.stack(clips))
    return logits.float().softmax(-1)
