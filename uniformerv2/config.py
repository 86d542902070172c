"""All that decides a UniFormerV2's shapes and arithmetic, and the published sizes."""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from uniformerv2.field_types import Checked, Rate

__all__ = ["SIZES", "Config", "Precision"]


def _between(least: int, most: int) -> Meta:
    return Meta(ge=least, le=most, description=f"a whole number from {least} to {most:,}")


Fusion = Literal["sequential", "parallel", "hierarchical_kv", "hierarchical_q"]
Local = Literal["none", "single", "double"]
Precision = Literal["fp32", "bf16", "fp16"]
# Limits lie far above any use: what anyone wrote into a file shall not ask for all memory.
_MOST_RELATIVE = 64  # patches: a table of all pairs has 134 MB then, in each block
_Width = Annotated[int, _between(1, 1 << 16)]
_Small = Annotated[int, _between(1, 1024)]
_Tiny = Annotated[int, _between(1, 256)]


@dataclass(frozen=True, slots=True)
class Config(Checked):
    """The defaults are B/16 for K710. ValueError names what can't be built."""

    num_classes: Annotated[int, _between(1, 1 << 20)] = 710
    size: _Small = 224  # pixels of the square input that the table of positions is for
    patch: _Tiny = 16  # pixels
    width: _Width = 768
    depth: _Tiny = 12
    heads: _Small = 12
    # A global UniBlock comes after each of these layers, counted from 0.
    global_layers: Annotated[tuple[int, ...], Meta(description="a list of layers")] = (8, 9, 10, 11)
    global_mlp_ratio: Annotated[
        float, Meta(gt=0, le=64, description="a number above 0, and not above 64")
    ] = 4.0
    fusion: Fusion = "sequential"
    frozen: bool = False  # the video token alone: no weighted sum with the class token
    temporal_downsample: bool = False
    local: Local = "none"  # before attention; and before the FFN
    local_width: _Width | None = None  # None: width / 1.5
    # The image ViT that it starts from: CLIP's unless told.
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu"
    norm_eps: Annotated[float, Meta(gt=0, lt=1, description="a number between 0 and 1")] = 1e-5
    norm_before: bool = True  # CLIP's ln_pre
    layer_scale: bool = False  # DeiT III, DINOv2, BEiT
    relative_positions: bool = False  # BEiT
    # Training.
    drop_path: Rate = 0.0  # of the last block; of the first one 0, linear between
    global_drop_path: Rate = 0.0  # of the last global UniBlock
    drop_path_mode: Literal["sample", "reference"] = "sample"
    global_dropout: Annotated[
        tuple[Rate, ...] | Rate,
        Meta(description="a rate from 0 to below 1, or one for each global UniBlock"),
    ] = 0.5
    head_dropout: Rate = 0.5
    # How many of the first blocks keep no activations.
    checkpoint_blocks: Annotated[int, Meta(ge=0, description="a whole number from 0 up")] = 0

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        if self.size % self.patch or self.width % self.heads:
            raise ValueError(
                f"size ({self.size}) must be a multiple of patch ({self.patch}), "
                f"and width ({self.width}) of heads ({self.heads})"
            )
        if self.relative_positions and self.size // self.patch > _MOST_RELATIVE:
            raise ValueError(
                f"size ({self.size}) of patches ({self.patch}) has more than {_MOST_RELATIVE} a "
                "side, which is too many for relative_positions"
            )
        layers, dropout = self.global_layers, self.global_dropout
        is_ascending = layers and list(layers) == sorted(set(layers))
        if not is_ascending or layers[0] < 0 or layers[-1] >= self.depth:
            raise ValueError(f"global_layers {layers} must ascend from 0 to {self.depth - 1}")
        if isinstance(dropout, tuple) and len(dropout) != len(layers):
            raise ValueError(f"global_dropout has {len(dropout)} rates for {len(layers)} blocks")

    @property
    def depends_on_parts(self) -> bool:
        """Whether training depends on which clips are computed together: dropout, BatchNorm."""
        rates = (self.drop_path, self.global_drop_path, self.head_dropout, self.global_dropout)
        return any(any(r) if isinstance(r, tuple) else r for r in rates) or self.local != "none"


SIZES = {
    "b16": Config(),
    "l14": Config(patch=14, width=1024, depth=24, heads=16, global_layers=(20, 21, 22, 23)),
    "l14_336": Config(
        size=336, patch=14, width=1024, depth=24, heads=16, global_layers=(20, 21, 22, 23)
    ),
    # For tests and the demo: no published weights.
    "tiny": Config(size=64, width=64, depth=4, heads=4, global_layers=(2, 3)),
}
