"""RandAugment "rand-m7-n4-mstd0.5-inc1" on the frames of a clip: draws, and what they do.

What Pillow makes of a frame, level by level, but on tensors, on any device, all frames at once. The
pixel-wise operations and Sharpness are exact; those that move pixels are within one level, for they
work in float32. Source: the list, levels and probabilities of the reference's
slowfast/datasets/rand_augment.py, which has them from timm; the arithmetic is Pillow's.

Frames are uint8 (T, 3, H, W), RGB, in any memory layout.
"""

import math

import numpy as np
import torch
from torch import Tensor

from uniformerv2.dataset.draws import Op

__all__ = ["apply", "matrix"]

_FILL = 128  # where there is no picture


def apply(frames: Tensor, op: Op) -> Tensor:
    """The frames after `op`. ValueError if they are not uint8 (T, 3, H, W)."""
    if frames.ndim != 4 or frames.shape[1] != 3 or frames.dtype != torch.uint8:
        raise ValueError(f"frames are uint8 T, 3, H, W: not {frames.dtype} {tuple(frames.shape)}")
    match op.name:
        case "auto_contrast":
            return _auto_contrast(frames)
        case "equalize":
            # Here, because it takes a second: most who import this never come to it.
            from torchvision.transforms.functional import equalize

            return equalize(frames)
        case "invert":
            return 255 - frames
        case "posterize":
            return frames & (256 - (1 << (8 - int(op.value))))
        case "solarize":
            return torch.where(frames.int() >= int(op.value), 255 - frames, frames)
        case "solarize_add":
            return torch.where(frames < 128, frames + int(op.value), frames)
        case "color":
            return _blend(_grey(frames), frames, op.value)
        case "contrast":
            return _blend(_mean_grey(frames), frames, op.value)
        case "brightness":
            return _blend(torch.zeros_like(frames), frames, op.value)
        case "sharpness":
            return _blend(_smooth(frames), frames, op.value)
        case _:
            return _moved(frames, matrix(op, *frames.shape[2:]))


# --- levels


def _auto_contrast(frames: Tensor) -> Tensor:
    """The darkest level of each colour of each frame to 0, the brightest to 255."""
    low = frames.amin((2, 3), keepdim=True).double()
    high = frames.amax((2, 3), keepdim=True).double()
    # A table of all levels, as Pillow has it: its rounding is that of float64.
    levels = torch.arange(256, device=frames.device, dtype=torch.float64)
    scale = torch.full_like(low, 255) / (high - low)  # 255 / x would multiply by a reciprocal
    table = (levels * scale + (-low * scale))[..., 0, :].clamp(0, 255).to(torch.uint8)  # T, 3, 256
    table = torch.where((high > low)[..., 0], table, levels.to(torch.uint8))
    return table.gather(2, frames.flatten(2).long()).view_as(frames)


def _grey(frames: Tensor) -> Tensor:
    """(T, 1, H, W) luma in 16 bits of fraction, rounded."""
    red, green, blue = frames.int().unbind(1)
    return ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16).to(torch.uint8)[:, None]


def _smooth(frames: Tensor) -> Tensor:
    """The mean of 3 x 3 pixels, the middle one counted five times; the border is left as it is."""
    height, width = frames.shape[2:]
    if min(height, width) < 3:
        return frames
    x = frames.to(torch.int16)  # 13 levels of 255 are below 32,768
    rows = x[:, :, :-2] + x[:, :, 1:-1] + x[:, :, 2:]
    total = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * x[:, :, 1:-1, 1:-1]
    smooth = frames.clone()
    smooth[:, :, 1:-1, 1:-1] = ((total + 6) // 13).to(torch.uint8)
    return smooth


def _mean_grey(frames: Tensor) -> Tensor:
    """(T, 1, 1, 1) mean luma of each frame, rounded."""
    total = _grey(frames).sum((1, 2, 3), dtype=torch.int64)
    mean = (total.double() / frames[0, 0].numel() + 0.5).to(torch.uint8)
    return mean[:, None, None, None]


def _blend(degenerate: Tensor, frames: Tensor, factor: float) -> Tensor:
    """degenerate + factor (frames - degenerate), cut to 0..255, the fraction dropped."""
    base = degenerate.float()
    mixed = base + float(np.float32(factor)) * (frames.float() - base)
    return mixed.clamp(0, 255).to(torch.uint8)


# --- places


def matrix(op: Op, height: int, width: int) -> tuple[float, float, float, float, float, float]:
    """Output to input: x = a x' + b y' + c, y = d x' + e y' + f, with pixels at their centres."""
    match op.name:
        case "shear_x":
            return (1, op.value, 0, 0, 1, 0)
        case "shear_y":
            return (1, 0, 0, op.value, 1, 0)
        case "translate_x":
            return (1, 0, op.value * width, 0, 1, 0)
        case "translate_y":
            return (1, 0, 0, 0, 1, op.value * height)
        case _:
            angle = -math.radians(op.value % 360)
            a, b = round(math.cos(angle), 15), round(math.sin(angle), 15)
            x, y = width / 2, height / 2
            return (a, b, a * -x + b * -y + x, -b, a, -b * -x + a * -y + y)


def _moved(frames: Tensor, matrix: tuple[float, float, float, float, float, float]) -> Tensor:
    """Bicubic with a = -1; the picture goes on beyond its border for half a pixel, then grey."""
    a, b, c, d, e, f = matrix
    H, W = frames.shape[2:]
    rows = torch.arange(H, device=frames.device, dtype=torch.float64)[:, None] + 0.5
    columns = torch.arange(W, device=frames.device, dtype=torch.float64) + 0.5
    x = a * columns + b * rows + c
    y = d * columns + e * rows + f
    inside = (x >= 0) & (x < W) & (y >= 0) & (y < H)
    left, dx = _taps(x)
    top, dy = _taps(y)
    flat = frames.flatten(2)  # T, 3, H W

    def row(at: Tensor) -> Tensor:
        """Between the pixels of one row each: (T, 3, H, W)."""
        start = at.clamp(0, H - 1) * W
        if b == d == 0 and a == 1 and c == 0:
            return flat[..., start + left.clamp(0, W - 1)].float()
        return _cubic([flat[..., start + (left + k).clamp(0, W - 1)].float() for k in _FOUR], dx)

    y_stays = d == f == 0 and e == 1
    moved = row(top) if y_stays else _cubic([row(top + k) for k in _FOUR], dy)
    moved = moved.clamp(0, 255).to(torch.uint8)
    return torch.where(inside, moved, _FILL)


_FOUR = (-1, 0, 1, 2)


def _taps(place: Tensor) -> tuple[Tensor, Tensor]:
    """The pixel left of a place, and how far beyond its centre that place is."""
    first = (place - 0.5).floor()
    return first.long(), (place - 0.5 - first).float()


def _cubic(v: list[Tensor], d: Tensor) -> Tensor:
    """In this form equal neighbours give themselves exactly."""
    first, second, third = v[2] - v[0], 2 * (v[0] - v[1]) + v[2] - v[3], v[1] - v[0] + v[3] - v[2]
    return v[1] + d * (first + d * (second + d * third))
