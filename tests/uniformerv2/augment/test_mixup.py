"""Pairs of clips that are mixed, and how much of each class is in them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from uniformerv2.augment.mixup import Mix, Mixing, draw_mix, draw_mixes, mix_clips


def clips(num: int, size: int = 8) -> torch.Tensor:
    """Clip k is k everywhere."""
    return torch.arange(num, dtype=torch.float32)[:, None, None, None, None].expand(
        num, 3, 2, size, size
    )


def test_mixup_is_a_mean_by_shares() -> None:
    given_clips, labels = clips(4), torch.tensor([3, 1, 0, 0])
    out, targets = mix_clips(given_clips, labels, [Mix(0.75), Mix(1.0)], 5)
    assert out[:, 0, 0, 0, 0].tolist() == [0.25, 0.75, 2, 3]
    assert targets[0].tolist() == [0, 0.25, 0, 0.75, 0]
    assert targets[1].tolist() == [0, 0.75, 0, 0.25, 0]
    assert targets[2].tolist() == targets[3].tolist() == [1, 0, 0, 0, 0]
    assert given_clips[1, 0, 0, 0, 0] == 1


@given(seed=st.integers(0, 2**32), size=st.sampled_from([7, 8, 32]))
@settings(max_examples=60)
def test_cutmix_gives_each_class_its_share_of_the_pixels(seed: int, size: int) -> None:
    mix = draw_mix(np.random.default_rng(seed), Mixing(cutmix_alpha=1.0))
    out, targets = mix_clips(clips(2, size), torch.tensor([0, 1]), [mix], 2)
    # Clip k is k everywhere, so its mean is the share of the second class.
    assert out.flatten(1).mean(1).tolist() == pytest.approx(targets[:, 1].tolist(), abs=1e-6)
    assert targets.sum(1).tolist() == pytest.approx([1, 1])
    assert set(out.unique().tolist()) <= {0.0, 1.0}


def test_shares_are_drawn_as_defined() -> None:
    generator = np.random.default_rng(0)
    both = [draw_mix(generator, Mixing(0.8, 1.0)) for _ in range(4000)]
    cut = [mix.share for mix in both if mix.box is not None]
    blended = [mix.share for mix in both if mix.box is None]
    assert len(cut) / len(both) == pytest.approx(0.5, abs=0.03)
    assert np.std(cut) == pytest.approx(12**-0.5, abs=0.02)  # Beta(1, 1) is even
    assert np.std(blended) == pytest.approx((4 * (2 * 0.8 + 1)) ** -0.5, abs=0.02)
    assert all(mix.box is None for mix in (draw_mix(generator, Mixing(0.8)) for _ in range(50)))
    assert draw_mix(generator, Mixing()) == Mix(1.0)


@given(positions=st.integers(0, 50), pairs=st.integers(2, 8), split=st.integers(1, 7))
@settings(max_examples=30)
def test_ranks_change_no_mix(positions: int, pairs: int, split: int) -> None:
    first = 2 * positions
    order = list(range(first, first + 2 * pairs))
    whole = draw_mixes(Mixing(0.8, 1.0), 1, 2, order)
    at = 2 * min(split, pairs - 1)
    parts = [draw_mixes(Mixing(0.8, 1.0), 1, 2, share) for share in (order[:at], order[at:])]
    assert parts[0] + parts[1] == whole
    assert len(set(whole)) == pairs
    with pytest.raises(ValueError, match="even number"):
        draw_mixes(Mixing(0.8), 1, 2, order[1:-1])
    with pytest.raises(ValueError):
        draw_mixes(Mixing(0.8), 1, 2, order[:-1])
