"""A run, opened: its folder, its clips, and a model with what moves it, where it goes on.

Where there is a checkpoint all is as that has it; else as the recipe starts.
"""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from k710.errors import RecipeError, StageError
from k710.files import locked, replacing, sha256_of, word_os_errors
from k710.labels.orders import labels_sha256
from uniformerv2.data import Loader
from uniformerv2.dataset.clips import ViewIndex, read_view
from uniformerv2.dataset.decode import Reading
from uniformerv2.dataset.frames import Sampling
from uniformerv2.dataset.shard_reader import ShardReader
from uniformerv2.distributed import Ranks
from uniformerv2.recipe import Recipe, list_differences
from uniformerv2.recipe_toml import read_recipe, to_toml
from uniformerv2.training import checkpoint
from uniformerv2.training.checkpoint import RunState
from uniformerv2.training.log import RunLog
from uniformerv2.training.memory import check_memory
from uniformerv2.training.model import Trainee, make_trainee
from uniformerv2.training.validate import prepare_validation
from uniformerv2.weights.files import check_hash, read_tensors, step_of_run, write_tensors
from uniformerv2.weights.load import check_shapes, shapes_of

__all__ = [
    "Session",
    "collect_signals",
    "count_micro_batches",
    "open_run",
]

_PARTS_MATTER = (
    "In this model the clips that are computed together (run.clips_per_gpu) decide masks of "
    "dropout, or what BatchNorm sees.\nTo go on with less memory: --set model.checkpoint_blocks=12."
)
_SAME_S = 5.0  # signals within it are one: a person who presses again waits longer


@dataclass(frozen=True, slots=True)
class Session:
    """All that a run holds open."""

    recipe: Recipe
    folder: Path
    began: RunState
    ranks: Ranks
    trainee: Trainee
    loader: Loader
    validate: Callable[[], dict[str, float]] | None
    log: RunLog | None  # of the first process
    hashes: dict[str, str]  # of files that the last step can't do without
    is_checked: bool  # what it goes on from had the hashes that its checkpoint says
    asked: list[int]  # signals that ask to stop


@contextlib.contextmanager
def open_run(
    recipe: Recipe,
    folder: Path,
    *,
    work: Path,
    init: str | None,
    shards: str | Path | None,
    cache: Path | None,
    ranks: Ranks,
    asked: list[int],
) -> Iterator[Session]:
    """The run in `folder`, which is this process's alone meanwhile; K710Error as of `train`.

    `asked` is what `collect_signals` collects.
    """
    check_memory(recipe, ranks)
    with contextlib.ExitStack() as stack:
        view = read_view(work, recipe.data.train)
        reader = ShardReader(shards or work / "shards", cache)
        last, is_checked = ranks.by_first(lambda: _claim_folder(folder, recipe, stack, ranks))
        loader = stack.enter_context(_open_loader(recipe, view, reader, ranks))
        began = _find_state(view, loader.steps, recipe.optim.epochs, last)
        trainee = make_trainee(recipe, init, last, ranks)
        hashes = {} if recipe.optim.wise is None else _keep_start(folder, last, trainee, ranks)
        logs: list[RunLog] = []
        ranks.by_first(lambda: logs.append(RunLog(folder, began.step, recipe.run)))
        for log in logs:
            stack.enter_context(log)
        validate = prepare_validation(recipe, trainee, ranks, work=work, reader=reader)
        yield Session(
            recipe=recipe,
            folder=folder,
            began=began,
            ranks=ranks,
            trainee=trainee,
            loader=loader,
            validate=validate,
            log=logs[0] if logs else None,
            hashes=hashes,
            is_checked=is_checked,
            asked=asked,
        )


def _claim_folder(
    folder: Path, recipe: Recipe, stack: contextlib.ExitStack, ranks: Ranks
) -> tuple[Path | None, bool]:
    """The checkpoint that the run goes on from, if there is one; recipe.toml is written.

    And whether its hashes are those of its files, which older ones do not have. The folder is this
    process's alone until `stack` ends. StageError if it is another's, or the run was begun with
    another recipe; WeightsError for files that are not what the run wrote.
    """
    stack.enter_context(locked(folder))
    last = step_of_run(folder)
    path = folder / "recipe.toml"
    if last is not None:
        if not path.exists():
            raise StageError(
                f"{path} is missing: nothing tells what {last.name} was trained with.\n"
                "Put it back, or give this run another --run."
            )
        apart = list_differences(recipe, _with_same_parts(recipe, read_recipe(path), ranks.ranks))
        if apart:
            parts = any(line.startswith("run.clips_per_gpu") for line in apart)
            raise StageError(
                "\n  ".join([f"{folder} is a run of another recipe:", *apart])
                + (f"\n{_PARTS_MATTER}" if parts else "")
                + "\nGo on with its own settings, or give this one another --run."
            )
    with word_os_errors(folder), replacing(path) as partial:
        partial.write_text(to_toml(recipe), encoding="utf-8")
    return last, last is None or checkpoint.check_files(last)


