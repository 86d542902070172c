"""What a model expects of its frames: their form, and the mean and deviation of their colours."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from uniformerv2.dataset.draws import Draw

__all__ = [
    "CLIP",
    "COLOURS",
    "MEAN",
    "REFERENCE",
    "STD",
    "Colours",
    "check_batch",
    "check_frames",
    "normalise",
    "recolour",
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


def check_batch(frames: Sequence[Tensor], draws: Sequence[Draw]) -> None:
    """ValueError unless clips, uint8 RGB (T, H, W, 3) of one length and device, fit their draws.

    There is one for each, and its box is inside of the frames.
    """
    if not frames or len(frames) != len(draws):
        raise ValueError(f"{len(frames)} clips, {len(draws)} draws: as many of both, one at least")
    T, device = len(frames[0]), frames[0].device
    for clip, drawn in zip(frames, draws, strict=True):
        check_frames(clip)
        num, height, width, _ = clip.shape
        if num != T or clip.device != device:
            raise ValueError(f"clips are of {T} frames on {device}: not {num} on {clip.device}")
        box = drawn.box
        is_inside = min(box.top, box.left) >= 0 < min(box.height, box.width)
        if not is_inside or box.top + box.height > height or box.left + box.width > width:
            raise ValueError(f"{box} must be inside of frames of {height} x {width}")


def check_frames(frames: Tensor) -> None:
    """ValueError unless these are uint8 RGB (T, H, W, 3)."""
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != torch.uint8:
        raise ValueError(f"frames are uint8 T, H, W, 3: not {frames.dtype} {tuple(frames.shape)}")


def normalise(frames: Tensor) -> Tensor:
    """Float (T, 3, H, W) of uint8 (T, H, W, 3)."""
    return (frames.permute(0, 3, 1, 2).float() / 255 - MEAN) / STD


def recolour(x: Tensor, colours: Colours) -> Tensor:
    """(..., 3, T, H, W) that was normalised as the reference does it, as `colours` has it."""
    if colours == REFERENCE:
        return x
    scale = [STD / std for std in colours.std]
    shift = [(MEAN - mean) / std for mean, std in zip(colours.mean, colours.std, strict=True)]
    of_colour = x.new_tensor([scale, shift])[..., None, None, None]
    return torch.addcmul(of_colour[1], x, of_colour[0])
