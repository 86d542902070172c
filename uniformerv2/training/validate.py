"""Tests of a model while it trains: one clip in the middle of each video of a view, one crop."""

from collections.abc import Callable
from pathlib import Path

from torch.compiler import set_stance
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from k710.errors import StageError
from uniformerv2.augment.colours import COLOURS
from uniformerv2.dataset.clips import read_view
from uniformerv2.dataset.decode import Reading
from uniformerv2.dataset.frames import Sampling
from uniformerv2.dataset.shard_reader import ShardReader
from uniformerv2.distributed import Ranks
from uniformerv2.evaluation.scoring import DTYPES, TOP, Look, columns_of, score_view
from uniformerv2.recipe import Recipe
from uniformerv2.training.model import Trainee, average_in_place, precision_of

__all__ = ["prepare_validation"]


def prepare_validation(
    recipe: Recipe, trainee: Trainee, ranks: Ranks, *, work: Path, reader: ShardReader
) -> Callable[[], dict[str, float]] | None:
    """Read the view `data.val`; returns what tests the model on it, or the average of its weights.

    What that returns are keys of a line of the log. None where the recipe never asks for a test;
    StageError where the view can't be tested on.
    """
    data = recipe.data
    if data.val is None or recipe.eval.every_epochs is None:
        return None
    try:
        view = read_view(work, data.val)
        if view.labels.min() < 0:
            raise StageError(f"{view.name} has clips without a label: there is nothing to look at.")
    except StageError as error:
        raise StageError(f"{error}\nOr train without looking: --set data.val=none") from error
    heads, classes = columns_of(trainee.order, data.val.partition("/")[0])
    look = Look(
        heads,
        classes,
        size=recipe.model.size,
        colours=COLOURS[recipe.augment.colours],
        dtype=DTYPES[precision_of(recipe.run, ranks.device)],
    )
    reading = Reading(reader, Sampling(data.frames, data.stride))
    is_ddp = isinstance(trainee.model, DistributedDataParallel)
    model = trainee.module if is_ddp else trainee.model  # DDP has nothing to exchange

    def validate() -> dict[str, float]:
        # No compilation for the one batch that is smaller.
        with average_in_place(trainee), set_stance("force_eager"):
            scores = score_view(
                model,
                view,
                reading,
                look,
                ranks=ranks,
                batch=recipe.run.clips_per_gpu,
                workers=recipe.run.workers,
                skip_broken=True,
            )
            if isinstance(model, FSDPModule):
                model.reshard()  # without a backward pass it would keep what it gathered
        return {
            "val_top1": scores.accuracy(),
            "val_top5": scores.accuracy(TOP),
            "val_clips": len(scores.rows),
        }

    return validate
