"""What the last steps computed: fetched from the device all at once, and told to whoever watches.

To ask a GPU for a number is to wait for it, so it is asked once for a window of steps. Each
process has its share of a batch; the numbers are those of the whole.
"""

import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from k710.errors import TrainingError
from uniformerv2.config import Config
from uniformerv2.cost import peak_flops, training_flops
from uniformerv2.data import Batch, Loader
from uniformerv2.distributed import Ranks

__all__ = ["RunProgress", "StepWindow"]


@dataclass(frozen=True, slots=True)
class RunProgress:
    """How far a run is: `lines` are those of its log since the last look."""

    step: int
    total_steps: int
    lines: list[dict[str, Any]]
    step_s: float = 0.0  # of one step, the mean over these


@dataclass(slots=True)
class _Step:
    number: int  # from 0
    rate: float
    losses: list[Tensor] = field(default_factory=list)  # one for each micro-batch
    hits: list[Tensor] = field(default_factory=list)  # share of clips with the right class
    rows: list[list[int]] = field(default_factory=list)  # of the view
    norm: Tensor | None = None  # of the gradients, before they are clipped


class StepWindow:
    """The steps since the last look."""

    def __init__(
        self,
        config: Config,
        loader: Loader,
        ranks: Ranks,
        *,
        total_steps: int,
        may_overflow: bool,
    ) -> None:
        self.loader, self.ranks, self.total = loader, ranks, total_steps
        self.may_overflow = may_overflow  # fp16, whose scaler leaves such steps out
        frames, repetitions = loader.reading.sampling.clip_frames, loader.reading.repetitions
        self.flops = training_flops(config, frames) * repetitions
        is_cuda = ranks.device.type == "cuda"
        self.peak = peak_flops(torch.cuda.get_device_name()) if is_cuda else None
        self.steps: list[_Step] = []
        self.forget_time()

    def begin(self, step: int, rate: float) -> None:
        """A step, from 0, with that learning rate."""
        self.steps.append(_Step(step, rate))

    def next(self, batches: Iterator[Batch]) -> Batch:
        """The next batch; what it takes is waiting."""
        start = time.perf_counter()
        batch = next(batches)
        self.waited_s += time.perf_counter() - start
        return batch

    def add(self, batch: Batch, logits: Tensor, targets: Tensor, loss: Tensor) -> None:
        """What a micro-batch of the step gave."""
        classes = targets if targets.ndim == 1 else targets.argmax(1)
        now = self.steps[-1]
        now.losses.append(loss)
        now.hits.append((logits.argmax(1) == classes).float().mean())
        now.rows.append(batch.rows)

    def end(self, norm: Tensor) -> None:
        """The norm of the step's gradients."""
        self.steps[-1].norm = norm.full_tensor() if isinstance(norm, DTensor) else norm

    def forget_time(self) -> None:
        """Take the time from here on: what was done meanwhile was no training."""
        self.since, self.waited_s = time.perf_counter(), 0.0

    def look(self) -> RunProgress:
        """What the steps gave, on all processes. TrainingError if it is no number."""
        steps, self.steps = self.steps, []
        last = steps[-1].number + 1
        rows = [[torch.stack(s.losses).mean(), torch.stack(s.hits).mean(), s.norm] for s in steps]
        values = torch.stack(
            [torch.stack([t.float() for t in row if t is not None]) for row in rows]
        )
        numbers = self.ranks.mean(values).tolist()
        self._check(steps, numbers)
        step_s, speed = self._speed(len(steps))
        lines = []
        for step, (loss, hits, norm) in zip(steps, numbers, strict=True):
            lines.append(
                {
                    "step": step.number + 1,
                    "epoch": round((step.number + 1) / self.loader.steps, 4),
                    "loss": loss,
                    "accuracy": hits,
                    "lr": step.rate,
                    "grad_norm": norm if math.isfinite(norm) else None,
                    **speed,
                }
            )
        return RunProgress(last, self.total, lines, step_s)

    def _check(self, steps: list[_Step], numbers: list[list[float]]) -> None:
        for step, (loss, _, norm) in zip(steps, numbers, strict=True):
            if math.isfinite(loss) and (self.may_overflow or math.isfinite(norm)):
                continue
            batches = zip(step.rows, step.losses, strict=True)
            mine = [row for rows, own in batches if not torch.isfinite(own) for row in rows]
            bad = list(itertools.chain(*self.ranks.gather(mine)))
            if not bad:  # the gradients alone: of no micro-batch more than of another
                bad = list(itertools.chain(*self.ranks.gather(list(itertools.chain(*step.rows)))))
            what = "loss" if not math.isfinite(loss) else "norm of the gradients"
            ids = self.loader.view.clip_ids
            raise TrainingError(
                f"Step {step.number + 1:,}: the {what} is {loss if what == 'loss' else norm}. "
                f"The clips of it: {' '.join(ids[row] for row in bad)}\n"
                "The last checkpoint is from before it. A lower --set optim.lr or another "
                "--set run.precision may help; k710 verify --deep looks at the clips."
            )

    def _speed(self, num: int) -> tuple[float, dict[str, Any]]:
        """Seconds of a step, and what the log says of it: the same for all since the last look."""
        step_s = (time.perf_counter() - self.since) / num
        clips_per_s = self.loader.batch / step_s
        mfu = None
        if self.peak is not None:
            mfu = clips_per_s * self.flops / (self.peak * self.ranks.ranks)
        device = self.ranks.device
        memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
        said = {
            "clips_per_s": round(clips_per_s, 2),
            "data_wait_s": round(self.waited_s / num, 4),
            "mfu": None if mfu is None else round(mfu, 4),
            "mem_bytes": memory,
        }
        self.forget_time()
        return step_s, said
