"""The order of clips: computed from seed, epoch and step alone, never stored.

A training epoch reads shards in windows: shards are put into an order, so many of them at a time
form a window, and the clips of a window are mixed. Disks and object stores see few files at once.
Ranks and workers share out the global batch of a step; they never decide what is in it. So the same
seed gives the same batches on any number of them, and any step can be gone on from at once.

    position   0..num_clips - 1, of a clip in the order of an epoch
    row        of a clip in the table of the view, sorted by shard and place in it
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["EpochOrder", "Shuffle", "batch_rows", "num_steps", "order_of", "permute", "shuffle_of"]

Ints = npt.NDArray[np.int64]

_ROUNDS = 6
PADDING = -1  # the row of a place in an evaluation batch that has no clip


@dataclass(frozen=True, slots=True)
class EpochOrder:
    """The order of one epoch of a view."""

    num_clips: int
    is_shuffled: bool
    key: int
    shards: Ints  # in the order in which they are read: number within the view, from 0
    first_row: Ints  # of each shard of the view, and the number of clips
    window_shards: int
    window_start: Ints  # position at which each window starts, and the number of clips

    def rows(self, positions: Ints) -> Ints:
        """The row of each position. ValueError if one is not within 0..num_clips - 1."""
        positions = np.asarray(positions, dtype=np.int64)
        if len(positions) and not (positions.min() >= 0 and positions.max() < self.num_clips):
            raise ValueError(f"positions must be from 0 to {self.num_clips - 1}")
        if not self.is_shuffled:
            return positions.copy()
        rows = np.empty_like(positions)
        windows = np.searchsorted(self.window_start, positions, side="right") - 1
        for window in np.unique(windows):
            here = windows == window
            rows[here] = self._rows_of(int(window), positions[here])
        return rows

    def _rows_of(self, window: int, positions: Ints) -> Ints:
        start, end = self.window_start[window : window + 2]
        places = permute(positions - start, int(end - start), _key(self.key, "clips", window))
        first = window * self.window_shards
        shards = self.shards[first : first + self.window_shards]
        sizes = np.diff(self.first_row)[shards]
        ends = np.cumsum(sizes)
        which = np.searchsorted(ends, places, side="right")
        return self.first_row[shards[which]] + places - (ends - sizes)[which]


@dataclass(frozen=True, slots=True)
class Shuffle:
    """How well an order is mixed: shares of neighbours that have something in common."""

    same_shard: float
    same_shard_if_perfect: float  # expected of a permutation drawn from all
    same_class: float
    same_class_if_perfect: float


def order_of(
    shard_sizes: Sequence[int] | Ints,
    *,
    view_hash: str,
    seed: int,
    epoch: int,
    window_shards: int = 16,
    is_shuffled: bool = True,
) -> EpochOrder:
    """The order of an epoch, from the number of the view's clips in each of its shards.

    Takes time and memory for the shards, none for the clips. Without shuffling: as the table is.
    """
    sizes = np.asarray(shard_sizes, dtype=np.int64)
    if not len(sizes) or sizes.min() < 1 or window_shards < 1:
        raise ValueError("shards hold at least one clip each, and windows one shard")
    key = _key(view_hash, seed, epoch)
    num = len(sizes)
    shards = np.arange(num, dtype=np.int64)
    if is_shuffled:
        shards = permute(shards, num, _key(key, "shards"))
    first_row = np.concatenate([[0], np.cumsum(sizes)])
    ends = np.concatenate([[0], np.cumsum(sizes[shards])])
    starts = ends[:num:window_shards]
    return EpochOrder(
        num_clips=int(sizes.sum()),
        is_shuffled=is_shuffled,
        key=key,
        shards=shards,
        first_row=first_row,
        window_shards=window_shards,
        window_start=np.concatenate([starts, ends[-1:]]),
    )


def num_steps(num_clips: int, batch: int, *, is_training: bool) -> int:
    """Steps of an epoch: in training the incomplete last batch is left out, else it is padded."""
    return num_clips // batch if is_training else -(-num_clips // batch)


def batch_rows(order: EpochOrder, step: int, batch: int, *, rank: int = 0, ranks: int = 1) -> Ints:
    """The rows that `rank` has of the global batch of `step`: so many on each rank.

    Positions of that batch are step * batch onwards, the first ones on rank 0. After the last clip
    there is PADDING. ValueError if ranks don't divide the batch.
    """
    if batch % ranks or not 0 <= rank < ranks:
        raise ValueError(f"a batch of {batch} can't be shared by {ranks} ranks (this is {rank})")
    share = batch // ranks
    first = step * batch + rank * share
    positions = np.arange(first, first + share, dtype=np.int64)
    rows = np.full(share, PADDING, dtype=np.int64)
    is_clip = positions < order.num_clips
    rows[is_clip] = order.rows(positions[is_clip])
    return rows


def permute(places: Ints, num: int, key: int) -> Ints:
    """Where a permutation of 0..num - 1 that `key` picks takes each of `places`.

    A Feistel network over the next even number of bits; what falls out of range goes round again,
    which ends, for the network is a permutation too. ValueError for places out of range.
    """
    places = np.asarray(places, dtype=np.int64)
    if len(places) and not (places.min() >= 0 and places.max() < num):
        raise ValueError(f"places must be from 0 to {num - 1}")
    half = np.uint64(max((num - 1).bit_length() + 1, 2) // 2)
    mask = np.uint64((1 << int(half)) - 1)
    keys = [np.uint64(_key(key, turn)) for turn in range(_ROUNDS)]
    out = places.astype(np.uint64)
    todo = np.arange(len(out))
    while len(todo):
        left, right = out[todo] >> half, out[todo] & mask
        for round_key in keys:
            left, right = right, left ^ (_mixed(right ^ round_key) & mask)
        out[todo] = left << half | right
        todo = todo[out[todo] >= num]
    return out.astype(np.int64)


def _mixed(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's finalizer: each bit of the input changes half of those of the output."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _key(*parts: Any) -> int:
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big")


def shuffle_of(order: EpochOrder, labels: Ints, *, sample: int = 1_000_000) -> Shuffle:
    """How well the first `sample` clips of an order are mixed; `labels` has one for each row."""
    rows = order.rows(np.arange(min(order.num_clips, sample), dtype=np.int64))
    shards = np.searchsorted(order.first_row, rows, side="right") - 1
    sizes = np.diff(order.first_row)
    return Shuffle(
        same_shard=_same(shards),
        same_shard_if_perfect=_if_perfect(sizes),
        same_class=_same(labels[rows]),
        same_class_if_perfect=_if_perfect(np.unique(labels, return_counts=True)[1]),
    )


def _same(values: Ints) -> float:
    return float((values[1:] == values[:-1]).mean()) if len(values) > 1 else 0.0


def _if_perfect(sizes: Ints) -> float:
    num = int(sizes.sum())
    pairs = float((sizes.astype(np.float64) * (sizes - 1)).sum())
    return pairs / (num * (num - 1)) if num > 1 else 0.0
