"""Training, from the first step to the last. Pretraining and fine-tuning are the same loop.

    k710 pretrain --work work --recipe k710_b16_f8x224 --init ViT-B-16.pt
    torchrun --nproc-per-node 8 -m k710_cli pretrain ...    # the same, on 8 GPUs
    k710 finetune --work work --target k400 --from k710_b16_f8x224

The batch of a step, and the learning rate, are the recipe's whatever the number of GPUs: each has
its share, in as many micro-batches as fit into its memory. Everything that chance decides is a
function of seed and step, so a run that was stopped at any moment goes on from its last checkpoint
exactly as it would have.
"""

import contextlib
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from k710.labels.orders import NUM_CLASSES
from uniformerv2.augment.colours import COLOURS
from uniformerv2.augment.mixup import Mixing, draw_mixes, mix_clips
from uniformerv2.augment.transforms import training_batch
from uniformerv2.data import Batch
from uniformerv2.distributed import join_ranks
from uniformerv2.evaluation.scoring import DTYPES
from uniformerv2.recipe import Recipe
from uniformerv2.training import checkpoint
from uniformerv2.training.metrics import RunProgress, StepWindow
from uniformerv2.training.model import Trainee, precision_of
from uniformerv2.training.optim import learning_rate
from uniformerv2.training.run import Session, collect_signals, open_run
from uniformerv2.weights.class_order import ClassOrder
from uniformerv2.weights.files import read_tensors
from uniformerv2.weights.load import make_record

__all__ = ["RunProgress", "TrainResult", "train_model"]


