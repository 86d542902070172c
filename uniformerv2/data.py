"""The loader: the clips of a view, decoded by workers straight from shards, as batches on a device.

    with Loader(view, reading, batch=64, workers=16, device="cuda") as loader:
        for batch in loader.batches(first_step=1000):  # in training: without end, epoch after epoch
            clips = training_batch(batch.frames, batch.draws, size=224)

A batch is a function of the view, the seed and the step: it has the same clips, frames and draws on
any number of ranks and workers, and wherever a run goes on.

On CUDA the frames go from the memory that the workers fill to the GPU without another copy, on a
stream of their own, one batch ahead. Where a model computes on the cores that decode, `ahead=False`
reads each batch when it is asked for: side by side both would take longer than in turn.
"""

import contextlib
import itertools
import logging
import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from k710.errors import MediaError, StageError
from uniformerv2.dataset.clips import ViewIndex
from uniformerv2.dataset.decode import Place, Reading, Request, read_clip, spread
from uniformerv2.dataset.draws import Draw, generator_of
from uniformerv2.dataset.frames import train_bounds, view_frames
from uniformerv2.dataset.sampler import PADDING, EpochOrder, batch_rows, num_steps, order_of
from uniformerv2.dataset.shard_reader import ByteSpan
from uniformerv2.dataset.workers import Answer, Workers, answer_here
from uniformerv2.prefetch import make_ahead, pin_memory

__all__ = ["Batch", "BrokenClip", "Loader", "Totals", "train_bounds", "view_frames"]

_CHUNK = 4  # clips that one worker reads at a time
_REPLACEMENTS = 10  # tries
_REPLACED = 1 << 32  # a repetition that no recipe has: its stream picks replacements
_MOST_BROKEN = 0.01  # of the clips that were asked for
_BEFORE_COUNTING = 1000  # clips: one broken clip among the first ten tells nothing

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BrokenClip:
    """A clip that could not be decoded."""

    clip_id: str
    error: str


@dataclass(slots=True, eq=False)
class Batch:
    """The clips of one micro-batch on this rank: of a step, or a share of it."""

    step: int  # since the start of the run
    micro: int  # which micro-batch of the step, from 0
    epoch: int
    positions: list[int]  # of the clips in the order of the epoch
    rows: list[int]  # of the view, one for each clip
    labels: Tensor  # int64 (clips,): rows of K710, -1 where the list has none
    frames: list[Tensor]  # uint8 (T, H, W, 3) of each clip; in evaluation the views' one by one
    draws: list[tuple[Draw, ...]]  # in training, one for each repetition
    broken: list[BrokenClip]  # not among the clips; in training others stand in their place
    prepared: Any = None  # what `prepare` made of it
    copied_from: list[Any] = field(default_factory=list)  # memory that a copy may still be read of


@dataclass(slots=True)
class Totals:
    """What a loader has read so far, on this rank. Seconds are of workers, added up."""

    clips: int = 0
    video_bytes: int = 0
    frame_bytes: int = 0
    fetch_s: float = 0.0
    decode_s: float = 0.0
    broken: list[BrokenClip] = field(default_factory=list)

    def snapshot(self) -> "Totals":
        """What they are now."""
        return replace(self, broken=list(self.broken))

    def since(self, before: "Totals") -> "Totals":
        """What was read after a snapshot."""
        return Totals(
            self.clips - before.clips,
            self.video_bytes - before.video_bytes,
            self.frame_bytes - before.frame_bytes,
            self.fetch_s - before.fetch_s,
            self.decode_s - before.decode_s,
            self.broken[len(before.broken) :],
        )


