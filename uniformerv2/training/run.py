"""A run, opened: its folder, its clips, and a model with what moves it, where it goes on.

Where there is a checkpoint all is as that has it; else as the recipe starts.
"""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.compiler import set_stance
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from k710.errors import RecipeError, StageError
from k710.files import locked, replacing, word_os_errors
from k710.labels.orders import labels_sha256
from uniformerv2.augment.transforms import COLOURS
from uniformerv2.data import Loader
from uniformerv2.dataset.clips import View, read_view
from uniformerv2.dataset.decode import Reading
from uniformerv2.dataset.frames import Sampling
from uniformerv2.dataset.shard_reader import ShardReader
from uniformerv2.distributed import Ranks
from uniformerv2.evaluation.scoring import DTYPES, TOP, Look, columns_of, scores_of
from uniformerv2.model import UniFormerV2
from uniformerv2.recipe import Recipe, list_differences
from uniformerv2.recipe_toml import read_recipe, to_toml
from uniformerv2.training import checkpoint
from uniformerv2.training.checkpoint import State
from uniformerv2.training.init import started
from uniformerv2.training.log import RunLog
from uniformerv2.training.optim import Schedule, freeze, parameter_groups
from uniformerv2.weights.class_order import ClassOrder
from uniformerv2.weights.files import step_of_run, write_tensors
from uniformerv2.weights.load import load_model, read

__all__ = ["Session", "Trainee", "num_parts", "opened", "precision_of", "signals"]

_SAME_S = 5.0  # signals within it are one: a person who presses again waits longer


@dataclass(frozen=True, slots=True)
class Trainee:
    """The model and what moves it."""

    module: UniFormerV2  # its parameters are those of `model`
    model: nn.Module  # what is called: the same, or wrapped for several processes
    order: ClassOrder  # of the head
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: dict[str, Tensor] | None  # of the parameters over the last steps


@dataclass(frozen=True, slots=True)
class Session:
    """All that a run holds open."""

    recipe: Recipe
    folder: Path
    began: State
    ranks: Ranks
    trainee: Trainee
    loader: Loader
    schedule: Schedule
    validate: Callable[[], dict[str, float]] | None
    log: RunLog | None  # of the first process
    asked: list[int]  # signals that ask to stop


