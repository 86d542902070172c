"""What becomes of a clip's frames before the model sees them: in tests, and in training.

What chance decides of a clip in training is drawn first, into a `Draw`, from a generator that is
given: where the frames are changed then, on a GPU or on a CPU, decides nothing.
"""

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from uniformerv2.augment.rand_augment import apply
from uniformerv2.dataset.draws import Draw

__all__ = [
    "CLIP",
    "COLOURS",
    "MEAN",
    "REFERENCE",
    "STD",
    "Colours",
    "check_batch",
    "evaluation_clip",
    "normalised",
    "training_batch",
    "training_clip",
]

# Of every colour, on a scale of 0 to 1: the reference's, and not CLIP's own.
MEAN, STD = 0.45, 0.225


@dataclass(frozen=True, slots=True)
class Colours:
    """Mean and standard deviation of red, green and blue, on a scale of 0 to 1."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


REFERENCE = Colours((MEAN,) * 3, (STD,) * 3)
CLIP = Colours((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
"""What OpenAI's CLIP was trained with. The published video models were not."""
COLOURS = {"reference": REFERENCE, "clip": CLIP}

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
    return _finished(_pictures([frames], [drawn], size, antialias), [drawn], colours)[0]


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
        return _finished(_pictures(frames, draws, size, antialias), draws, colours)
    from uniformerv2.augment import triton as augment_triton  # Triton is not there without CUDA

    return _finished(augment_triton.training_batch(frames, draws, size), draws, colours)


def _pictures(
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


def _finished(x: Tensor, draws: Sequence[Draw], colours: Colours) -> Tensor:
    x = _recoloured(x, colours)
    for clip, drawn in zip(x, draws, strict=True):
        _erase(clip, drawn)
    return x


def check_batch(frames: Sequence[Tensor], draws: Sequence[Draw]) -> None:
    """ValueError unless clips, uint8 RGB (T, H, W, 3) of one length and device, fit their draws.

    There is one for each, and its box is inside of the frames.
    """
    if not frames or len(frames) != len(draws):
        raise ValueError(f"{len(frames)} clips, {len(draws)} draws: as many of both, one at least")
    T, device = len(frames[0]), frames[0].device
    for clip, drawn in zip(frames, draws, strict=True):
        _check(clip)
        num, height, width, _ = clip.shape
        if num != T or clip.device != device:
            raise ValueError(f"clips are of {T} frames on {device}: not {num} on {clip.device}")
        box = drawn.box
        is_inside = min(box.top, box.left) >= 0 < min(box.height, box.width)
        if not is_inside or box.top + box.height > height or box.left + box.width > width:
            raise ValueError(f"{box} must be inside of frames of {height} x {width}")


def _check(frames: Tensor) -> None:
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != torch.uint8:
        raise ValueError(f"frames are uint8 T, H, W, 3: not {frames.dtype} {tuple(frames.shape)}")


def _recoloured(x: Tensor, colours: Colours) -> Tensor:
    """(..., 3, T, H, W) that was normalised as the reference does it, as `colours` has it."""
    if colours == REFERENCE:
        return x
    scale = [STD / std for std in colours.std]
    shift = [(MEAN - mean) / std for mean, std in zip(colours.mean, colours.std, strict=True)]
    of_colour = x.new_tensor([scale, shift])[..., None, None, None]
    return torch.addcmul(of_colour[1], x, of_colour[0])


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


def normalised(frames: Tensor) -> Tensor:
    """Float (T, 3, H, W) of uint8 (T, H, W, 3)."""
    return (frames.permute(0, 3, 1, 2).float() / 255 - MEAN) / STD


def evaluation_clip(
    frames: Tensor, size: int, crop: int, *, colours: Colours = REFERENCE
) -> Tensor:
    """Float (3, T, size, size) of uint8 RGB frames (T, H, W, 3).

    `crop` is 0, 1 or 2 along the longer side, 1 being the middle. The short side is scaled to
    `size` without antialiasing, after normalisation. Source: the tests of the reference.
    """
    _check(frames)
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
    x = x[:, :, top : top + size, left : left + size].transpose(0, 1).contiguous()
    return _recoloured(x, colours)