class Loader:
    """Batches of a view, decoded by worker processes.

    Args:
        view: The clips, as of `read_view`.
        reading: What is read of each clip, and whether it is for training.
        batch: Clips of a step, on all ranks and in all of its micro-batches.
        accumulate: Micro-batches of a step on each rank.
        rank, ranks: Which process this is, and of how many.
        workers: Processes that decode; with 0 this one does it itself.
        window_shards: Shards whose clips are shuffled among each other.
        device: Where frames and labels lie.
        ahead: Decode the next batch while the one before is in use.
        skip_broken: In evaluation, leave out broken clips.
        memory_bytes: Memory shared with the workers; by default room for two batches.

    Raises:
        ValueError: Ranks and micro-batches don't divide the batch.
        StageError: The view can't be trained on.
    """

    def __init__(
        self,
        view: ViewIndex,
        reading: Reading,
        *,
        batch: int,
        accumulate: int = 1,
        rank: int = 0,
        ranks: int = 1,
        workers: int = 0,
        window_shards: int = 16,
        device: str | torch.device = "cpu",
        ahead: bool = True,
        skip_broken: bool = False,
        memory_bytes: int | None = None,
    ) -> None:
        if batch % (ranks * accumulate):
            shares = f"{ranks} ranks x {accumulate} micro-batches"
            raise ValueError(f"a batch of {batch} can't be shared by {shares}")
        self.view, self.reading = view, reading
        self.is_training = reading.chances is not None
        self.batch, self.accumulate = batch, accumulate
        self.rank, self.ranks = rank, ranks
        self.window_shards, self.skip_broken = window_shards, skip_broken
        self.ahead = ahead
        self.device = torch.device(device)
        self.totals = Totals()
        self.steps = num_steps(len(view.clip_ids), batch, is_training=self.is_training)
        """The steps of an epoch, the same on every rank."""
        if self.is_training:
            _check_trainable(view, self.steps, batch)
        self.workers = None
        self._unpin: Callable[[], None] = lambda: None
        if workers:
            memory_bytes = memory_bytes or self._memory_bytes(workers)
            self.workers = Workers(workers, reading, memory_bytes)
            if self.device.type == "cuda":
                self._unpin = pin_memory(self.workers.memory)

    def batches(
        self, first_step: int = 0, prepare: Callable[[Batch], Any] | None = None
    ) -> Generator[Batch, None, None]:
        """Batches from a step on: in training without end, in evaluation up to the last clip.

        `prepare` is called with each batch, on a CUDA device on the loader's own stream and while
        the batch before is in use; what it returns, a tensor or a tuple of them, is the batch's
        `prepared`, and the frames are given up. Frames may lie in the memory that workers fill: it
        is theirs again as soon as nobody has them. One such iterator at a time: RuntimeError.
        """
        requests = self._requests(first_step)
        answers = (
            answer_here(self.reading, requests)
            if self.workers is None
            else self.workers.answers(requests, ahead=self.ahead)
        )
        batches = self._prepare(self._batches(answers, first_step), prepare)
        if self.device.type != "cuda":
            return batches
        return make_ahead(batches, _tensors, lambda batch: batch.copied_from, self.device)

    def close(self) -> None:
        """End the workers."""
        unpin, self._unpin = self._unpin, lambda: None  # once, however often it is called
        unpin()
        if self.workers is not None:
            self.workers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- what is asked for

    def _steps_from(self, first_step: int) -> Iterator[int]:
        if self.is_training:
            return itertools.count(first_step)
        return iter(range(first_step, self.steps))

    def _requests(self, first_step: int) -> Iterator[Request]:
        numbers, batches = itertools.count(), itertools.count()
        order, of_epoch = None, -1
        for step in self._steps_from(first_step):
            epoch, in_epoch = divmod(step, self.steps)
            if epoch != of_epoch:
                order, of_epoch = self.order(epoch), epoch
            assert order is not None
            for places in self._share_out(order, epoch, in_epoch):
                batch = next(batches)
                for first in range(0, len(places), _CHUNK):
                    yield Request(next(numbers), batch, places[first : first + _CHUNK])

    def order(self, epoch: int) -> EpochOrder:
        """The order of clips in an epoch."""
        return order_of(
            self.view.shard_sizes,
            view_hash=self.view.sha256,
            seed=self.reading.seed,
            epoch=epoch,
            window_shards=self.window_shards,
            is_shuffled=self.is_training,
        )

    def _share_out(self, order: EpochOrder, epoch: int, step: int) -> list[tuple[Place, ...]]:
        """The clips of each micro-batch of a step on this rank."""
        rows = batch_rows(order, step, self.batch, rank=self.rank, ranks=self.ranks)
        first = step * self.batch + self.rank * len(rows)
        size = len(rows) // self.accumulate
        places = [
            None if row == PADDING else self._place(row, epoch, first + number)
            for number, row in enumerate(rows.tolist())
        ]
        shares = (places[start : start + size] for start in range(0, len(places), size))
        return [tuple(place for place in share if place is not None) for share in shares]

    def _place(self, row: int, epoch: int, position: int) -> Place:
        view = self.view
        span = ByteSpan(
            view.clip_ids[row],
            int(view.shards[row]),
            int(view.offsets[row]),
            int(view.num_bytes[row]),
            view.digests[row].decode(),
        )
        size = int(view.num_frames[row]), int(view.heights[row]), int(view.widths[row])
        return Place(row, span, *size, epoch, position)

    def _memory_bytes(self, workers: int) -> int:
        """Room for the batch in use, the next one, and what workers have in hand.

        Clips that are much larger than most go through a pipe where there is no room for them.
        """
        sizes = self.view.heights * self.view.widths * 3 * self.reading.num_frames
        clips = 2 * self.batch // (self.ranks * self.accumulate) + 3 * _CHUNK * workers
        return int(1.25 * sizes.mean() * clips)

    # --- what comes back

    def _batches(
        self, answers: Generator[Answer, None, None], first_step: int
    ) -> Generator[Batch, None, None]:
        share = self.batch // (self.ranks * self.accumulate)
        with contextlib.closing(answers):
            for step in self._steps_from(first_step):
                for micro in range(self.accumulate):
                    num_clips = share
                    if not self.is_training:  # after the last clip there is nothing
                        start = step * self.batch + (self.rank * self.accumulate + micro) * share
                        num_clips = min(share, max(len(self.view.clip_ids) - start, 0))
                    needed = -(-num_clips // _CHUNK)
                    yield self._batch(step, micro, itertools.islice(answers, needed))

    def _batch(self, step: int, micro: int, answers: Iterator[Answer]) -> Batch:
        batch = Batch(step, micro, step // self.steps, [], [], torch.empty(0), [], [], [])
        for answer in answers:
            places = answer.request.places
            block = torch.from_numpy(answer.block).to(self.device, non_blocking=True)
            if block.device.type != "cpu":
                batch.copied_from.append(answer.block)
            starts, _ = spread(self.reading, places)
            for place, start, clip in zip(places, starts, answer.clips, strict=True):
                row, draws = place.row, clip.draws
                frames = block[start : start + math.prod(clip.shape)].view(clip.shape)
                self._count(place, frames.numel(), clip.fetch_s, clip.decode_s)
                if clip.error is not None:
                    batch.broken.append(self._broken(place, clip.error))
                    if not self.is_training:
                        continue
                    row, draws, frames = self._replacement(place, batch.broken)
                batch.positions.append(place.position)
                batch.rows.append(row)
                batch.draws.append(draws)
                batch.frames.append(frames)
        labels = torch.from_numpy(self.view.labels[np.array(batch.rows, dtype=np.int64)])
        batch.labels = labels.to(self.device, non_blocking=True)
        return batch

    def _count(self, place: Place, frame_bytes: int, fetch_s: float, decode_s: float) -> None:
        totals = self.totals
        totals.clips += 1
        totals.video_bytes += place.span.num_bytes
        totals.frame_bytes += frame_bytes
        totals.fetch_s += fetch_s
        totals.decode_s += decode_s

    def _broken(self, place: Place, error: str) -> BrokenClip:
        """Count a broken clip. MediaError where it may not be passed over, or too many were."""
        broken = BrokenClip(place.span.clip_id, error)
        where = f"{place.span.clip_id} (shard {place.span.shard:06d})"
        if not self.is_training and not self.skip_broken:
            raise MediaError(
                f"{where}: {error}\nWith skip_broken such clips count as missed. "
                "k710 verify --deep finds all of them."
            )
        _log.warning("%s is broken: %s", where, error)
        self.totals.broken.append(broken)
        asked = max(self.totals.clips, _BEFORE_COUNTING)
        if len(self.totals.broken) > _MOST_BROKEN * asked:
            raise MediaError(
                f"{len(self.totals.broken)} of {self.totals.clips:,} clips are broken, the last of "
                f"them {where}: {error}\nThat is more than 1 %. k710 verify --deep names the "
                "shards; k710 shard makes anew those that are removed."
            )
        return broken

    def _replacement(
        self, place: Place, broken: list[BrokenClip]
    ) -> tuple[int, tuple[Draw, ...], Tensor]:
        """Another clip for that place in the order: which one, seed and place alone decide."""
        generator = generator_of(self.reading.seed, place.epoch, place.position, _REPLACED)
        for row in generator.integers(len(self.view.clip_ids), size=_REPLACEMENTS).tolist():
            other = self._place(row, place.epoch, place.position)
            out = np.empty(self.reading.shape(other), np.uint8)
            try:
                (content,) = self.reading.reader.read([other.span])
                draws, out = read_clip(self.reading, other, content, out)
            except MediaError as error:
                broken.append(self._broken(other, str(error)))
                continue
            return row, draws, torch.from_numpy(out).to(self.device)
        raise MediaError(f"{_REPLACEMENTS} clips in place of {place.span.clip_id} are all broken.")

    def _prepare(
        self, batches: Generator[Batch, None, None], prepare: Callable[[Batch], Any] | None
    ) -> Generator[Batch, None, None]:
        with contextlib.closing(batches):
            for batch in batches:
                if prepare is not None:
                    batch.prepared = prepare(batch)
                    batch.frames = []
                yield batch
                del batch  # its memory is the workers' while the next one is awaited


def _check_trainable(view: ViewIndex, steps: int, batch: int) -> None:
    if not steps:
        raise StageError(
            f"{view.name} has {len(view.clip_ids):,} clips in shards: fewer than a batch of "
            f"{batch:,}."
        )
    if view.labels.min() < 0:
        raise StageError(f"{view.name} has clips without a label: it can't be trained on.")


def _tensors(batch: Batch) -> Iterator[Tensor]:
    """Those whose memory the caller's stream reads. TypeError where they can't be told."""
    prepared = batch.prepared if isinstance(batch.prepared, tuple) else (batch.prepared,)
    if not all(isinstance(each, Tensor) or each is None for each in prepared):
        raise TypeError("prepare must return a tensor, or a tuple of tensors")
    yield from (batch.labels, *batch.frames)
    yield from (each for each in prepared if each is not None)
