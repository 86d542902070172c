"""Frames and pictures of a view, exactly as the reference takes them."""

import itertools
import json

import pytest
import torch
from conftest import shared
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from uniformerv2.augment import evaluation_clip
from uniformerv2.frames import train_bounds, view_frames


def test_frames_are_those_of_the_reference() -> None:
    cases = json.loads((shared("reference/uniformerv2") / "frame_sampling.json").read_text())[
        "cases"
    ]
    for case in cases:
        video, clip = case["video_frames"], case["clip_frames"]
        bounds = [list(pair) for pair in train_bounds(video, clip)]
        assert bounds == case["train_segment_bounds_inclusive"]
        for views, each in case["test_views"].items():
            for view, frames in enumerate(each):
                assert view_frames(video, clip, view, int(views)) == frames


@given(video=st.integers(1, 2000), clip=st.integers(1, 64), views=st.integers(1, 10))
def test_frames_ascend_and_are_there(video: int, clip: int, views: int) -> None:
    bounds = train_bounds(video, clip)
    assert (bounds[0][0], bounds[-1][1]) == (0, video - 1)
    assert all(a[1] == b[0] for a, b in itertools.pairwise(bounds))
    for view in range(views):
        frames = view_frames(video, clip, view, views)
        assert frames == sorted(frames) and len(frames) == clip
        assert set(frames) <= set(range(video))


@pytest.mark.parametrize("arguments", [(0, 8, 0, 1), (8, 0, 0, 1), (8, 8, 1, 1), (8, 8, -1, 1)])
def test_what_is_no_view_is_refused(arguments: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError):
        view_frames(*arguments)


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
