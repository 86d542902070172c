"""The operations are Pillow's, to the level; the draws are those of the definition."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from PIL import Image, ImageEnhance, ImageOps

from k710.video.frames import read_frames
from support.list_files import shared
from uniformerv2.augment.rand_augment import apply
from uniformerv2.dataset.draws import OPS, Op, draw_ops

GREY = (128, 128, 128)
FACTORS = (0.1, 0.37, 0.999, 1.0, 1.63, 1.9)
# Name -> how Pillow does it, and values to try.
EXACT: dict[str, tuple[Any, tuple[float, ...]]] = {
    "auto_contrast": (lambda image, _: ImageOps.autocontrast(image), (0,)),
    "equalize": (lambda image, _: ImageOps.equalize(image), (0,)),
    "invert": (lambda image, _: ImageOps.invert(image), (0,)),
    "posterize": (lambda image, value: ImageOps.posterize(image, int(value)), (1, 2, 4)),
    "solarize": (lambda image, value: ImageOps.solarize(image, int(value)), (0, 1, 77, 256)),
    "solarize_add": (
        lambda image, value: image.point(
            [min(255, i + int(value)) if i < 128 else i for i in range(256)] * 3
        ),
        (0, 77, 110),
    ),
    "color": (lambda image, value: ImageEnhance.Color(image).enhance(value), FACTORS),
    "contrast": (lambda image, value: ImageEnhance.Contrast(image).enhance(value), FACTORS),
    "brightness": (lambda image, value: ImageEnhance.Brightness(image).enhance(value), FACTORS),
    "sharpness": (lambda image, value: ImageEnhance.Sharpness(image).enhance(value), FACTORS),
}


def _affine(image: Any, matrix: tuple[float, ...]) -> Any:
    affine, bicubic = Image.Transform.AFFINE, Image.Resampling.BICUBIC
    return image.transform(image.size, affine, matrix, resample=bicubic, fillcolor=GREY)


MOVED: dict[str, tuple[Any, tuple[float, ...]]] = {
    "rotate": (
        lambda image, v: image.rotate(v, resample=Image.Resampling.BICUBIC, fillcolor=GREY),
        (-30, -21.3, 0.4, 17, 30),
    ),
    "shear_x": (lambda image, v: _affine(image, (1, v, 0, 0, 1, 0)), (-0.3, 0.017, 0.21)),
    "shear_y": (lambda image, v: _affine(image, (1, 0, 0, v, 1, 0)), (-0.3, 0.017, 0.21)),
    "translate_x": (
        lambda image, v: _affine(image, (1, 0, v * image.width, 0, 1, 0)),
        (-0.45, 0.013, 0.315),
    ),
    "translate_y": (
        lambda image, v: _affine(image, (1, 0, 0, 0, 1, v * image.height)),
        (-0.45, 0.013, 0.315),
    ),
}


def pictures() -> list[torch.Tensor]:
    """Noise, flat colours, ramps, and two frames that fill a small part of the range; TCHW."""
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (2, 3, 37, 53), dtype=np.uint8)
    flat = np.broadcast_to(np.array([0, 128, 255], np.uint8)[None, :, None, None], (1, 3, 37, 53))
    ramp = np.broadcast_to(np.arange(53, dtype=np.uint8) * 4, (1, 3, 37, 53))
    dim = random.integers(40, 90, (2, 3, 37, 53), dtype=np.uint8)
    return [torch.from_numpy(np.concatenate([noise, flat, ramp, dim]))]


def real_pictures() -> list[torch.Tensor]:
    """Two frames of three real videos, as they lie in memory after decoding."""
    names = ("yoga.mp4", "making_cake.mp4", "hitting_baseball.mp4")
    frames = [read_frames(shared("videos", name), [10, 100]) for name in names]
    return [torch.from_numpy(f).permute(0, 3, 1, 2) for f in frames]


def by_pillow(frames: torch.Tensor, change: Any, value: float) -> torch.Tensor:
    images = [Image.fromarray(f.permute(1, 2, 0).numpy()) for f in frames]
    changed = np.stack([np.asarray(change(image, value)) for image in images])
    return torch.from_numpy(changed).permute(0, 3, 1, 2)


@pytest.mark.parametrize("source", [pictures, real_pictures])
@pytest.mark.parametrize("name", EXACT)
def test_levels_are_those_of_pillow(name: Any, source: Any) -> None:
    change, values = EXACT[name]
    for frames in source():
        for value in values:
            assert torch.equal(apply(frames, Op(name, value)), by_pillow(frames, change, value))


@pytest.mark.parametrize("source", [pictures, real_pictures])
@pytest.mark.parametrize("name", MOVED)
def test_moved_pixels_are_within_a_level_of_pillow(name: Any, source: Any) -> None:
    change, values = MOVED[name]
    for frames in source():
        for value in values:
            got = apply(frames, Op(name, value)).int()
            apart = (got - by_pillow(frames, change, value).int()).abs()
            assert apart.max() <= 1
            assert apart.float().mean() <= 0.02
            assert (got - frames.int()).abs().float().mean() > 0.02, "or else nothing was moved"


def test_all_fifteen_are_compared() -> None:
    assert {*EXACT, *MOVED} == set(OPS)


def test_draws_are_those_of_the_definition() -> None:
    generator = np.random.default_rng(0)
    drawn = [draw_ops(generator) for _ in range(20_000)]
    sizes = Counter(len(ops) for ops in drawn)
    for num, share in enumerate((1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)):
        assert sizes[num] / len(drawn) == pytest.approx(share, abs=0.015)
    values: dict[str, list[float]] = {name: [] for name in OPS}
    for ops in drawn:
        for op in ops:
            values[op.name].append(op.value)
    total = sum(map(len, values.values()))
    assert all(len(v) / total == pytest.approx(1 / 15, abs=0.005) for v in values.values())
    for name, scale, middle in (
        ("rotate", 30, 0),
        ("shear_x", 0.3, 0),
        ("translate_y", 0.45, 0),
        ("contrast", 0.9, 1),
    ):
        signed = (np.array(values[name]) - middle) / scale * 10
        assert np.abs(signed).mean() == pytest.approx(7, abs=0.05)
        assert np.abs(signed).std() == pytest.approx(0.5, abs=0.03)
        assert (signed > 0).mean() == pytest.approx(0.5, abs=0.03)
    # 4 - int(4 m / 10): two bits, and one from 7.5 on, which is one deviation beyond the mean.
    assert set(values["posterize"]) == {1, 2}
    assert np.mean(np.array(values["posterize"]) == 1) == pytest.approx(0.1587, abs=0.02)
    assert np.mean(values["solarize"]) == pytest.approx(256 - 0.7 * 256 + 0.5, abs=1)
    assert np.mean(values["solarize_add"]) == pytest.approx(0.7 * 110 - 0.5, abs=1)


@given(seed=st.integers(0, 2**63))
@settings(max_examples=50)
def test_the_number_of_draws_is_always_the_same(seed: int) -> None:
    one, two = np.random.default_rng(seed), np.random.default_rng(seed)
    draw_ops(one)
    for _ in range(2):
        two.random(4)
    assert draw_ops(np.random.default_rng(seed)) == draw_ops(np.random.default_rng(seed))
    large = draw_ops(np.random.default_rng(seed), magnitude=30, probability=1)
    assert len(large) == 4
    assert all(abs(op.value) <= 256 for op in large)


def test_what_are_no_frames_is_said() -> None:
    with pytest.raises(ValueError, match="frames are uint8 T, 3, H, W"):
        apply(torch.zeros(2, 5, 5, 3, dtype=torch.uint8), Op("invert", 0))
