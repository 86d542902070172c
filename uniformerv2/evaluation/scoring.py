"""What a model says of the clips of a view: several times and crops of each, probabilities summed.

Each clip counts once, on any number of processes. A model is asked for the classes of the view's
dataset alone: one of K710 is tested on K400 with the rows of its head that are K400's, as it would
be after `k710 remap-head`. Source: slowfast/utils/meters.py of the reference (the sum of softmax).
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from k710.errors import StageError, WeightsError
from uniformerv2.augment.colours import REFERENCE, Colours
from uniformerv2.augment.transforms import evaluation_clip
from uniformerv2.data import Batch, Loader
from uniformerv2.dataset.clips import ViewIndex
from uniformerv2.dataset.decode import Reading
from uniformerv2.dataset.draws import generator_of
from uniformerv2.distributed import Ranks
from uniformerv2.weights.class_order import ClassOrder, positions

__all__ = ["DTYPES", "TOP", "Look", "Scores", "columns_of", "score_clips", "score_view"]

TOP = 5
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_SHUFFLED = 1 << 34  # a repetition that no clip has: its streams put frames out of order


@dataclass(frozen=True, slots=True)
class Look:
    """How a model is tested. `heads` and `classes` are as of `columns_of`."""

    heads: list[int]
    classes: list[int]
    size: int  # pixels
    crops: int = 1  # the middle; or 3, along the longer side
    colours: Colours = REFERENCE
    dtype: torch.dtype = torch.float32
    shuffle_seed: int | None = None  # frames of each clip in an order that is drawn for it


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What the model says of each clip, in the order of the view. Classes are rows of K710."""

    rows: npt.NDArray[np.int64]  # (N,) of the view
    labels: npt.NDArray[np.int64]  # (N,)
    top: npt.NDArray[np.int64]  # (N, 5), the likeliest first
    sums: npt.NDArray[np.float32]  # (N, 5), of probabilities over all views

    def accuracy(self, within: int = 1) -> float:
        """The share of clips whose class is among the likeliest so many."""
        hits = (self.top[:, :within] == self.labels[:, None]).any(1)
        return float(hits.mean())

    def mean_class_accuracy(self) -> float:
        """The mean over classes that have clips, each class counting the same."""
        hits = (self.top[:, 0] == self.labels).astype(np.float64)
        _, classes = np.unique(self.labels, return_inverse=True)
        return float((np.bincount(classes, hits) / np.bincount(classes)).mean())


def columns_of(order: ClassOrder, dataset: str) -> tuple[list[int], list[int]]:
    """For each class of `dataset`: its row in a head of that order, and its row of K710.

    LabelError if the head lacks one.
    """
    target: Any = dataset
    wanted = ClassOrder(target, order.family)
    return positions(order, wanted), wanted.rows()


def score_view(
    model: nn.Module,
    view: ViewIndex,
    reading: Reading,
    look: Look,
    *,
    ranks: Ranks,
    batch: int,
    workers: int | None = None,
    skip_broken: bool = False,
    report: Callable[[int], object] = lambda clips: None,
) -> Scores:
    """Read the clips of a view, `batch` at a time on each process, and score them.

    Without `workers` a process decodes on its share of the machine's cores. Errors are those of
    `score_clips`, and MediaError for a broken clip unless such are skipped.
    """
    with Loader(
        view,
        reading,
        batch=batch * ranks.ranks,
        rank=ranks.rank,
        ranks=ranks.ranks,
        workers=ranks.share_of_cores() if workers is None else workers,
        device=ranks.device,
        ahead=ranks.device.type == "cuda",
        skip_broken=skip_broken,
    ) as loader:
        return score_clips(model, loader, ranks, look, report)


@torch.no_grad()
def score_clips(
    model: nn.Module,
    loader: Loader,
    ranks: Ranks,
    look: Look,
    report: Callable[[int], object] = lambda clips: None,
) -> Scores:
    """The scores of all clips of an evaluation loader, the same on every process.

    The model is left in the mode that it was in. StageError where no clip could be read, or one has
    no label; WeightsError where what the model says of a clip is no number.
    """
    if loader.view.labels.min() < 0:
        raise StageError(f"{loader.view.name} has clips without a label: there is nothing to test.")
    was_training = model.training
    model.eval()
    rows: list[int] = []
    top, sums = [], []
    try:
        for batch in loader.batches():
            summed = _sum_probabilities(model, batch, loader, ranks.device, look)
            best = summed.topk(min(TOP, summed.shape[1]))
            rows += batch.rows
            top.append(torch.tensor(look.classes)[best.indices.cpu()])
            sums.append(best.values.cpu())
            _check_finite(sums[-1], batch, loader)
            del batch
            report(len(rows))
    finally:
        model.train(was_training)
    shares = ranks.gather((rows, torch.cat(top).numpy(), torch.cat(sums).numpy()))
    found = np.concatenate([np.asarray(each, dtype=np.int64) for each, _, _ in shares])
    if not len(found):
        raise StageError(f"None of the clips of {loader.view.name} could be read.")
    order = np.argsort(found, kind="stable")
    return Scores(
        found[order],
        loader.view.labels[found[order]],
        np.concatenate([each for _, each, _ in shares])[order],
        np.concatenate([each for _, _, each in shares])[order],
    )


def _check_finite(best: Tensor, batch: Batch, loader: Loader) -> None:
    """WeightsError, with the clip's name; what is no number comes first in a topk."""
    wrong = (~best[:, 0].isfinite()).nonzero()
    if len(wrong):
        clip_id = loader.view.clip_ids[batch.rows[int(wrong[0])]]
        raise WeightsError(
            f"What the model says of {clip_id} is no number: its weights are damaged, or too large "
            "for fp16. Try --precision fp32, or another step of its run."
        )


def _sum_probabilities(
    model: nn.Module, batch: Batch, loader: Loader, device: torch.device, look: Look
) -> Tensor:
    """(N, classes) of a batch: probabilities, summed over times and crops."""
    times, T = loader.reading.views, loader.reading.sampling.clip_frames
    size = look.size
    summed = torch.zeros(len(batch.rows), len(look.heads), device=device)
    heads = torch.tensor(look.heads, device=device)
    for time, crop in itertools.product(range(times), (1,) if look.crops == 1 else (0, 1, 2)):
        clips = [
            evaluation_clip(
                _ordered(frames[time * T : (time + 1) * T], row, time, look.shuffle_seed),
                size,
                crop,
                colours=look.colours,
            )
            for row, frames in zip(batch.rows, batch.frames, strict=True)
        ]
        # A model that is sharded has to be called by all processes alike, with a clip or without.
        x = torch.stack(clips) if clips else torch.zeros(1, 3, T, size, size, device=device)
        with torch.autocast(device.type, look.dtype, enabled=look.dtype != torch.float32):
            logits = model(x)
        if clips:
            summed += logits.float()[:, heads].softmax(-1)
    return summed


def _ordered(frames: Tensor, row: int, time: int, seed: int | None) -> Tensor:
    if seed is None:
        return frames
    order = generator_of(seed, time, row, _SHUFFLED).permutation(len(frames))
    return frames[torch.from_numpy(order).to(frames.device)]
