"""All that decides a UniFormerV2's shapes and arithmetic, and the published sizes."""

import reprlib
from dataclasses import dataclass, fields
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

__all__ = ["SIZES", "Config", "Precision", "check_type", "options_of"]

Fusion = Literal["sequential", "parallel", "hierarchical_kv", "hierarchical_q"]
Local = Literal["none", "single", "double"]
Precision = Literal["fp32", "bf16", "fp16"]
# Far above any use: what anyone wrote into a file shall not ask for all memory.
_MOST = {"num_classes": 1 << 20, "size": 1024, "patch": 256, "depth": 256, "heads": 1024}


@dataclass(frozen=True, slots=True)
class Config:
    """The defaults are B/16 for K710. ValueError names what can't be built."""

    num_classes: int = 710
    size: int = 224  # pixels of the square input that the table of positions is for
    patch: int = 16  # pixels
    width: int = 768
    depth: int = 12
    heads: int = 12
    global_layers: tuple[int, ...] = (8, 9, 10, 11)  # a global UniBlock after each, from 0
    global_mlp_ratio: float = 4.0
    fusion: Fusion = "sequential"
    frozen: bool = False  # the video token alone: no weighted sum with the class token
    temporal_downsample: bool = False
    local: Local = "none"  # before attention; and before the FFN
    local_width: int | None = None  # None: width / 1.5
    # The image ViT that it starts from: CLIP's unless told.
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu"
    norm_eps: float = 1e-5
    norm_before: bool = True  # CLIP's ln_pre
    layer_scale: bool = False  # DeiT III, DINOv2, BEiT
    relative_positions: bool = False  # BEiT
    # Training.
    drop_path: float = 0.0  # of the last block; of the first one 0, linear between
    global_drop_path: float = 0.0  # of the last global UniBlock
    drop_path_mode: Literal["sample", "reference"] = "sample"
    global_dropout: tuple[float, ...] | float = 0.5
    head_dropout: float = 0.5
    checkpoint_blocks: int = 0  # how many of the first blocks keep no activations

    def __post_init__(self) -> None:
        # A config may come out of a file that anyone wrote.
        for field in fields(self):
            check_type(field.name, field.type, getattr(self, field.name))
        for name in ("num_classes", "size", "patch", "width", "depth", "heads", "local_width"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= _MOST.get(name, 1 << 16):
                most = _MOST.get(name, 1 << 16)
                raise ValueError(f"{name} ({value}) must be above 0, and not above {most:,}")
        if self.checkpoint_blocks < 0:
            raise ValueError(f"checkpoint_blocks ({self.checkpoint_blocks}) must not be negative")
        if not 0 < self.norm_eps < 1:
            raise ValueError(f"norm_eps ({self.norm_eps}) must be between 0 and 1")
        if not 0 < self.global_mlp_ratio <= 64:
            ratio = self.global_mlp_ratio
            raise ValueError(f"global_mlp_ratio ({ratio}) must be above 0, and not above 64")
        if self.size % self.patch or self.width % self.heads:
            raise ValueError(
                f"size ({self.size}) must be a multiple of patch ({self.patch}), "
                f"and width ({self.width}) of heads ({self.heads})"
            )
        layers = self.global_layers
        if (
            not layers
            or list(layers) != sorted(set(layers))
            or not (layers[0] >= 0 and layers[-1] < self.depth)
        ):
            raise ValueError(f"global_layers {layers} must ascend from 0 to {self.depth - 1}")
        dropout = self.global_dropout
        if isinstance(dropout, tuple) and len(dropout) != len(layers):
            raise ValueError(f"global_dropout has {len(dropout)} rates for {len(layers)} blocks")
        rates = dropout if isinstance(dropout, tuple) else (dropout,)
        rates = (*rates, self.drop_path, self.global_drop_path, self.head_dropout)
        if not all(0 <= rate < 1 for rate in rates):
            raise ValueError(f"dropout and drop path rates {rates} must be from 0 to below 1")


def check_type(name: str, wanted: Any, value: object) -> None:
    """ValueError unless `value` is of that annotation: plain types, tuples, literals, unions."""
    for option in options_of(wanted):
        if get_origin(option) is Literal:
            if value in get_args(option):
                return
        elif get_origin(option) is tuple:
            of = get_args(option)[0]
            if isinstance(value, tuple) and all(_is(one, of) for one in value):
                return
        elif _is(value, option):
            return
    raise ValueError(f"{name} ({reprlib.repr(value)}) must be {_words(wanted)}")


def _words(wanted: Any) -> str:
    words: list[str] = []
    for option in options_of(wanted):
        if get_origin(option) is Literal:
            words += get_args(option)
        elif option is NoneType:
            words.append("none")
        else:
            words.append(getattr(option, "__name__", str(option)))
    return " or ".join(words)


def options_of(wanted: Any) -> tuple[Any, ...]:
    """The types that an annotation leaves to choose from."""
    return get_args(wanted) if get_origin(wanted) in (UnionType, Union) else (wanted,)


def _is(value: object, of: Any) -> bool:
    if of is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, of) and (of is bool or not isinstance(value, bool))


SIZES = {
    "b16": Config(),
    "l14": Config(patch=14, width=1024, depth=24, heads=16, global_layers=(20, 21, 22, 23)),
    "l14_336": Config(
        size=336, patch=14, width=1024, depth=24, heads=16, global_layers=(20, 21, 22, 23)
    ),
    # For tests and the demo: no published weights.
    "tiny": Config(size=64, width=64, depth=4, heads=4, global_layers=(2, 3)),
}
