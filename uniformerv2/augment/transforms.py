"""What becomes of a clip's frames before the model sees them: in tests, and in training.

What chance decides of a clip in training is drawn first, into a `Draw`, from a generator that is
given: where the frames are changed then, on a GPU or on a CPU, decides nothing.
"""

import importlib.util
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from uniformerv2.augment.colours import (
    MEAN,
    REFERENCE,
    STD,
    Colours,
    check_batch,
    check_frames,
    normalise,
    recolour,
)
from uniformerv2.augment.rand_augment import apply
from uniformerv2.dataset.draws import Draw

__all__ = ["evaluation_clip", "training_batch", "training_clip"]

_HAS_TRITON = importlib.util.find_spec("triton") is not None


def training_clip(
    frames: Tensor,
    drawn: Draw,
    size: int,
    *,
    antialias: bool = False,
    colours: Colours = REFERENCE,
) -> Tensor:
    """Float (3, T, size, size) of uint8 RGB frames (T, H, W, 3), on their device.

    RandAugment on the whole frames, the box scaled to `size`, turned round left to right, a part of
    that blotted out. By PyTorch's own operations on any device. ValueError as of `check_batch`.
    """
    return _finish(_make_pictures([frames], [drawn], size, antialias), [drawn], colours)[0]


def training_batch(
    frames: Sequence[Tensor],
    draws: Sequence[Draw],
    size: int,
    *,
    antialias: bool = False,
    colours: Colours = REFERENCE,
) -> Tensor:
    """Float (N, 3, T, size, size) of N clips uint8 RGB (T, H, W, 3), each with its draw.

    What `training_clip` makes of each; they may differ in H and W. On CUDA through kernels in
    Triton, where that is installed, unless with `antialias`. ValueError as of `check_batch`.
    """
    if antialias or not frames or not frames[0].is_cuda or not _HAS_TRITON:
        return _finish(_make_pictures(frames, draws, size, antialias), draws, colours)
    from uniformerv2.augment.triton import make_pictures  # Triton is not there without CUDA

    return _finish(make_pictures(frames, draws, size), draws, colours)


def _make_pictures(
    frames: Sequence[Tensor], draws: Sequence[Draw], size: int, antialias: bool
) -> Tensor:
    """All but colours of another mean, and what is erased."""
    check_batch(frames, draws)
    out = torch.empty(len(frames), 3, len(frames[0]), size, size, device=frames[0].device)
    for clip, drawn, picture in zip(frames, draws, out, strict=True):
        x = clip.permute(0, 3, 1, 2)
        for op in drawn.ops:
            x = apply(x, op)
        box = drawn.box
        x = x[:, :, box.top : box.top + box.height, box.left : box.left + box.width]
        x = x.transpose(0, 1).to(torch.float32, memory_format=torch.contiguous_format)
        x = F.interpolate(
            x, (size, size), mode="bilinear", align_corners=False, antialias=antialias
        )
        picture.copy_(x.flip(3) if drawn.is_flipped else x)
    # After scaling, and all at once: equal but for rounding, and on a CPU a third quicker.
    return out.sub_(255 * MEAN).mul_(1 / (255 * STD))


def _finish(x: Tensor, draws: Sequence[Draw], colours: Colours) -> Tensor:
    x = recolour(x, colours)
    for clip, drawn in zip(x, draws, strict=True):
        _erase(clip, drawn)
    return x


def _erase(x: Tensor, drawn: Draw) -> None:
    """Put the mean, which is 0, on what is blotted out of (..., size, size), in place.

    That is whole pixels, one at least.
    """
    if drawn.erased is None:
        return
    size = x.shape[-1]
    top, left, height, width = (round(share * size) for share in drawn.erased)
    top, left = min(top, size - 1), min(left, size - 1)
    x[..., top : top + max(height, 1), left : left + max(width, 1)] = 0


def evaluation_clip(
    frames: Tensor, size: int, crop: int, *, colours: Colours = REFERENCE
) -> Tensor:
    """Float (3, T, size, size) of uint8 RGB frames (T, H, W, 3).

    `crop` is 0, 1 or 2 along the longer side, 1 being the middle. The short side is scaled to
    `size` without antialiasing, after normalisation. Source: the tests of the reference.
    """
    check_frames(frames)
    if crop not in (0, 1, 2):
        raise ValueError(f"crop ({crop}) must be 0, 1 or 2")
    height, width = frames.shape[1:3]
    # In this order, in float64: with integers some sizes would come out a pixel longer.
    long = math.floor((max(height, width) / min(height, width)) * size)
    scaled_size = (long, size) if height > width else (size, long)
    x = normalise(frames)
    if (height, width) != scaled_size:
        x = F.interpolate(x, scaled_size, mode="bilinear", align_corners=False)
    along = (0, math.ceil((long - size) / 2), long - size)[crop]
    top, left = (along, 0) if height > width else (0, along)
    x = x[:, :, top : top + size, left : left + size].transpose(0, 1).contiguous()
    return recolour(x, colours)
