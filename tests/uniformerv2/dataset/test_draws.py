"""What chance decides of a clip in training: boxes, and a stream of its own for each clip."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from uniformerv2.dataset.draws import Box, Chances, draw, generator_of

SIDE = st.integers(1, 700)


@given(seed=st.integers(0, 2**32), height=SIDE, width=SIDE)
@settings(max_examples=100)
def test_a_box_lies_in_the_frame(seed: int, height: int, width: int) -> None:
    box = draw(np.random.default_rng(seed), height, width).box
    assert box.top >= 0 and box.left >= 0 and box.height > 0 and box.width > 0
    assert box.top + box.height <= height and box.left + box.width <= width


def test_boxes_are_drawn_as_defined() -> None:
    generator = np.random.default_rng(0)
    height, width = 1000, 1000  # so large that rounding does not matter
    boxes = [draw(generator, height, width).box for _ in range(5000)]
    ratios = np.log([box.width / box.height for box in boxes])
    assert math.log(0.75) - 0.01 <= ratios.min() and ratios.max() <= math.log(1.3333) + 0.01
    assert ratios.mean() == pytest.approx(0, abs=0.01)
    shares = np.array([box.width * box.height for box in boxes]) / (height * width)
    assert shares.min() >= 0.079 and np.median(shares) == pytest.approx(0.5, abs=0.04)
    # The place is even within what the size leaves.
    room = [(box.top, height - box.height) for box in boxes if box.height < height]
    where = np.array([top / left for top, left in room])
    assert where.mean() == pytest.approx(0.5, abs=0.02)
    assert where.std() == pytest.approx(12**-0.5, abs=0.02)


@pytest.mark.parametrize(
    ("height", "width", "box"),
    [
        (20, 1000, Box(0, 486, 20, 27)),  # as wide as 1.3333 times the height
        (1000, 20, Box(486, 0, 27, 20)),
    ],
)
def test_where_no_box_fits_it_is_the_middle(height: int, width: int, box: Box) -> None:
    found = Counter(
        draw(generator_of(0, 0, place), height, width, Chances(area=(0.9, 1))).box
        for place in range(50)
    )
    assert found == {box: 50}


@given(
    seed=st.integers(0, 2**64 - 2),
    epoch=st.integers(0, 500),
    position=st.integers(0, 10**7),
    repetition=st.integers(0, 3),
)
@settings(max_examples=50)
def test_a_clip_has_a_stream_of_its_own(
    seed: int, epoch: int, position: int, repetition: int
) -> None:
    base = (seed, epoch, position, repetition)
    first = generator_of(*base).random(8).tolist()
    assert generator_of(*base).random(8).tolist() == first
    others = [(*base[:i], base[i] + 1, *base[i + 1 :]) for i in range(4)]
    for other in others:
        assert set(generator_of(*other).random(8).tolist()).isdisjoint(first)


def test_options_change_no_other_draw() -> None:
    with_ops = draw(generator_of(0, 0, 5), 240, 320)
    without = draw(generator_of(0, 0, 5), 240, 320, Chances(rand_augment=False, flip=0))
    assert with_ops.box == without.box
    assert (without.ops, without.is_flipped) == ((), False)
