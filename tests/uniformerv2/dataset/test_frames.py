"""Frames of a view, exactly as the reference takes them."""

import itertools
import json
from collections import Counter

import pytest
from hypothesis import given, strategies as st

from support.list_files import shared
from uniformerv2.dataset.draws import generator_of
from uniformerv2.dataset.frames import Sampling, train_bounds, view_frames


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


@given(
    video=st.integers(1, 400),
    clip=st.integers(1, 32),
    stride=st.integers(1, 20),
    views=st.integers(1, 10),
    seed=st.integers(0, 99),
)
def test_dense_frames_are_a_stride_apart(
    video: int, clip: int, stride: int, views: int, seed: int
) -> None:
    sampling = Sampling(clip, stride)
    span = (clip - 1) * stride + 1
    drawn = sampling.training(generator_of(seed, 0, 0), video)
    for frames in (drawn, *sampling.views(video, views)):
        assert len(frames) == clip and frames[0] >= 0
        if span <= video:
            assert [b - a for a, b in itertools.pairwise(frames)] == [stride] * (clip - 1)
            assert frames[-1] < video
        else:  # too short: from the start, and the last frame again and again
            assert frames == [min(place * stride, video - 1) for place in range(clip)]
    starts = [frames[0] for frames in sampling.views(video, views)]
    if views > 1 and span <= video:
        assert (starts[0], starts[-1]) == (0, video - span)
        gaps = [b - a for a, b in itertools.pairwise(starts)]
        assert max(gaps) - min(gaps) <= 1
    elif span <= video:
        assert abs(starts[0] - (video - span) / 2) <= 1


def test_dense_starts_are_drawn_evenly() -> None:
    starts = [Sampling(4, 2).training(generator_of(0, 0, n), 16)[0] for n in range(3000)]
    counts = Counter(starts)
    assert sorted(counts) == list(range(10))  # 16 frames, of which a clip spans 7
    assert min(counts.values()) > 0.8 * 300


@given(
    window=st.tuples(st.integers(0, 300), st.integers(1, 200)),
    stride=st.sampled_from([None, 3]),
    seed=st.integers(0, 99),
)
def test_a_window_is_a_video_of_its_own(
    window: tuple[int, int], stride: int | None, seed: int
) -> None:
    start, length = window
    sampling = Sampling(8, stride)
    within = (start, start + length)
    drawn = sampling.training(generator_of(seed, 0, 0), 1000, within)
    alone = sampling.training(generator_of(seed, 0, 0), length)
    assert drawn == [start + index for index in alone]
    assert sampling.views(1000, 3, within) == [
        [start + index for index in view] for view in sampling.views(length, 3)
    ]


@pytest.mark.parametrize("arguments", [(0, 8, 0, 1), (8, 0, 0, 1), (8, 8, 1, 1), (8, 8, -1, 1)])
def test_what_is_no_view_is_refused(arguments: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError):
        view_frames(*arguments)
