"""What chance decides of a clip in training, and that only that decides it."""

from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from support.list_files import shared
from uniformerv2.augment.colours import CLIP, MEAN, STD, normalise
from uniformerv2.augment.rand_augment import apply
from uniformerv2.augment.transforms import evaluation_clip, training_batch, training_clip
from uniformerv2.dataset.draws import Box, Draw, Op, draw, generator_of
from uniformerv2.dataset.frames import train_bounds, train_frames


def noise(height: int = 40, width: int = 60) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (4, height, width, 3), dtype=torch.uint8, generator=generator)


def test_a_clip_is_the_box_scaled_and_turned() -> None:
    frames = noise()
    drawn = Draw((Op("invert", 0), Op("rotate", 20)), Box(3, 5, 30, 41), True)
    x = frames.permute(0, 3, 1, 2)
    for op in drawn.ops:
        x = apply(x, op)
    # As the reference has it: normalised first, then cut, scaled, turned.
    whole = normalise(x.permute(0, 2, 3, 1))[:, :, 3:33, 5:46]
    expected = F.interpolate(whole, (24, 24), mode="bilinear", align_corners=False).flip(3)
    assert torch.allclose(training_clip(frames, drawn, 24), expected.transpose(0, 1), atol=1e-6)
    plain = Draw((), Box(0, 0, 40, 60), False)
    alike = training_clip(frames, plain, 24, antialias=True)
    assert not torch.allclose(alike, training_clip(frames, plain, 24), atol=0.1)


def test_frames_are_drawn_from_their_segments_borders_too() -> None:
    bounds = train_bounds(20, 4)
    drawn = np.array([train_frames(generator_of(0, 0, place), 20, 4) for place in range(4000)])
    for column, (first, last) in zip(drawn.T, bounds, strict=True):
        counts = Counter(column.tolist())
        assert sorted(counts) == list(range(first, last + 1))
        assert min(counts.values()) > 0.8 * len(drawn) / (last - first + 1)


def test_what_is_blotted_out_is_the_mean() -> None:
    frames, box = noise(), Box(3, 5, 30, 41)
    plain = training_clip(frames, Draw((), box, True), 24)
    for erased, rows, columns in (
        ((0.26, 0.5, 0.24, 0.3), slice(6, 12), slice(12, 19)),
        ((0.99, 0.5, 0.001, 0.001), slice(23, 24), slice(12, 13)),  # a pixel at least
    ):
        expected = plain.clone()
        expected[:, :, rows, columns] = 0
        assert torch.equal(training_clip(frames, Draw((), box, True, erased), 24), expected)


@pytest.mark.parametrize("antialias", [False, True])
def test_a_batch_may_differ_in_sizes(antialias: bool) -> None:
    frames = [noise(40, 60), noise(30, 50), noise(40, 60)]
    draws = [draw(generator_of(0, 0, i), *f.shape[1:3]) for i, f in enumerate(frames)]
    batch = training_batch(frames, draws, 24, antialias=antialias)
    for x, one, drawn in zip(batch, frames, draws, strict=True):
        assert torch.equal(x, training_clip(one, drawn, 24, antialias=antialias))


def test_what_is_no_batch_is_said() -> None:
    frames, drawn = noise(), Draw((), Box(0, 0, 40, 60), False)
    for clips, draws, said in (
        ([], [], "0 clips, 0 draws: as many of both, one at least"),
        ([frames], [drawn, drawn], "1 clips, 2 draws"),
        ([frames.float()], [drawn], "frames are uint8 T, H, W, 3: not torch.float32"),
        ([frames, frames[:3]], [drawn, drawn], "clips are of 4 frames on cpu: not 3 on cpu"),
        ([frames], [Draw((), Box(1, 0, 40, 60), False)], "must be inside of frames of 40 x 60"),
        ([frames], [Draw((), Box(0, -1, 40, 60), False)], "must be inside of frames of 40 x 60"),
        ([frames], [Draw((), Box(0, 0, 0, 60), False)], "must be inside of frames of 40 x 60"),
    ):
        with pytest.raises(ValueError, match=said):
            training_batch(clips, draws, 24)


def test_colours_of_clip_are_another_scale() -> None:
    frames, drawn = noise(), Draw((Op("invert", 0),), Box(3, 5, 30, 41), False)
    mean, std = (torch.tensor(x)[:, None, None, None] for x in (CLIP.mean, CLIP.std))
    for clip in (
        lambda **options: training_clip(frames, drawn, 24, **options),
        lambda **options: evaluation_clip(frames, 24, 1, **options),
        lambda **options: training_batch([frames], [drawn], 24, **options)[0],
    ):
        levels = clip() * STD + MEAN
        assert torch.allclose(clip(colours=CLIP), (levels - mean) / std, atol=1e-5)


@pytest.mark.parametrize("name", ["landscape", "portrait", "rounding"])
def test_pictures_are_those_of_the_reference(name: str) -> None:
    tensors = load_file(shared("reference/uniformerv2") / f"spatial_{name}.safetensors")
    frames = next(t for t in tensors.values() if t.dtype == torch.uint8)
    crops = {k: t for k, t in tensors.items() if t.dtype == torch.float32}
    assert len(crops) == 3
    for key, expected in crops.items():
        crop = int(key.removeprefix("crop")[0])
        got = evaluation_clip(frames, expected.shape[-1], crop)
        assert torch.allclose(got, expected, atol=1e-5), key
