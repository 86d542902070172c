"""What chance decides of a clip in training: drawn once, from a generator that is given.

Where the frames are changed then, on a GPU or on a CPU, decides nothing; so the draws need no
PyTorch, and workers make them. Source: RandAugment's list, levels and probabilities are those of
the reference's slowfast/datasets/rand_augment.py ("rand-m7-n4-mstd0.5-inc1"), which has them from
timm; boxes are those of its slowfast/datasets/transform.py.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import numpy as np
from msgspec import Meta

from uniformerv2.field_types import Above0, Checked, Share

__all__ = ["OPS", "Box", "Chances", "Draw", "Op", "draw", "draw_ops", "generator_of"]

Name = Literal[
    "auto_contrast",
    "equalize",
    "invert",
    "rotate",
    "posterize",
    "solarize",
    "solarize_add",
    "color",
    "contrast",
    "brightness",
    "sharpness",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
]
OPS: tuple[Name, ...] = get_args(Name)
_SIGNED = {"rotate", "color", "contrast", "brightness", "sharpness"}
_SIGNED |= {"shear_x", "shear_y", "translate_x", "translate_y"}
_TRIES = 10  # of a box
_ERASED_AREA = (0.02, 1 / 3)  # as a share of the picture that is trained on
_ERASED_ASPECT = (0.3, 1 / 0.3)  # height to width
_Area = Annotated[tuple[Above0, Share], Meta(description="two shares, the smaller first")]
_Aspect = Annotated[tuple[Above0, Above0], Meta(description="two ratios, the smaller first")]


@dataclass(frozen=True, slots=True)
class Op:
    """One operation on all frames of a clip. `value` is what it needs, and 0 if nothing:

    degrees; bits that are kept; the level from which on is inverted; what is added; the factor of
    an enhancement; the slope of a shear; the share of width or height of a translation.
    """

    name: Name
    value: float


@dataclass(frozen=True, slots=True)
class Box:
    """A part of a frame, in pixels."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Chances(Checked):
    """What may be drawn; as the reference's training has it unless told otherwise."""

    rand_augment: bool = True
    flip: Share = 0.5
    area: _Area = (0.08, 1.0)  # of the box that is cut out, as a share of the frame
    aspect: _Aspect = (0.75, 1.3333)  # of the box, width to height
    erase: Share = 0.0

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        for name, (low, high) in (("area", self.area), ("aspect", self.aspect)):
            if low > high:
                raise ValueError(f"{name} ({low}, {high}) must have the smaller first")


_DEFAULT = Chances()


@dataclass(frozen=True, slots=True)
class Draw:
    """What chance decides of one clip; the same for all its frames."""

    ops: tuple[Op, ...]  # of RandAugment, on the whole frame
    box: Box
    is_flipped: bool
    # What is blotted out, as shares of the picture: top, left, height, width.
    erased: tuple[float, float, float, float] | None = None


def draw(
    generator: np.random.Generator, height: int, width: int, chances: Chances = _DEFAULT
) -> Draw:
    """The draw for a clip of frames of that size.

    After ten boxes that don't fit, it is the middle of the picture. What is switched off changes
    nothing else: it is drawn nevertheless, or comes last.
    """
    ops = draw_ops(generator)
    box = _box(generator, height, width, chances)
    is_flipped = bool(generator.random() < chances.flip)
    erased = _erased(generator, chances.erase)
    return Draw(ops if chances.rand_augment else (), box, is_flipped, erased)


def _box(generator: np.random.Generator, height: int, width: int, chances: Chances) -> Box:
    area, aspect = chances.area, chances.aspect
    areas = generator.uniform(*area, _TRIES) * (height * width)
    ratios = np.exp(generator.uniform(math.log(aspect[0]), math.log(aspect[1]), _TRIES))
    down, right = generator.random(2)
    for size, ratio in zip(areas.tolist(), ratios.tolist(), strict=True):
        w, h = round(math.sqrt(size * ratio)), round(math.sqrt(size / ratio))
        if 0 < w <= width and 0 < h <= height:
            return Box(int(down * (height - h + 1)), int(right * (width - w + 1)), h, w)
    w = min(width, round(height * aspect[1]))
    h = min(height, round(width / aspect[0]))
    return Box((height - h) // 2, (width - w) // 2, h, w)


def _erased(
    generator: np.random.Generator, probability: float
) -> tuple[float, float, float, float] | None:
    if not probability:
        return None  # no draw comes after these
    areas = generator.uniform(*_ERASED_AREA, _TRIES)
    low, high = _ERASED_ASPECT
    logs = generator.uniform(math.log(low), math.log(high), _TRIES)
    is_erased, down, right = generator.random(3)
    if is_erased >= probability:
        return None
    for area, ratio in zip(areas.tolist(), np.exp(logs).tolist(), strict=True):
        height, width = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if height < 1 and width < 1:
            return float(down * (1 - height)), float(right * (1 - width)), height, width
    return None


def draw_ops(
    generator: np.random.Generator,
    *,
    num_ops: int = 4,
    magnitude: float = 7.0,
    magnitude_std: float = 0.5,
    probability: float = 0.5,
) -> tuple[Op, ...]:
    """Up to `num_ops` operations for a clip, with replacement, each left out by chance.

    Magnitudes are normal, and clipped to 0..10. Always the same number of draws from `generator`.
    """
    names = generator.integers(len(OPS), size=num_ops).tolist()
    is_applied = generator.random(num_ops).tolist()
    magnitudes = generator.normal(magnitude, magnitude_std, num_ops).tolist()
    is_negative = generator.random(num_ops).tolist()
    return tuple(
        Op(OPS[name], _value(OPS[name], min(max(m, 0.0), 10.0) / 10, negative < 0.5))
        for name, m, negative, applied in zip(
            names, magnitudes, is_negative, is_applied, strict=True
        )
        if applied < probability
    )


def _value(name: Name, share: float, is_negative: bool) -> float:
    sign = -1 if is_negative and name in _SIGNED else 1
    match name:
        case "rotate":
            return sign * 30 * share
        case "posterize":
            return 4 - int(4 * share)
        case "solarize":
            return 256 - int(256 * share)
        case "solarize_add":
            return int(110 * share)
        case "color" | "contrast" | "brightness" | "sharpness":
            return 1 + sign * 0.9 * share
        case "shear_x" | "shear_y":
            return sign * 0.3 * share
        case "translate_x" | "translate_y":
            return sign * 0.45 * share
        case _:
            return 0.0


def generator_of(seed: int, epoch: int, position: int, repetition: int = 0) -> np.random.Generator:
    """The generator of all that chance decides of the clip at a position of an epoch's order.

    A stream of its own for each: neither rank, worker nor what was drawn before has a part in it.
    """
    # A counter-based generator: `position` and `repetition` are the upper words of its counter.
    key = np.array([seed, epoch], dtype=np.uint64)  # NumPy makes floats of large ints in a list
    counter = np.array([0, 0, position, repetition], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
