"""The classes of one video, by the mean of its views."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from k710.video.frames import num_frames, read_frames
from uniformerv2.augment.transforms import evaluation_clip
from uniformerv2.dataset.frames import view_frames
from uniformerv2.weights.class_order import ClassOrder

__all__ = ["Prediction", "predict"]

_MIDDLE = (1,)
_ALL = (0, 1, 2)


@dataclass(frozen=True, slots=True)
class Prediction:
    """One class of a video."""

    name: str
    row: int  # of the head
    probability: float  # the mean over views


@torch.inference_mode()
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
    """The `top` classes, the likeliest first, of `views` clips of the video with 1 or 3 crops each.

    Each frame is decoded once. MediaError where the file is no video.
    """
    if crops not in (1, 3):
        raise ValueError(f"crops ({crops}) must be 1 or 3")
    total = num_frames(video)
    chosen = [view_frames(total, clip_frames, view, views) for view in range(views)]
    needed = sorted({index for indices in chosen for index in indices})
    frames = torch.from_numpy(read_frames(video, needed))
    place = {index: row for row, index in enumerate(needed)}
    scores = [
        _probabilities(model, frames[[place[index] for index in indices]], size, crops)
        for indices in chosen
    ]
    mean = torch.cat(scores).mean(0)
    best = mean.topk(min(top, len(mean)))
    unnamed = [f"class {row}" for row in range(len(mean))]
    names = unnamed if order is None else order.names()
    return [
        Prediction(names[row], row, value)
        for value, row in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]


def _probabilities(model: nn.Module, frames: Tensor, size: int, crops: int) -> Tensor:
    clips = [evaluation_clip(frames, size, crop) for crop in (_MIDDLE if crops == 1 else _ALL)]
    logits: Tensor = model(torch.stack(clips))
    return logits.float().softmax(-1)
