"""Mixup and CutMix of neighbouring clips, for recipes that ask for them; the published ones don't.

The clips at positions 2k and 2k + 1 of the order are mixed with each other, by a draw that seed,
epoch and k alone decide. So ranks and workers have no part in it, as long as each rank has an even
number of clips. Source: arXiv 1710.09412 and arXiv 1905.04899.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from uniformerv2.dataset.draws import generator_of

__all__ = ["Mix", "Mixing", "draw_mix", "draw_mixes", "mix_clips"]

_MIXED = 1 << 33  # a repetition that no clip has: its streams are of pairs


@dataclass(frozen=True, slots=True)
class Mixing:
    """Parameters of the two Beta distributions; 0 leaves one out, and of two a coin picks one."""

    mixup_alpha: float = 0.0
    cutmix_alpha: float = 0.0


@dataclass(frozen=True, slots=True)
class Mix:
    """What becomes of a pair. `share` is what each clip keeps of itself, of 1."""

    share: float
    # CutMix: what the other clip gives, as shares of the picture: top, left, bottom, right.
    box: tuple[float, float, float, float] | None = None


def draw_mix(generator: np.random.Generator, mixing: Mixing) -> Mix:
    """The draw for one pair of clips. Always the same number of draws from `generator`."""
    coin, down, right = generator.random(3).tolist()
    is_cut = bool(mixing.cutmix_alpha) and (coin < 0.5 or not mixing.mixup_alpha)
    alpha = mixing.cutmix_alpha if is_cut else mixing.mixup_alpha
    if not alpha:
        return Mix(1.0)
    share = float(generator.beta(alpha, alpha))
    if not is_cut:
        return Mix(share)
    half = math.sqrt(1 - share) / 2
    box = (max(down - half, 0), max(right - half, 0), min(down + half, 1), min(right + half, 1))
    return Mix(share, box)


def draw_mixes(mixing: Mixing, seed: int, epoch: int, positions: Sequence[int]) -> list[Mix]:
    """The draw for each pair of clips at these positions of an epoch's order.

    ValueError if two in a row are no pair.
    """
    firsts, seconds = positions[::2], positions[1::2]
    if any(a % 2 or b != a + 1 for a, b in zip(firsts, seconds, strict=True)):
        raise ValueError("clips are mixed in pairs: each rank and part needs an even number")
    return [draw_mix(generator_of(seed, epoch, first // 2, _MIXED), mixing) for first in firsts]


def mix_clips(
    clips: Tensor, labels: Tensor, mixes: Sequence[Mix], num_classes: int
) -> tuple[Tensor, Tensor]:
    """Clips (N, 3, T, S, S) after their mixes, one for each two, and targets (N, num_classes).

    A target has the share of each class; of CutMix it is that of the pixels.
    """
    S = clips.shape[-1]
    clips = clips.clone()
    targets = F.one_hot(labels, num_classes).to(clips.dtype)
    targets = targets.clone()
    for number, mix in enumerate(mixes):
        pair = slice(2 * number, 2 * number + 2)
        share = mix.share
        if mix.box is None:
            clips[pair] = torch.lerp(clips[pair].flip(0), clips[pair], share)
        else:
            top, left, bottom, right = (round(side * S) for side in mix.box)
            share = 1 - (bottom - top) * (right - left) / S**2
            part = clips[pair, ..., top:bottom, left:right]
            clips[pair, ..., top:bottom, left:right] = part.flip(0)
        targets[pair] = torch.lerp(targets[pair].flip(0), targets[pair], share)
    return clips, targets
