"""What becomes of a clip's frames before the model sees them: in tests, and in training.

What chance decides of a clip in training is drawn first, into a `Draw`, from a generator that is
given: where the frames are changed then, on a GPU or on a CPU, decides nothing.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from uniformerv2.draws import Draw
from uniformerv2.rand_augment import apply

__all__ = ["MEAN", "STD", "evaluation_clip", "normalised", "training_clip"]

# Of every colour, on a scale of 0 to 1: the reference's, and not CLIP's own.
MEAN, STD = 0.45, 0.225


def training_clip(frames: Tensor, drawn: Draw, size: int, *, antialias: bool = False) -> Tensor:
    """Float (3, T, size, size) of uint8 RGB frames (T, H, W, 3), on their device.

    RandAugment on the whole frames, the box scaled to `size`, turned round left to right.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != torch.uint8:
        raise ValueError(f"frames are uint8 T, H, W, 3: not {frames.dtype} {tuple(frames.shape)}")
    x = frames.permute(0, 3, 1, 2)
    for op in drawn.ops:
        x = apply(x, op)
    box = drawn.box
    x = x[:, :, box.top : box.top + box.height, box.left : box.left + box.width]
    x = (x.float() / 255 - MEAN) / STD
    x = F.interpolate(x, (size, size), mode="bilinear", align_corners=False, antialias=antialias)
    return (x.flip(3) if drawn.is_flipped else x).transpose(0, 1).contiguous()


def normalised(frames: Tensor) -> Tensor:
    """Float (T, 3, H, W) of uint8 (T, H, W, 3)."""
    return (frames.permute(0, 3, 1, 2).float() / 255 - MEAN) / STD


def evaluation_clip(frames: Tensor, size: int, crop: int) -> Tensor:
    """Float (3, T, size, size) of uint8 RGB frames (T, H, W, 3): `crop` 0, 1 or 2 along the longer

    side, 1 being the middle. The short side is scaled to `size` without antialiasing, after
    normalisation. Source: the tests of the reference.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != torch.uint8:
        raise ValueError(f"frames are uint8 T, H, W, 3: not {frames.dtype} {tuple(frames.shape)}")
    if crop not in (0, 1, 2):
        raise ValueError(f"crop ({crop}) must be 0, 1 or 2")
    height, width = frames.shape[1:3]
    # In this order, in float64: with integers some sizes would come out a pixel longer.
    long = math.floor((max(height, width) / min(height, width)) * size)
    scaled_size = (long, size) if height > width else (size, long)
    x = normalised(frames)
    if (height, width) != scaled_size:
        x = F.interpolate(x, scaled_size, mode="bilinear", align_corners=False)
    along = (0, math.ceil((long - size) / 2), long - size)[crop]
    top, left = (along, 0) if height > width else (0, along)
    return x[:, :, top : top + size, left : left + size].transpose(0, 1).contiguous()