def _with_same_parts(mine: Recipe, other: Recipe, ranks: int) -> Recipe:
    """`other` with `run.clips_per_gpu` of `mine`, where that changes nothing that comes out."""
    is_alike = (mine.data, mine.augment) == (other.data, other.augment)
    if is_alike and (
        not mine.model.depends_on_parts
        or count_micro_batches(mine, ranks) == count_micro_batches(other, ranks)
    ):
        run = replace(other.run, clips_per_gpu=mine.run.clips_per_gpu)
        return replace(other, run=run)
    return other


def _find_state(view: ViewIndex, steps: int, epochs: float, last: Path | None) -> RunState:
    """Where the run begins. StageError if the clips are others than it has been trained on."""
    fresh = RunState(
        step=0,
        steps=steps,
        total_steps=round(epochs * steps),
        view=view.name,
        view_sha256=view.sha256,
        num_clips=len(view.clip_ids),
        num_wanted=view.num_wanted,
        labels_sha256=labels_sha256(),
    )
    if not fresh.total_steps:
        raise StageError(f"optim.epochs ({epochs}) of {steps:,} steps each are no step at all.")
    if last is None:
        return fresh
    state = checkpoint.read_state(last)
    if state.labels_sha256 != fresh.labels_sha256:
        raise StageError(
            f"{last} has a head for other classes: those of Kinetics-710 have changed since.\n"
            "Go on with the version of k710 that began the run, or give this run another --run."
        )
    if replace(state, step=0) != fresh:
        raise StageError(
            f"{last} was trained on {state.num_clips:,} clips of {state.view} in shards; there are "
            f"{fresh.num_clips:,} now, or they lie elsewhere, and their order would be another.\n"
            "Give this run another --run name; to start from its weights, --set start.kind=video "
            f"--init {last}."
        )
    return state


def _open_loader(recipe: Recipe, view: ViewIndex, reader: ShardReader, ranks: Ranks) -> Loader:
    data, run = recipe.data, recipe.run
    reading = Reading(
        reader,
        Sampling(data.frames, data.stride),
        chances=recipe.augment,
        repetitions=data.repetitions,
        seed=run.seed,
    )
    return Loader(
        view,
        reading,
        batch=data.batch,
        accumulate=count_micro_batches(recipe, ranks.ranks),
        rank=ranks.rank,
        ranks=ranks.ranks,
        workers=ranks.share_of_cores() if run.workers is None else run.workers,
        window_shards=data.window_shards,
        device=ranks.device,
        ahead=ranks.device.type == "cuda",
    )


def count_micro_batches(recipe: Recipe, ranks: int) -> int:
    """How many micro-batches a process makes of its share of a step: as few as memory allows."""
    batch, most = recipe.data.batch, recipe.run.clips_per_gpu
    unit = 2 if recipe.augment.is_mixed else 1  # pairs stay together
    share, rest = divmod(batch, ranks * unit)
    if rest:
        raise RecipeError(
            f"data.batch ({batch}) can't be shared by {ranks} GPUs"
            + (" in pairs." if unit > 1 else ".")
        )
    sizes = [n for n in range(1, share + 1) if share % n == 0]
    fitting = [n for n in sizes if n * unit * recipe.data.repetitions <= most] or sizes[:1]
    return share // fitting[-1]


def _keep_start(folder: Path, last: Path | None, trainee: Trainee, ranks: Ranks) -> dict[str, str]:
    """Keep the weights of the beginning, with which the last ones will be mixed; their hash.

    WeightsError where a run that goes on has lost them: not after all of its steps.
    """
    path = folder / checkpoint.START
    if last is None:
        weights = checkpoint.weights_of(trainee.module, keep=ranks.is_first)
        ranks.by_first(lambda: write_tensors(path, weights, record={}, wrapper="model_state"))
    wanted = shapes_of(trainee.module.state_dict())

    def check() -> str:
        check_shapes(wanted, shapes_of(read_tensors(path)[0]), path)
        sha256 = sha256_of(path)
        if last is not None:
            check_hash(path, sha256, step=last)
        return sha256

    return {checkpoint.START: ranks.by_first(check)}


@contextlib.contextmanager
def collect_signals() -> Iterator[list[int]]:
    """Collects SIGTERM and SIGINT; a Ctrl-C some seconds after the first one ends the process.

    A scheduler signals all processes of a job, and torchrun then passes its own signal on: what
    comes twice is asked once.
    """
    asked: list[int] = []
    since = 0.0

    def ask(number: int, _: object) -> None:
        nonlocal since
        if not asked:
            since = time.monotonic()
        elif number == signal.SIGINT and time.monotonic() - since > _SAME_S:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