@contextlib.contextmanager
def opened(
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

    `asked` is what `signals` collects.
    """
    with contextlib.ExitStack() as stack:
        view = read_view(work, recipe.data.train)
        reader = ShardReader(shards or work / "shards", cache)
        last = ranks.by_first(lambda: _claimed(folder, recipe, stack))
        loader = stack.enter_context(_loader(recipe, view, reader, ranks))
        began = _state(recipe, view, loader.steps, last)
        trainee = _trainee(recipe, init, last, ranks)
        if last is None and recipe.optim.wise is not None:
            _write_start(folder, trainee, ranks)
        logs: list[RunLog] = []
        ranks.by_first(lambda: logs.append(_log(recipe, folder, began.step, stack)))
        o = recipe.optim
        yield Session(
            recipe,
            folder,
            began,
            ranks,
            trainee,
            loader,
            Schedule(o.lr, o.start_lr, o.end_lr, o.warmup_epochs, o.epochs),
            _validation(recipe, work, reader, ranks, trainee),
            logs[0] if logs else None,
            asked,
        )


def _claimed(folder: Path, recipe: Recipe, stack: contextlib.ExitStack) -> Path | None:
    """The checkpoint that the run goes on from, if there is one; recipe.toml is written.

    The folder is this process's alone until `stack` ends. StageError if it is another's, or the run
    was begun with another recipe.
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
        apart = list_differences(recipe, read_recipe(path))
        if apart:
            raise StageError(
                "\n  ".join([f"{folder} is a run of another recipe:", *apart])
                + "\nGo on with its own settings, or give this one another --run."
            )
    with word_os_errors(folder), replacing(path) as partial:
        partial.write_text(to_toml(recipe), encoding="utf-8")
    return last


def _log(recipe: Recipe, folder: Path, step: int, stack: contextlib.ExitStack) -> RunLog:
    run = recipe.run
    log = RunLog(folder, step, tensorboard=run.tensorboard, wandb=run.wandb)
    return stack.enter_context(log)


def _state(recipe: Recipe, view: View, steps: int, last: Path | None) -> State:
    """Where the run begins. StageError if the clips are others than it has been trained on."""
    fresh = State(
        step=0,
        steps=steps,
        total_steps=round(recipe.optim.epochs * steps),
        view=view.name,
        view_sha256=view.sha256,
        num_clips=len(view.clip_ids),
        num_wanted=view.num_wanted,
        labels_sha256=labels_sha256(),
    )
    if not fresh.total_steps:
        raise StageError(
            f"optim.epochs ({recipe.optim.epochs}) of {steps:,} steps each are no step at all."
        )
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


def _loader(recipe: Recipe, view: View, reader: ShardReader, ranks: Ranks) -> Loader:
    data, run = recipe.data, recipe.run
    reading = Reading(
        reader,
        Sampling(data.frames, data.stride),
        chances=recipe.augment.chances,
        repetitions=data.repetitions,
        seed=run.seed,
    )
    return Loader(
        view,
        reading,
        batch=data.batch,
        parts=num_parts(recipe, ranks.ranks),
        rank=ranks.rank,
        ranks=ranks.ranks,
        workers=_num_workers(recipe, ranks),
        window_shards=data.window_shards,
        device=ranks.device,
        ahead=ranks.device.type == "cuda",
    )


def num_parts(recipe: Recipe, ranks: int) -> int:
    """In how many parts a process has its share of a step, as few as its memory allows."""
    batch, most = recipe.data.batch, recipe.run.clips_per_gpu
    unit = 2 if recipe.augment.mixup or recipe.augment.cutmix else 1  # pairs stay together
    share, rest = divmod(batch, ranks * unit)
    if rest:
        raise RecipeError(
            f"data.batch ({batch}) can't be shared by {ranks} GPUs"
            + (" in pairs." if unit > 1 else ".")
        )
    sizes = [n for n in range(1, share + 1) if share % n == 0]
    fitting = [n for n in sizes if n * unit * recipe.data.repetitions <= most] or sizes[:1]
    return share // fitting[-1]


def _num_workers(recipe: Recipe, ranks: Ranks) -> int:
    """Processes that decode for each process that trains."""
    if recipe.run.workers is not None:
        return recipe.run.workers
    return ranks.share_of_cores()


def _trainee(recipe: Recipe, init: str | None, last: Path | None, ranks: Ranks) -> Trainee:
    """The model, wrapped, with its optimizer: of a checkpoint, or as the recipe starts."""
    o, device = recipe.optim, ranks.device
    if last is None:
        module, order = started(recipe, init)
    else:
        found = read(last)
        assert found.order is not None  # what is saved below has one
        config = replace(found.config, checkpoint_blocks=recipe.model.checkpoint_blocks)
        module, order = load_model(replace(found, config=config)).train(), found.order
    if recipe.model.frozen:
        freeze(module)
    shown = {name: tensor.detach().clone() for name, tensor in module.named_parameters()}
    module.to(device)
    model = _wrapped(module, recipe, ranks)
    optimizer = torch.optim.AdamW(
        parameter_groups(module, o.weight_decay, o.layer_decay),
        lr=o.lr,
        betas=(o.betas[0], o.betas[1]),
        eps=o.eps,
        fused=device.type == "cuda",
    )
    scaler = torch.amp.GradScaler(device.type, enabled=precision_of(recipe, device) == "fp16")
    average = None
    if o.ema is not None:
        average = checkpoint.placed(shown, dict(module.named_parameters()))
    if last is not None:
        kept = checkpoint.read_optim(last)
        if "weights" in kept:
            checkpoint.load_weights(module, kept["weights"])
        checkpoint.load_moments(module, optimizer, kept["moments"])
        scaler.load_state_dict(kept["scaler"])
    return Trainee(module, model, order, optimizer, scaler, average)


def _wrapped(module: UniFormerV2, recipe: Recipe, ranks: Ranks) -> nn.Module:
    """The model for the processes that there are; each block is compiled if the recipe says so."""
    blocks: list[nn.Module] = [*module.blocks, *module.global_blocks]
    if recipe.run.compile:
        for block in blocks:
            block.compile(dynamic=False)
    if ranks.ranks == 1:
        return module
    if recipe.run.sharding == "ddp":
        ids = [ranks.device.index] if ranks.device.type == "cuda" else None
        return DistributedDataParallel(module, device_ids=ids, gradient_as_bucket_view=True)
    # Parameters stay float32, and autocast narrows them: the numbers are DDP's.
    mesh = init_device_mesh(ranks.device.type, (ranks.ranks,))
    for block in blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(module, mesh=mesh)  # changes its class, not its parameters' names
    return module


def _validation(
    recipe: Recipe, work: Path, reader: ShardReader, ranks: Ranks, trainee: Trainee
) -> Callable[[], dict[str, float]] | None:
    """What looks at `data.val` while training: one clip in the middle of each video, one crop."""
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
    colours = COLOURS[recipe.augment.colours]
    dtype = DTYPES[precision_of(recipe, ranks.device)]
    how = Look(heads, classes, recipe.model.size, 1, colours, dtype)
    is_ddp = isinstance(trainee.model, DistributedDataParallel)
    called = trainee.module if is_ddp else trainee.model  # DDP has nothing to exchange

    def look() -> dict[str, float]:
        with (
            Loader(
                view,
                Reading(reader, Sampling(data.frames, data.stride)),
                batch=recipe.run.clips_per_gpu * ranks.ranks,
                rank=ranks.rank,
                ranks=ranks.ranks,
                workers=_num_workers(recipe, ranks),
                device=ranks.device,
                ahead=ranks.device.type == "cuda",
                skip_broken=True,
            ) as loader,
            _averaged(trainee),
            set_stance("force_eager"),  # no compilation for the one batch that is smaller
        ):
            scores = scores_of(called, loader, ranks, how)
            if isinstance(called, FSDPModule):
                called.reshard()  # without a backward pass it would keep what it gathered
        return {
            "val_top1": scores.accuracy(),
            "val_top5": scores.accuracy(TOP),
            "val_clips": len(scores.rows),
        }

    return look


@contextlib.contextmanager
@torch.no_grad()
def _averaged(trainee: Trainee) -> Iterator[None]:
    """The average of the weights in place of the weights, if there is one."""
    if trainee.average is None:
        yield
        return
    own = {name: p.detach().clone() for name, p in trainee.module.named_parameters()}
    _put(trainee.module, trainee.average)
    try:
        yield
    finally:
        _put(trainee.module, own)


@torch.no_grad()
def _put(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    for name, parameter in module.named_parameters():
        parameter.copy_(weights[name])


def _write_start(folder: Path, trainee: Trainee, ranks: Ranks) -> None:
    """Keep the weights of the beginning: the last ones will be mixed with them."""
    weights = checkpoint.weights_of(trainee.module, keep=ranks.is_first)
    path = folder / "start.safetensors"
    ranks.by_first(lambda: write_tensors(path, weights, record={}, wrapper="model_state"))


@contextlib.contextmanager
def signals() -> Iterator[list[int]]:
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


def precision_of(recipe: Recipe, device: torch.device) -> str:
    """In what the model computes: fp32, bf16, fp16."""
    return recipe.run.precision or ("bf16" if device.type == "cuda" else "fp32")
