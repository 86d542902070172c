"""Tests of a model while it trains: one clip in the middle of each video of a view, one crop."""

from dataclasses import dataclass
from pathlib import Path

from torch.compiler import set_stance
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from k710.errors import StageError
from uniformerv2.augment.colours import COLOURS
from uniformerv2.dataset.clips import ViewIndex, read_view
from uniformerv2.dataset.decode import Reading
from uniformerv2.dataset.frames import Sampling
from uniformerv2.dataset.shard_reader import ShardReader
from uniformerv2.distributed import Ranks
from uniformerv2.evaluation.scoring import DTYPES, TOP, Look, columns_of, score_view
from uniformerv2.recipe import Recipe
from uniformerv2.training.trainee import Trainee, average_in_place, precision_of

__all__ = ["Validation", "prepare_validation"]


@dataclass(frozen=True, slots=True)
class Validation:
    """What is looked at, and how."""

    view: ViewIndex
    reading: Reading
    look: Look
    batch: int  # clips of each process at a time
    workers: int | None

    def run(self, trainee: Trainee, ranks: Ranks) -> dict[str, float]:
        """Test the model, or the average of its weights if there is one; returns a line's keys."""
        is_ddp = isinstance(trainee.model, DistributedDataParallel)
        model = trainee.module if is_ddp else trainee.model  # DDP has nothing to exchange
        # No compilation for the one batch that is smaller.
        with average_in_place(trainee), set_stance("force_eager"):
            scores = score_view(
                model,
                self.view,
                self.reading,
                self.look,
                ranks=ranks,
                batch=self.batch,
                workers=self.workers,
                skip_broken=True,
            )
            if isinstance(model, FSDPModule):
                model.reshard()  # without a backward pass it would keep what it gathered
        return {
            "val_top1": scores.accuracy(),
            "val_top5": scores.accuracy(TOP),
            "val_clips": len(scores.rows),
        }


def prepare_validation(
    recipe: Recipe, trainee: Trainee, ranks: Ranks, *, work: Path, reader: ShardReader
) -> Validation | None:
    """Read `data.val` of a recipe; None where it is never looked at. StageError if it can't be."""
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
    return Validation(view, reading, look, recipe.run.clips_per_gpu, recipe.run.workers)