@dataclass(frozen=True, slots=True)
class TrainResult:
    """How far a run has come."""

    folder: Path
    began: int  # after how many steps this process went on; 0: from the start, `init` was read
    step: int
    total_steps: int
    is_first: bool  # of the processes of the run: the one that prints
    is_checked: bool = True  # not: it went on from an older checkpoint, which has no hashes

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing left to do."""
        return self.step >= self.total_steps


def train_model(
    recipe: Recipe,
    *,
    work: str | Path,
    run: str,
    init: str | None = None,
    shards: str | Path | None = None,
    cache: Path | None = None,
    device: str | None = None,
    watch: Callable[[RunProgress], None] = lambda seen: None,
) -> TrainResult:
    """Train in `work`/runs/`run`, or go on where that run stopped, up to the end or a signal.

    SIGTERM and SIGINT end it after the step that is under way, with a checkpoint. On a CPU call
    `shorten_openmp_spin` before the first import of torch.

    Args:
        recipe: All that decides what is computed.
        work: The work directory, with manifest.parquet and index.parquet.
        run: The name of the run's folder.
        init: What the recipe's `start` needs; it is read only where there is no checkpoint.
        shards: A folder or a URL; by default `work`/shards.
        cache: A folder that keeps what comes over a network.
        device: "cuda" or "cpu"; by default CUDA where there is a GPU.
        watch: Called on the first process with the lines of the log since the last call.

    Returns:
        How far the run has come.

    Raises:
        TrainingError: The loss is no number any more.
        K710Error: Files, recipe and clips do not fit together.
    """
    work = Path(work)
    folder = work / "runs" / run
    with (
        collect_signals() as asked,  # until all processes have met at the end
        join_ranks(device) as ranks,
        open_run(
            recipe,
            folder,
            work=work,
            init=init,
            shards=shards,
            cache=cache,
            ranks=ranks,
            asked=asked,
        ) as session,
    ):
        step = _steps(session, watch)
        began = session.began
        return TrainResult(
            folder, began.step, step, began.total_steps, ranks.is_first, session.is_checked
        )


# --- the loop


def _steps(session: Session, watch: Callable[[RunProgress], None]) -> int:
    """Train to the end, or until a signal asks to stop; returns the steps that are done."""
    run, ranks, began = session.recipe.run, session.ranks, session.began
    step, total = began.step, began.total_steps
    window = StepWindow(
        session.trainee.module.config,
        session.loader,
        ranks,
        total_steps=total,
        may_overflow=run.precision == "fp16",
    )
    prepare = _make_preparation(session.recipe, session.trainee.order, ranks.device)
    if _is_time_to_validate(session, step) and ranks.by_first(lambda: not _has_validated(session)):
        _validate(session, step, watch)  # it was stopped, or killed, before that
        window.forget_time()
    saved_at = time.monotonic()
    with contextlib.closing(session.loader.batches(step, prepare)) as batches:
        while step < total:
            _step(session, step, batches, window)
            step += 1
            is_late = time.monotonic() - saved_at > 60 * run.checkpoint_minutes
            stop, save = ranks.any_of(bool(session.asked), ranks.is_first and is_late)
            save = save or stop or step == total
            looks = _is_time_to_validate(session, step)
            if save or looks or step % run.log_steps == 0:
                _report(session, watch, window.look())  # before a checkpoint: it may find no number
            if save:  # before a look, for which who asks to stop may not wait
                _save(session, step)
                saved_at = time.monotonic()
            if looks and not stop:
                _validate(session, step, watch)
            if save or looks:
                window.forget_time()
            if stop:
                break
    return step


def _step(
    session: Session, step: int, batches: Generator[Batch, None, None], window: StepWindow
) -> None:
    """One step: this process's share of the batch through the model, and the weights moved."""
    optim, run = session.recipe.optim, session.recipe.run
    trainee, accumulate = session.trainee, session.loader.accumulate
    optimizer, scaler = trainee.optimizer, trainee.scaler
    dtype = DTYPES[precision_of(run, session.ranks.device)]
    rate = learning_rate(optim, step / session.began.steps)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]
    # ------------------------------------------------------------------------------------
    window.begin(step, rate)
    for micro in range(accumulate):
        batch = window.next(batches)
        clips, targets = batch.prepared
        torch.manual_seed(_seed(run.seed, step, micro, session.ranks.rank))  # of dropout
        with _synchronise(trainee.model, is_last=micro == accumulate - 1):
            with torch.autocast(clips.device.type, dtype, enabled=dtype != torch.float32):
                logits = trainee.model(clips)
                loss = F.cross_entropy(logits, targets, label_smoothing=optim.label_smoothing)
            scaler.scale(loss / accumulate).backward()
        window.add(batch, logits.detach(), targets, loss.detach())
        del batch, clips, logits, loss  # memory that the loader fills, and the graph
    scaler.unscale_(optimizer)
    norm = nn.utils.clip_grad_norm_(trainee.module.parameters(), optim.clip_norm)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    _update_average(trainee, optim.ema)
    window.end(norm)
    # ------------------------------------------------------------------------------------


def _is_time_to_validate(session: Session, step: int) -> bool:
    every = session.recipe.eval.every_epochs
    if session.validate is None or every is None or not step:
        return False
    epoch, rest = divmod(step, session.began.steps)
    if step == session.began.total_steps:
        return session.recipe.optim.wise is None  # what is saved then is another model
    return rest == 0 and epoch % every == 0


def _has_validated(session: Session) -> bool:
    """Whether the last line of the log that a run goes on with is a look, not a step."""
    return session.log is not None and "val_clips" in session.log.last


def _validate(session: Session, step: int, watch: Callable[[RunProgress], None]) -> None:
    assert session.validate is not None
    line = {"step": step, **session.validate()}
    _report(session, watch, RunProgress(step, session.began.total_steps, [line]))


def _report(session: Session, watch: Callable[[RunProgress], None], seen: RunProgress) -> None:
    if session.log is not None:
        session.log.write(seen.lines)
        watch(seen)


