"""The names that a model's tensors have here, and in the checkpoints of OpenGVLab and MMAction2.

Both families store the same tensors; MMAction2 calls those of the head otherwise. Ours are named
for what they are, and linear layers are matrices, where the others store 1x1x1 convolutions.
"""

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

from uniformerv2.config import Config
from uniformerv2.model import UniFormerV2

__all__ = [
    "FORMATS",
    "Format",
    "format_of",
    "from_names",
    "head_names",
    "names_in",
    "shapes_in",
    "to_names",
]

Format = Literal["k710", "opengvlab", "mmaction2"]
FORMATS: tuple[Format, ...] = get_args(Format)

_WHOLE = {
    "class_token": "class_embedding",
    "positions": "positional_embedding",
    "patch_embedding.weight": "conv1.weight",
    "norm_before": "ln_pre",
    "query": "transformer.temporal_cls_token",
    "balance": "transformer.balance",
}
_HEAD = {
    "opengvlab": {"norm": "backbone.transformer.proj.0", "head": "backbone.transformer.proj.2"},
    "mmaction2": {"norm": "backbone.transformer.norm", "head": "cls_head.fc_cls"},
}
_ATTENTION = {
    "attention.qkv.weight": "attn.in_proj_weight",
    "attention.qkv.bias": "attn.in_proj_bias",
    "attention.proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_LOCAL = {"norm": "0", "reduce": "1", "mix": "2", "expand": "3"}
_BLOCK = (
    _ATTENTION
    | {"norm_1": "ln_1", "norm_2": "ln_2"}
    | {
        f"local_{n}.{ours}": f"lmhra{n}.pos_embed.{theirs}"
        for n in (1, 2)
        for ours, theirs in _LOCAL.items()
    }
)
_GLOBAL = _ATTENTION | {"norm_query": "ln_1", "norm_mlp": "ln_2", "norm_tokens": "ln_3"}


def names_in(config: Config, family: Format) -> dict[str, str]:
    """Each tensor of such a model: our name -> the name in `family`, in the model's order.

    KeyError for what the other two have no name for: `rename_tensors` refuses it.
    """
    with torch.device("meta"):
        names = list(UniFormerV2(config).state_dict())
    return {name: name if family == "k710" else _translated(name, family) for name in names}


def _translated(name: str, family: Format) -> str:
    first, _, rest = name.partition(".")
    if first in _HEAD[family]:
        return f"{_HEAD[family][first]}.{rest}"
    if first in ("blocks", "global_blocks"):
        index, _, part = rest.partition(".")
        if first == "blocks":
            return f"backbone.transformer.resblocks.{index}.{_part(part, _BLOCK)}"
        if part.startswith("dpe."):
            return f"backbone.transformer.dpe.{index}.{part.removeprefix('dpe.')}"
        return f"backbone.transformer.dec.{index}.{_part(part, _GLOBAL)}"
    return f"backbone.{_part(name, _WHOLE)}"


def _part(name: str, table: Mapping[str, str]) -> str:
    if name in table:
        return table[name]
    layer, _, last = name.rpartition(".")
    return f"{table[layer]}.{last}"


def _shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in the other families of a tensor of ours with this name and shape."""
    if name.endswith((".reduce.weight", ".expand.weight")):
        return (*shape, 1, 1, 1)
    if name.endswith(".mix.weight"):
        return (*shape, 1, 1)
    return (1, *shape) if name == "query" else shape


def shapes_in(config: Config, family: Format) -> dict[str, tuple[int, ...]]:
    """Name in `family` -> shape, for each tensor of such a model."""
    with torch.device("meta"):
        tensors = UniFormerV2(config).state_dict()
    names = names_in(config, family)
    return {
        names[name]: tuple(t.shape) if family == "k710" else _shape(name, tuple(t.shape))
        for name, t in tensors.items()
    }


def to_names(tensors: Mapping[str, Tensor], config: Config, family: Format) -> dict[str, Tensor]:
    """Our tensors as `family` names and shapes them."""
    names = names_in(config, family)
    if family == "k710":
        return dict(tensors)
    return {names[name]: t.reshape(_shape(name, tuple(t.shape))) for name, t in tensors.items()}


def from_names(tensors: Mapping[str, Tensor], config: Config, family: Format) -> dict[str, Tensor]:
    """Tensors of `family`, names and shapes already compared, as ours."""
    with torch.device("meta"):
        ours = UniFormerV2(config).state_dict()
    names = names_in(config, family)
    return {name: tensors[names[name]].reshape(like.shape) for name, like in ours.items()}


def format_of(names: Mapping[str, object] | set[str]) -> Format | None:
    """Whose names these are; None if nobody's."""
    if "head.weight" in names and "class_token" in names:
        return "k710"
    if "cls_head.fc_cls.weight" in names and "backbone.class_embedding" in names:
        return "mmaction2"
    # Without its head it is still known whose it is, so that the head can be said to be missing.
    if "backbone.class_embedding" in names:
        return "mmaction2" if "backbone.transformer.norm.weight" in names else "opengvlab"
    return None


def head_names(family: Format) -> tuple[str, str]:
    """The names of the classifier's weight and bias."""
    name = "head" if family == "k710" else _HEAD[family]["head"]
    return f"{name}.weight", f"{name}.bias"
