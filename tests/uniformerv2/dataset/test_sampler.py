"""The order of clips is the same for any ranks, and every clip comes exactly once."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from uniformerv2.dataset.sampler import (
    PADDING,
    EpochOrder,
    batch_rows,
    num_steps,
    order_of,
    permute,
    shuffle_of,
)

SIZES = st.lists(st.integers(1, 30), min_size=1, max_size=20)


def made(sizes: list[int], seed: int = 0, epoch: int = 0, **options: int) -> EpochOrder:
    return order_of(sizes, view_hash="v", seed=seed, epoch=epoch, **options)


@given(num=st.integers(1, 3000), key=st.integers(0, 2**64 - 1))
@settings(max_examples=100)
def test_a_permutation_is_one(num: int, key: int) -> None:
    places = permute(np.arange(num), num, key)
    assert sorted(places.tolist()) == list(range(num))
    some = np.random.default_rng(0).integers(0, num, 5)
    assert permute(some, num, key).tolist() == places[some].tolist()


def test_permutations_are_mixed_as_drawn_ones() -> None:
    num = 1000
    drawn = np.stack([permute(np.arange(num), num, key) for key in range(400)])
    # Each place is taken evenly: a chi-square over 20 groups of 50, far from its 10^-9 quantile.
    groups = np.apply_along_axis(np.bincount, 0, drawn // 50, minlength=20)
    chi2 = ((groups - 20) ** 2 / 20).sum(0)
    assert chi2.mean() == pytest.approx(19, abs=0.7)
    assert chi2.max() < 80
    # And what was beside each other is not any more.
    apart = np.abs(np.diff(drawn, axis=1))
    assert (apart == 1).mean() == pytest.approx(2 / num, abs=5e-4)
    assert apart.mean() == pytest.approx(num / 3, rel=0.01)


@given(sizes=SIZES, seed=st.integers(0, 99), epoch=st.integers(0, 99), window=st.integers(1, 25))
@settings(max_examples=100)
def test_each_clip_comes_once_and_windows_one_after_the_other(
    sizes: list[int], seed: int, epoch: int, window: int
) -> None:
    order = made(sizes, seed, epoch, window_shards=window)
    rows = order.rows(np.arange(sum(sizes)))
    assert sorted(rows.tolist()) == list(range(sum(sizes)))
    shards = np.repeat(np.arange(len(sizes)), sizes)[rows]
    place = {shard: turn for turn, shard in enumerate(order.shards.tolist())}
    windows = [place[shard] // window for shard in shards.tolist()]
    assert windows == sorted(windows)


@given(
    sizes=SIZES,
    share=st.integers(1, 4),
    ranks=st.sampled_from([1, 2, 3, 4, 6, 12]),
    start=st.integers(0, 5),
    is_training=st.booleans(),
)
@settings(max_examples=60)
def test_ranks_and_resume_points_change_no_batch(
    sizes: list[int], share: int, ranks: int, start: int, is_training: bool
) -> None:
    batch, num = 12 * share, sum(sizes)
    steps = num_steps(num, batch, is_training=is_training)
    alone = made(sizes, is_shuffled=is_training)
    later = made(sizes, is_shuffled=is_training)  # as after a new start
    seen: list[int] = []
    for step in range(steps):
        whole = batch_rows(alone, step, batch)
        if step >= start:
            parts = [batch_rows(later, step, batch, rank=r, ranks=ranks) for r in range(ranks)]
            assert {len(part) for part in parts} == {batch // ranks}
            assert np.concatenate(parts).tolist() == whole.tolist()
        seen += whole.tolist()
    clips = [row for row in seen if row != PADDING]
    assert len(set(clips)) == len(clips)
    assert len(clips) == (num // batch * batch if is_training else num)
    assert not is_training or len(seen) == len(clips)


def test_seed_epoch_and_view_each_change_the_order() -> None:
    orders = [
        order_of([50] * 4, view_hash=view_hash, seed=seed, epoch=epoch).rows(np.arange(200))
        for view_hash, seed, epoch in (("a", 1, 1), ("a", 2, 1), ("a", 1, 2), ("b", 1, 1))
    ]
    assert len({tuple(order.tolist()) for order in orders}) == 4


def test_how_well_it_is_mixed_is_told() -> None:
    labels = np.random.default_rng(0).integers(0, 40, 20_000)
    order = made([1000] * 20, window_shards=20)
    shuffle = shuffle_of(order, labels)
    assert shuffle.same_shard == pytest.approx(shuffle.same_shard_if_perfect, abs=0.006)
    assert shuffle.same_class == pytest.approx(shuffle.same_class_if_perfect, abs=0.006)
    narrow = shuffle_of(made([1000] * 20, window_shards=4), labels)
    assert narrow.same_shard == pytest.approx(1 / 4, abs=0.01)
    sorted_labels = np.repeat(np.arange(20), 1000)
    assert shuffle_of(made([1000] * 20, window_shards=1), sorted_labels).same_class > 0.99


def test_what_can_not_be_is_said() -> None:
    with pytest.raises(ValueError, match="can't be shared by 3 ranks"):
        batch_rows(made([5]), 0, 4, ranks=3)
    with pytest.raises(ValueError, match="at least one clip each"):
        made([3, 0])
    with pytest.raises(ValueError, match="positions must be from 0 to 4"):
        made([5]).rows(np.array([5]))
    with pytest.raises(ValueError, match="places must be from 0 to 4"):
        permute(np.array([-1]), 5, 0)