def _save(session: Session, step: int) -> None:
    """A checkpoint after `step` steps. What is evaluated is the average, if there is one."""
    trainee, keep = session.trainee, session.ranks.is_first
    raw = checkpoint.weights_of(trainee.module, keep=keep)
    moments = checkpoint.moments_of(trainee.module, trainee.optimizer, keep=keep)
    shown = raw
    if trainee.average is not None:
        shown = raw | {n: checkpoint.whole(t, keep=keep) for n, t in trainee.average.items()}
    # The others would only wait for the first one with the next step; its disk may be full.
    session.ranks.by_first(lambda: _write(session, step, raw, shown, moments))


def _write(
    session: Session,
    step: int,
    raw: Mapping[str, Tensor],
    shown: Mapping[str, Tensor],
    moments: Mapping[str, Mapping[str, Tensor]],
) -> None:
    recipe, trainee = session.recipe, session.trainee
    if recipe.optim.wise is not None and step == session.began.total_steps:
        shown = _mix_with_start(session, shown, recipe.optim.wise)
    optim: dict[str, Any] = {"moments": moments, "scaler": trainee.scaler.state_dict()}
    if shown is not raw:
        optim["weights"] = raw
    if session.log is not None:
        session.log.flush()
    checkpoint.save(
        session.folder,
        replace(session.began, step=step),
        weights=shown,
        record=make_record(trainee.module.config, trainee.order, "k710"),
        optim=optim,
        hashes=session.hashes,
    )
    checkpoint.remove_old(session.folder, recipe.run.keep)


# --- what a step needs


def _make_preparation(
    recipe: Recipe, order: ClassOrder, device: torch.device
) -> Callable[[Batch], tuple[Tensor, Tensor]]:
    """What makes (clips, targets) of a batch, on the device.

    Clips float (N, 3, T, size, size). Targets are classes of the head, int64 (N,), or of mixed
    clips shares of them, (N, K).
    """
    place = torch.full((NUM_CLASSES,), -1)
    place[order.rows()] = torch.arange(len(order.rows()))
    place = place.to(device)
    augment, seed = recipe.augment, recipe.run.seed
    mixing = Mixing(augment.mixup, augment.cutmix)
    colours = COLOURS[augment.colours]

    def prepare(batch: Batch) -> tuple[Tensor, Tensor]:
        times = recipe.data.repetitions
        draws = [drawn for turn in range(times) for drawn in (d[turn] for d in batch.draws)]
        clips = training_batch(
            batch.frames * times,
            draws,
            recipe.model.size,
            antialias=augment.antialias,
            colours=colours,
        )
        targets = place[batch.labels].repeat(times)
        if augment.is_mixed:
            mixes = draw_mixes(mixing, seed, batch.epoch, batch.positions) * times
            return mix_clips(clips, targets, mixes, len(order.rows()))
        return clips, targets

    return prepare


def _seed(*parts: int) -> int:
    """A seed of its own for each micro-batch of each step on each process."""
    words = np.random.SeedSequence(parts).generate_state(2, np.uint32)
    return int(words[0]) << 31 ^ int(words[1])


@contextlib.contextmanager
def _synchronise(model: nn.Module, *, is_last: bool) -> Iterator[None]:
    """Gradients go to the other processes with the last micro-batch of a step alone."""
    if isinstance(model, DistributedDataParallel):
        with contextlib.nullcontext() if is_last else model.no_sync():
            yield
        return
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(is_last)
    yield


@torch.no_grad()
def _update_average(trainee: Trainee, share: float | None) -> None:
    if trainee.average is None or share is None:
        return
    for name, parameter in trainee.module.named_parameters():
        # Not share * average + rest: rounding would move what does not change, a frozen ViT.
        trainee.average[name].lerp_(parameter, 1 - share)


def _mix_with_start(
    session: Session, shown: Mapping[str, Tensor], share: float
) -> dict[str, Tensor]:
    """`share` of the weights, the rest of those of the start; buffers stay (arXiv 2109.01903)."""
    start, _ = read_tensors(session.folder / checkpoint.START)
    names = dict(session.trainee.module.named_parameters())
    return {
        name: torch.lerp(start[name], tensor, share) if name in names else tensor
        for name, tensor in shown.items()
    }
