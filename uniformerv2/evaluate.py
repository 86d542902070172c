"""Test a checkpoint on a view: predictions.parquet, and what can be read out of it.

    work/evaluations/RUN/k400-val_8x3x4/predictions.parquet     frames x crops x clips
                                       /summary.json

A checkpoint of no run has its file's name in the place of RUN, with the start of its hash.

Beside every number stand the share of the view's clips that it is without, and a hash of the list
that it is of: two numbers can be compared where these are the same.
"""

import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from k710.errors import StageError, WeightsError, shown
from k710.files import sha256_of, word_os_errors, write_json
from k710.machine import usable_memory
from uniformerv2.augment.colours import COLOURS
from uniformerv2.dataset.clips import ViewIndex, read_view
from uniformerv2.dataset.decode import Reading
from uniformerv2.dataset.frames import Sampling
from uniformerv2.dataset.shard_reader import ShardReader
from uniformerv2.distributed import Ranks, join_ranks
from uniformerv2.evaluation.predictions import hash_list, write_predictions
from uniformerv2.evaluation.scoring import (
    DTYPES,
    TOP,
    Look,
    Scores,
    columns_of,
    score_view,
)
from uniformerv2.recipe import Precision, Published, Recipe
from uniformerv2.recipe_toml import read_recipe
from uniformerv2.weights.files import MODEL, check_hash, model_of_run
from uniformerv2.weights.load import Checkpoint, load_model, read_checkpoint

__all__ = ["EvalViews", "Evaluated", "evaluate_model", "recipe_of"]


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The accuracy of a checkpoint on a view. Shares are of 1."""

    checkpoint: str
    view: str
    frames: int
    crops: int
    clips: int  # times at which frames are taken of each video
    top1: float
    top5: float
    mean_class: float
    videos: int  # that were tested
    listed: int  # that the view has
    list_sha256: str  # of the view's clips and labels, in shards or not
    precision: Precision
    shuffle_seed: int | None  # frames were out of order
    published: Published | None  # of the recipe, if of this list; it tells how many views it is of
    path: Path  # of predictions.parquet

    @property
    def missing(self) -> float:
        """The share of the view's clips that were not tested."""
        return 1 - self.videos / self.listed


@dataclass(frozen=True, slots=True)
class EvalViews:
    """What is looked at of each video, and how."""

    num_clips: int | None = None  # times; None, here and below: as the recipe has it
    num_crops: int | None = None
    num_frames: int | None = None  # of a clip
    precision: Precision = "fp32"
    shuffle_seed: int | None = None  # frames of each clip out of order
    skip_broken: bool = False
    batch: int | None = None  # videos, of each process; None: as many as the run trained at a time
    workers: int | None = None


