"""The kernels for a batch give what the eager form gives of each clip, to the level.

Where there is CUDA they run on it: pytest -m cuda. Elsewhere test_triton_interpreted.py runs
this file in Triton's interpreter, which is slow: hence the small frames.
"""

import os
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from uniformerv2.augment import transforms as augment
from uniformerv2.augment.transforms import training_clip
from uniformerv2.dataset.draws import OPS, Box, Chances, Draw, Op, draw, draw_ops, generator_of

pytest.importorskip("triton")
from uniformerv2.augment.transforms import training_batch

IS_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if IS_INTERPRETED else "cuda"
pytestmark = [] if IS_INTERPRETED else [pytest.mark.cuda]

FACTORS, SHARES = (0.37, 1.63), (-0.3, 0.21)
VALUES: dict[str, tuple[float, float]] = {
    "auto_contrast": (0, 0),
    "equalize": (0, 0),
    "invert": (0, 0),
    "rotate": (-21.3, 30),
    "posterize": (1, 4),
    "solarize": (77, 256),
    "solarize_add": (77, 110),
    "color": FACTORS,
    "contrast": FACTORS,
    "brightness": FACTORS,
    "sharpness": FACTORS,
    "shear_x": SHARES,
    "shear_y": SHARES,
    "translate_x": SHARES,
    "translate_y": SHARES,
}


def clip(num: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Noise; then in every other frame a flat colour, a ramp, and a small part of the range."""
    random = np.random.default_rng(seed)
    frames = random.integers(0, 256, (num, height, width, 3), dtype=np.uint8)
    frames[1::2, ..., 0] = 77
    frames[1::2, ..., 1] = np.linspace(0, 255, width).astype(np.uint8)
    frames[1::2, ..., 2] = 40 + frames[1::2, ..., 2] // 5
    return torch.from_numpy(frames)


def check(frames: Sequence[Tensor], draws: Sequence[Draw], size: int) -> Tensor:
    """What the kernels made, and is what the eager form makes: a level more would be 0.017 more."""
    given = [f.clone().to(DEVICE) for f in frames]
    got = training_batch(given, draws, size).cpu()
    assert all(torch.equal(f, g.cpu()) for f, g in zip(frames, given, strict=True))
    expected = torch.stack([training_clip(f, d, size) for f, d in zip(frames, draws, strict=True)])
    assert got.is_contiguous() and got.shape == expected.shape
    apart = (got - expected).abs().flatten(1).amax(1)
    assert apart.max() <= 1e-4, dict(zip(draws, apart.tolist(), strict=True))
    return got


def whole(frames: Tensor) -> Box:
    return Box(0, 0, *frames.shape[1:3])


@pytest.mark.parametrize("name", OPS)
def test_each_operation_is_the_eager_one(name: str) -> None:
    frames = [clip(2, 20, 17), clip(2, 11, 19)]
    ops = [Op(name, value) for value in VALUES[name]]
    check(frames, [Draw((op,), whole(f), False) for f, op in zip(frames, ops, strict=True)], 20)


def test_a_batch_is_what_its_clips_are() -> None:
    """Whatever they do in a round, wherever they lie, whatever else is in the batch."""
    sizes = [(13, 17), (11, 19), (2, 9), (13, 17), (5, 1)]
    frames = [clip(2, *size, seed) for seed, size in enumerate(sizes)]
    frames[3] = frames[0]  # repeated augmentation
    draws = [draw(generator_of(34, 0, i), *size) for i, size in enumerate(sizes)]
    assert {len(d.ops) for d in draws} == {0, 1, 2, 3} and len({d.is_flipped for d in draws}) == 2
    together = check(frames, draws, 9)
    # In another order, one after another in memory, but for one of them that is not contiguous.
    order = [2, 0, 4]
    flat = torch.cat([torch.zeros(1, dtype=torch.uint8), *(frames[i].flatten() for i in order)])
    parts = flat[1:].split([frames[i].numel() for i in order])
    views = [part.view_as(frames[i]) for part, i in zip(parts, order, strict=True)]
    views.append(torch.nn.functional.pad(frames[1], (0, 0, 0, 3))[:, :, :19])
    again = training_batch([f.to(DEVICE) for f in views], [draws[i] for i in (*order, 1)], 9)
    assert torch.equal(again.cpu(), together[[*order, 1]])


@pytest.mark.parametrize("box", [Box(1, 2, 3, 699), Box(0, 680, 4, 21), Box(0, 0, 1, 1)])
def test_a_box_is_scaled_and_turned(box: Box) -> None:
    frames = clip(2, 4, 701)
    check([frames, frames], [Draw((), box, is_flipped) for is_flipped in (False, True)], 40)


@pytest.mark.skipif(IS_INTERPRETED, reason="large frames")
def test_at_the_sizes_of_training() -> None:
    for name, values in VALUES.items():
        frames = [clip(2, 320, 568), clip(2, 240, 320), clip(2, 569, 321)]
        ops = [Op(name, value) for value in (*values, values[0])]
        check(
            frames, [Draw((op,), whole(f), False) for f, op in zip(frames, ops, strict=True)], 224
        )
    frames = [clip(8, *size) for size in ((320, 568), (240, 320), (256, 340), (320, 180))] * 2
    generator = np.random.default_rng(0)
    chances = Chances(erase=0.5)
    draws = [draw(generator, *f.shape[1:3], chances) for f in frames]
    draws[0] = Draw(draw_ops(generator, probability=1), draws[0].box, True)
    check(frames, [Draw(d.ops, d.box, d.is_flipped) for d in draws], 224)
    got = augment.training_batch([f.to(DEVICE) for f in frames], draws, 224).cpu()
    assert (got - augment.training_batch(frames, draws, 224)).abs().max() <= 1e-4
