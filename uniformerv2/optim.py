"""What is optimised and how quickly: groups of parameters, and the learning rate. Pure functions.

Source: slowfast/models/optimizer.py and slowfast/utils/lr_policy.py of the reference.
"""

import math
from dataclasses import dataclass
from typing import Any

from torch import nn

__all__ = ["Schedule", "freeze", "learning_rate", "parameter_groups"]


@dataclass(frozen=True, slots=True)
class Schedule:
    """A linear warm-up to the peak, then half a cosine; learning rates are absolute."""

    peak: float
    start: float
    end: float
    warmup_epochs: float
    epochs: float  # with those of the warm-up

    def __post_init__(self) -> None:
        if not 0 <= self.warmup_epochs < self.epochs:
            raise ValueError(
                f"warmup_epochs ({self.warmup_epochs}) must be from 0 to below epochs "
                f"({self.epochs})"
            )


def learning_rate(schedule: Schedule, epoch: float) -> float:
    """The learning rate of the step that begins when so many epochs, and parts of one, are over."""
    if epoch < schedule.warmup_epochs:
        rise = schedule.peak - schedule.start
        return schedule.start + rise * epoch / schedule.warmup_epochs
    length = schedule.epochs - schedule.warmup_epochs
    share = min((epoch - schedule.warmup_epochs) / length, 1.0)
    fall = schedule.peak - schedule.end
    return schedule.end + fall * 0.5 * (1 + math.cos(math.pi * share))


def parameter_groups(model: nn.Module, weight_decay: float = 0.05) -> list[dict[str, Any]]:
    """Groups for an optimizer: what is decayed, and vectors, which are not.

    Vectors are biases, norms, the class token and the balance; tables of positions, queries and all
    kernels are decayed. Parameters without a gradient are in neither.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim != 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
    ]


def freeze(model: Any) -> None:
    """Leave a UniFormerV2's image ViT as it is: no gradient, its global branch and head alone."""
    parts = (model.patch_embedding, model.norm_before, model.blocks)
    for parameter in (
        model.class_token,
        model.positions,
        *(p for m in parts for p in m.parameters()),
    ):
        parameter.requires_grad_(False)