def evaluate_model(
    path: str | Path,
    view_name: str,
    views: EvalViews,
    *,
    work: str | Path,
    recipe: Recipe | None = None,
    shards: str | Path | None = None,
    cache: Path | None = None,
    device: str | None = None,
    out: Path | None = None,
    report: Callable[[int, int], object] = lambda done, total: None,
) -> Evaluated | None:
    """Test a checkpoint on a view, and write what it says of each clip.

    Under torchrun each process has its share of the clips.

    Args:
        path: A run's folder, or the file of a checkpoint.
        view_name: Whose clips are tested, like "k400/val".
        views: How many clips and crops of each video, and how they are computed.
        work: The work directory, with manifest.parquet and index.parquet.
        recipe: Whose frames, colours and published numbers count; by default those of the run
            that made the checkpoint.
        shards: A folder or a URL; by default `work`/shards.
        cache: A folder that keeps what comes over a network.
        device: "cuda" or "cpu"; by default CUDA where there is a GPU.
        out: Where predictions.parquet and summary.json go; by default below `work`/evaluations.
        report: Called with the clips that this process has tested, and has to test.

    Returns:
        The accuracies, on the first process; None on the others.

    Raises:
        StageError, WeightsError, LabelError: Clips and model do not fit together.
        MediaError: A clip is broken, and `views` does not say that such are skipped.
    """
    path, work = Path(path), Path(work)
    with join_ranks(device) as ranks:
        # A run that goes on makes steps, and removes old ones: all test the same one.
        file, sha256 = ranks.by_first(lambda: _weights_of(path))
        found = read_checkpoint(file)
        recipe = recipe or recipe_of(path) or Recipe("none")
        view = read_view(work, view_name)
        listed, list_sha256 = hash_list(work, view_name)  # now: a manifest may be built meanwhile
        reading = Reading(
            ShardReader(shards or work / "shards", cache),
            Sampling(views.num_frames or recipe.data.frames, recipe.data.stride),
            views=views.num_clips or recipe.eval.clips,
        )
        look = _look(found, view_name, views, recipe)
        test = _Test(file, sha256, recipe, view, listed, list_sha256, views, reading, look)
        folder = out or work / "evaluations" / _name(path, sha256) / test.name
        ranks.by_first(lambda: _check_room(folder))  # before the hours that a test may take
        share = -(-len(view.clip_ids) // ranks.ranks)
        batch = min(views.batch or recipe.run.clips_per_gpu, share)
        _check_memory(batch * reading.views, reading.sampling.clip_frames, look.size, ranks)
        scores = score_view(
            load_model(found).to(ranks.device),
            view,
            reading,
            look,
            ranks=ranks,
            batch=batch,
            workers=views.workers,
            skip_broken=views.skip_broken,
            report=lambda done: report(min(done, share), share),
        )
    return _write_result(test, scores, folder) if ranks.is_first else None


@dataclass(frozen=True, slots=True)
class _Test:
    """A test of a checkpoint, with all that is left open decided."""

    file: Path
    sha256: str  # of the file
    recipe: Recipe
    view: ViewIndex
    listed: int  # clips that the view has
    list_sha256: str  # of these clips and their labels
    views: EvalViews
    reading: Reading
    look: Look

    @property
    def name(self) -> str:
        """Of its folder, like k400-val_8x3x4_bf16: frames x crops x clips."""
        frames, clips = self.reading.sampling.clip_frames, self.reading.views
        name = f"{self.view.name.replace('/', '-')}_{frames}x{self.look.crops}x{clips}"
        precision, seed = self.views.precision, self.views.shuffle_seed
        name += "" if precision == "fp32" else f"_{precision}"
        return name + ("" if seed is None else f"_shuffled{seed}")


def _write_result(test: _Test, scores: Scores, folder: Path) -> Evaluated:
    """Write predictions.parquet and summary.json to `folder`; returns the accuracies."""
    view, views, clips, crops = test.view, test.views, test.reading.views, test.look.crops
    is_own_list = view.name == f"{test.recipe.dataset}/val" and views.shuffle_seed is None
    made_of = {"checkpoint": test.sha256, "view": view.sha256}
    result = Evaluated(
        checkpoint=str(test.file),
        view=view.name,
        frames=test.reading.sampling.clip_frames,
        crops=crops,
        clips=clips,
        top1=scores.accuracy(),
        top5=scores.accuracy(TOP),
        mean_class=scores.mean_class_accuracy(),
        videos=len(scores.rows),
        listed=test.listed,
        list_sha256=test.list_sha256,
        precision=views.precision,
        shuffle_seed=views.shuffle_seed,
        published=test.recipe.published if is_own_list else None,
        path=write_predictions(folder, view, scores, clips * crops, made_of),
    )
    summary = {**asdict(result), "missing": result.missing, "path": result.path.name}
    with word_os_errors(folder):
        write_json(folder / "summary.json", summary)
    return result


def _look(found: Checkpoint, view_name: str, views: EvalViews, recipe: Recipe) -> Look:
    if found.order is None:
        path = shown(found.path)
        raise WeightsError(f"{path} has classes of none of Kinetics: no view has them.")
    heads, classes = columns_of(found.order, view_name.partition("/")[0])
    return Look(
        heads,
        classes,
        size=found.config.size,
        crops=views.num_crops or recipe.eval.crops,
        colours=COLOURS[recipe.augment.colours],
        dtype=DTYPES[views.precision],
        shuffle_seed=views.shuffle_seed,
    )


def _weights_of(path: Path) -> tuple[Path, str]:
    """The file of weights, of a run the newest step's; and its hash."""
    file = model_of_run(path) if path.is_dir() else path
    try:
        sha256 = sha256_of(file)
    except OSError as error:
        raise WeightsError(f"{shown(path)} can't be read: {error.strerror}.") from error
    check_hash(file, sha256)
    return file, sha256


def _check_memory(clips: int, frames: int, size: int, ranks: Ranks) -> None:
    """StageError where not even the pictures that are read at a time fit into memory."""
    num_bytes, here = clips * frames * size * size * 3, usable_memory() // ranks.on_machine
    if num_bytes > here:
        raise StageError(
            f"{clips:,} clips of {frames:,} frames at a time take {num_bytes / 2**30:,.1f} GiB, "
            f"and there are {here / 2**30:,.1f} for each process.\n"
            "Test fewer videos (--batch), times (--clips) or frames (--frames) at a time."
        )


def _check_room(folder: Path) -> None:
    """Make the folder of a test. StageError where nothing can be written there."""
    with word_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


def recipe_of(path: Path) -> Recipe | None:
    """The recipe of the run that a checkpoint is of, or None if it is of none."""
    folder = path if path.is_dir() else path.parent
    for place in (folder, folder.parent):
        if (place / "recipe.toml").is_file():
            return read_recipe(place / "recipe.toml")
    return None


def _name(path: Path, sha256: str) -> str:
    """The run's, or the file's: of which there are many called best.pt."""
    path = Path(os.path.abspath(path))
    if path.name == MODEL:
        path = path.parent  # of a step: all steps' are called that
    if path.name.startswith("step_"):
        return f"{path.parent.name}_{path.name}"
    return path.name if path.is_dir() else f"{path.stem}_{sha256[:8]}"
