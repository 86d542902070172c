"""What is optimised and how quickly: groups of parameters, and the learning rate. Pure functions.

Source: slowfast/models/optimizer.py and slowfast/utils/lr_policy.py of the reference.
"""

import math
from typing import Any

from torch import nn

from uniformerv2.recipe import Optim

__all__ = ["freeze", "learning_rate", "parameter_groups"]


def learning_rate(optim: Optim, epoch: float) -> float:
    """The learning rate of the step that begins when so many epochs, and parts of one, are over.

    A linear warm-up to the peak, then half a cosine.
    """
    if epoch < optim.warmup_epochs:
        return optim.start_lr + (optim.lr - optim.start_lr) * epoch / optim.warmup_epochs
    share = min((epoch - optim.warmup_epochs) / (optim.epochs - optim.warmup_epochs), 1.0)
    fall = optim.lr - optim.end_lr
    return optim.end_lr + fall * 0.5 * (1 + math.cos(math.pi * share))


def parameter_groups(
    model: nn.Module, weight_decay: float = 0.05, layer_decay: float | None = None
) -> list[dict[str, Any]]:
    """Groups for an optimizer: what is decayed, and vectors, which are not.

    Vectors are biases, norms, the class token and the balance; tables of positions, queries and all
    kernels are decayed. Parameters without a gradient are in neither. `lr_scale` is 1, or with
    `layer_decay` that to the power of the layers above: a pair of groups for each layer.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    top = _layers(model)
    layers = {name: top if layer_decay is None else _layer(name, top) for name, _ in named}
    groups = []
    for layer in sorted(set(layers.values()), reverse=True):
        here = [p for name, p in named if layers[name] == layer]
        scale = 1.0 if layer_decay is None else layer_decay ** (top - layer)
        for is_decayed in (True, False):
            chosen = [p for p in here if (p.ndim != 1) == is_decayed]
            if chosen:
                decay = weight_decay if is_decayed else 0.0
                groups.append({"params": chosen, "weight_decay": decay, "lr_scale": scale})
    return groups


def _layers(model: Any) -> int:
    """The number of the topmost layer: embedding 0, then the blocks, then all that is above."""
    return len(model.blocks) + 1


def _layer(name: str, top: int) -> int:
    if name.startswith("blocks."):
        return 1 + int(name.split(".")[1])
    below = ("patch_embedding.", "class_token", "positions", "norm_before.")
    return 0 if name.startswith(below) else top


def freeze(model: Any) -> None:
    """Leave a UniFormerV2's image ViT as it is: no gradient, its global branch and head alone."""
    parts = (model.patch_embedding, model.norm_before, model.blocks)
    for parameter in (
        model.class_token,
        model.positions,
        *(p for m in parts for p in m.parameters()),
    ):
        parameter.requires_grad_(False)
