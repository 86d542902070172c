"""Image ViTs to start from: CLIP in its packagings, and timm's ViTs.

    FILE         OpenAI CLIP (a state dict, or the TorchScript archive that is served), open_clip
    FOLDER       Hugging Face CLIP: config.json beside the weights tells the activation
    timm:NAME    CLIP, DINO, MAE, BEiT, DeiT III, DINOv2, supervised ImageNet

After the last block, before any final norm, every token of every frame is the image model's own
(`UniFormerV2.tokens`). What a video model has no use for is left out: the final norm, projections,
classifiers, decoders.

Of a TorchScript archive the tensors are read, and its program is not: see `torch_file`.
"""

import contextlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from k710.errors import MissingExtra, WeightsError, shown
from uniformerv2.config import Config
from uniformerv2.model import UniFormerV2, resize_positions
from uniformerv2.weights.files import read_tensors
from uniformerv2.weights.load import check_shapes, shapes_of
from uniformerv2.weights.names import names_in, shapes_in

__all__ = ["OF_THE_VIT", "ImageViT", "arm", "from_timm", "image_vit"]

# What of a Config the image model decides.
OF_THE_VIT = (
    "patch",
    "activation",
    "norm_eps",
    "norm_before",
    "layer_scale",
    "relative_positions",
)
Activation = Literal["quick_gelu", "gelu"]
_VISION = "vision_model."
_ALONE = "embeddings.class_embedding"
_UNTOLD = ("visual.class_embedding", _ALONE, _VISION + _ALONE)  # names of either activation
# The width of H/14, whose heads are not of 64 channels. g and G have another FFN, and are refused.
_HEADS = {1280: 16}
_HF = {
    "embeddings.class_embedding": "class_embedding",
    "embeddings.patch_embedding.weight": "conv1.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "pre_layrnorm": "ln_pre",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


@dataclass(frozen=True, slots=True)
class ImageViT:
    """An image model under our names: `tensors` of the embedding and the blocks."""

    name: str
    tensors: dict[str, Tensor]  # patch_embedding.weight is (C, 3, p, p)
    heads: int
    activation: Activation
    norm_eps: float
    norm_before: bool
    layer_scale: bool = False
    relative_positions: bool = False

    @property
    def patch(self) -> int:
        """Pixels."""
        return self.tensors["patch_embedding.weight"].shape[-1]


def arm(vit: ImageViT, config: Config) -> UniFormerV2:
    """A fresh model of `config` on that image ViT, every parameter trainable, in float32.

    Patch size, activation, epsilon and what else the ViT decides are the ViT's; its table of
    positions is resized to `config.size`. WeightsError if width, depth or heads are others.
    """
    depth = len({name.split(".")[1] for name in vit.tensors if name.startswith("blocks.")})
    width = vit.tensors["class_token"].numel()
    if (width, depth, vit.heads) != (config.width, config.depth, config.heads):
        raise WeightsError(
            f"{shown(vit.name)} is {width} wide, {depth} blocks deep, with {vit.heads} heads: the "
            f"model is {config.width}, {config.depth}, {config.heads}."
        )
    if config.size % vit.patch:
        raise WeightsError(
            f"{shown(vit.name)} cuts patches of {vit.patch} pixels: {config.size} is no multiple."
        )
    config = replace(config, **{name: getattr(vit, name) for name in OF_THE_VIT})
    model = UniFormerV2(config)
    tensors = dict(vit.tensors)
    taps = 3 if config.temporal_downsample else 1
    image_patch = tensors["patch_embedding.weight"]
    tensors["patch_embedding.weight"] = image_patch.new_zeros(
        *image_patch.shape[:2], taps, *image_patch.shape[2:]
    )
    tensors["patch_embedding.weight"][:, :, taps // 2] = image_patch  # the middle frame alone
    side = config.size // config.patch
    places = tensors["positions"]
    if len(places) != 1 + side * side:
        if config.relative_positions:
            raise WeightsError(
                f"{shown(vit.name)} has relative positions of another size than "
                f"{config.size} pixels."
            )
        tensors["positions"] = torch.cat([places[:1], resize_positions(places[1:], (side, side))])
    state = model.state_dict()
    wanted = {name: tuple(t.shape) for name, t in state.items() if _is_of_vit(name)}
    check_shapes(wanted, shapes_of(tensors), f"{shown(vit.name)} as a ViT")
    model.load_state_dict(state | {n: t.float() for n, t in tensors.items()})
    return model


def _is_of_vit(name: str) -> bool:
    start = ("class_token", "positions", "patch_embedding.", "norm_before.", "blocks.")
    return name.startswith(start) and ".local_" not in name


def image_vit(init: str, *, activation: Activation | None = None) -> ImageViT:
    """The image model that `--init` names: a file, a folder, or timm:NAME.

    timm downloads what it does not have. `activation` is for state dicts of open_clip and of
    OpenAI's model, which don't tell: LAION's weights have gelu, OpenAI's quick_gelu.
    WeightsError says what does not fit, MissingExtra if timm is not installed.
    """
    if init.startswith("timm:"):
        return _load_timm(init.removeprefix("timm:"))
    path = Path(init)
    if path.is_dir() and (path / "config.json").is_file():
        return _read_hf_folder(path)
    tensors, _ = read_tensors(path, programs=True)
    # A bare image encoder (class_embedding) is taken for one out of OpenAI's file, with which the
    # reference starts. open_clip's state dicts have the names of OpenAI's.
    is_open = any(name in tensors for name in _UNTOLD) and "input_resolution" not in tensors
    if activation is None and is_open:
        raise WeightsError(
            f"{shown(path)} does not tell its activation: give activation='gelu' (LAION's weights, "
            "most of open_clip) or 'quick_gelu' (OpenAI's, and -quickgelu). Of Hugging Face give "
            "the folder: its config.json tells."
        )
    return _from_clip(tensors, str(path), activation or "quick_gelu")


def _read_hf_folder(folder: Path) -> ImageViT:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        vision = config.get("vision_config", config)
        act = vision.get("hidden_act", "quick_gelu")
        heads = int(vision.get("num_attention_heads", 0))  # 0: as the width tells
        eps = float(vision.get("layer_norm_eps", 1e-5))
        if not 0 < eps < 1:
            raise ValueError(f"layer_norm_eps is {eps}")
    except (OSError, ValueError, AttributeError, TypeError, OverflowError, RecursionError) as error:
        raise WeightsError(f"{shown(folder)}/config.json can't be read: {error}.") from error
    if act not in ("quick_gelu", "gelu"):
        raise WeightsError(f"{shown(folder)} has the activation {shown(str(act))}: not supported.")
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            vit = _from_clip(read_tensors(folder / name)[0], str(folder), act)
            return replace(vit, heads=heads or vit.heads, norm_eps=eps)
    raise WeightsError(f"{shown(folder)} has no model.safetensors and no pytorch_model.bin.")


def _from_clip(tensors: Mapping[str, Tensor], name: str, activation: Activation) -> ImageViT:
    if any(key.startswith("vision_model.") for key in tensors):
        vision = {k.removeprefix(_VISION): t for k, t in tensors.items() if k.startswith(_VISION)}
        clip = _rename_hf(vision, name)
    elif _ALONE in tensors:  # transformers 5 saves the encoder alone so
        clip = _rename_hf(tensors, name)
    elif any(key.startswith("visual.") for key in tensors):
        clip = {k.removeprefix("visual."): t for k, t in tensors.items() if k.startswith("visual.")}
    else:
        clip = dict(tensors)
    try:
        (width,) = clip["class_embedding"].shape
        patch = clip["conv1.weight"].shape[-1]
        side = math.isqrt(len(clip["positional_embedding"]) - 1)
        if side * side + 1 != len(clip["positional_embedding"]):
            raise ValueError("positions of no square")
        depth = len({k.split(".")[2] for k in clip if k.startswith("transformer.resblocks.")})
        heads = _HEADS.get(width, max(width // 64, 1))
        like = Config(
            size=side * patch,
            patch=patch,
            width=width,
            depth=depth,
            heads=heads,
            global_layers=(depth - 1,),
        )
    except (KeyError, ValueError, IndexError, TypeError) as error:
        some = ", ".join(shown(key) for key in list(tensors)[:4])
        why = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise WeightsError(
            f"{shown(name)} is no image encoder of CLIP: {why} ({some}, ...). "
            "Other ViTs: --init timm:NAME."
        ) from error
    names = names_in(like, "opengvlab")
    theirs = {o: t.removeprefix("backbone.") for o, t in names.items() if _is_of_vit(o)}
    dropped = ("ln_post.", "proj")
    wanted = {theirs[o]: shape for o, shape in shapes_in(like, "k710").items() if o in theirs}
    wanted["conv1.weight"] = (width, 3, patch, patch)
    found = {k: tuple(t.shape) for k, t in clip.items() if not k.startswith(dropped)}
    check_shapes(wanted, found, Path(name))
    ours = {mine: clip[k] for mine, k in theirs.items()}
    return ImageViT(name, ours, heads, activation, norm_eps=1e-5, norm_before=True)


def _rename_hf(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    clip: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        if key.endswith("position_ids") or key.startswith(("post_layernorm", "visual_projection")):
            continue
        before, part = "", key
        if key.startswith("encoder.layers.") and key.count(".") > 3:
            _, _, index, part = key.split(".", 3)
            before = f"transformer.resblocks.{index}."
        if part.startswith(("self_attn.q_proj.", "self_attn.k_proj.", "self_attn.v_proj.")):
            if not part.startswith("self_attn.q_proj."):
                continue
            parts = [key.replace(".q_proj.", f".{x}_proj.") for x in "qkv"]
            if any(p not in tensors for p in parts):
                raise WeightsError(f"{shown(name)} lacks one of {shown(', '.join(parts))}.")
            kind = part.rpartition(".")[2]
            clip[f"{before}attn.in_proj_{kind}"] = torch.cat([tensors[p] for p in parts])
            continue
        layer, _, last = part.rpartition(".")
        part = _HF.get(part) or (f"{_HF[layer]}.{last}" if layer in _HF else part)
        clip[before + part] = tensor
    return clip


# --- timm


def _load_timm(name: str) -> ImageViT:
    try:
        import timm
    except ImportError as error:
        raise MissingExtra("--init timm:NAME needs timm: pip install 'k710[train]'") from error
    try:
        with _tensors_alone():
            model = timm.create_model(name, pretrained=True)
    except Exception as error:  # of timm, of its hub, of the network: each has kinds of its own
        why = shown(str(error), limit=300)
        raise WeightsError(f"timm can't give {shown(name)}: {why}") from error
    return from_timm(model, name)


@contextlib.contextmanager
def _tensors_alone() -> Iterator[None]:
    """Meanwhile torch.load runs nothing, whatever timm tells it: older ones let pickles run."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def from_timm(model: nn.Module, name: str) -> ImageViT:
    """A ViT or BEiT of timm; `name` is the one that it was made by.

    WeightsError, naming it, for what a UniFormerV2 can't take over exactly: register tokens, no
    class token, rotary positions, gated FFNs, norms of queries and keys.
    """
    kind = type(model).__name__
    if kind not in ("VisionTransformer", "Beit"):
        raise WeightsError(f"{shown(name)} is a {kind} of timm: only plain ViTs and BEiT are read.")
    blocks: Any = model.blocks
    first = blocks[0]
    _refuse(model, first, name)
    act = type(first.mlp.act).__name__
    if act not in ("GELU", "QuickGELU"):
        raise WeightsError(f"{shown(name)} has the activation {act}: GELU and QuickGELU are known.")
    if act == "GELU" and "_clip_" in name and name.endswith(".openai"):
        twin = name.replace("_clip_", "_clip_quickgelu_")
        raise WeightsError(
            f"{shown(name)} has OpenAI's weights with another activation than they were trained "
            f"with: take timm:{twin}"
        )
    tensors = _timm_embedding(model)
    state = model.state_dict()
    for index in range(len(blocks)):
        tensors |= _timm_block(state, f"blocks.{index}.", kind == "Beit")
    return ImageViT(
        name=f"timm:{name}",
        tensors=tensors,
        heads=first.attn.num_heads,
        activation="gelu" if act == "GELU" else "quick_gelu",
        norm_eps=first.norm1.eps,
        norm_before="norm_before.weight" in tensors,
        layer_scale="blocks.0.scale_1" in tensors,
        relative_positions="blocks.0.attention.relative" in tensors,
    )


def _refuse(model: Any, block: Any, name: str) -> None:
    faults: dict[str, Callable[[], bool]] = {
        "register tokens": lambda: getattr(model, "reg_token", None) is not None,
        "no class token": lambda: getattr(model, "cls_token", None) is None,
        "another prefix than one class token": lambda: getattr(model, "num_prefix_tokens", 1) != 1,
        "rotary positions": lambda: getattr(model, "rope", None) is not None,
        f"blocks of the kind {type(block).__name__}": lambda: (
            type(block).__name__ not in ("Block", "BeitBlock")
        ),
        "a gated FFN": lambda: type(block.mlp).__name__ != "Mlp",
        "a norm inside the FFN": lambda: (
            not isinstance(getattr(block.mlp, "norm", nn.Identity()), nn.Identity)
        ),
        "norms of queries and keys": lambda: (
            not isinstance(getattr(block.attn, "q_norm", nn.Identity()), nn.Identity)
        ),
        "norms that are no LayerNorm": lambda: not isinstance(block.norm1, nn.LayerNorm),
    }
    for fault, is_there in faults.items():
        if is_there():
            raise WeightsError(f"{shown(name)} has {fault}: not supported.")


def _timm_embedding(model: Any) -> dict[str, Tensor]:
    weight = model.patch_embed.proj.weight
    token = model.cls_token.flatten()
    (grid_h, grid_w), width = model.patch_embed.grid_size, len(token)
    places = model.pos_embed
    if places is None:  # BEiT: relative ones alone
        places = token.new_zeros(1, 1 + grid_h * grid_w, width)
    elif getattr(model, "no_embed_class", False):  # DeiT III: none for the class token
        places = torch.cat([places.new_zeros(1, 1, width), places], dim=1)
    places = places[0].detach().clone()
    if model.patch_embed.proj.bias is not None:
        places[1:] += model.patch_embed.proj.bias  # the same for each patch: exact here
    tensors = {
        "class_token": token,
        "positions": places,
        "patch_embedding.weight": weight,
    }
    norm = getattr(model, "norm_pre", nn.Identity())
    if isinstance(norm, nn.LayerNorm):
        tensors |= {"norm_before.weight": norm.weight, "norm_before.bias": norm.bias}
    return {name: tensor.detach() for name, tensor in tensors.items()}


_TIMM = {
    "norm1": "norm_1",
    "norm2": "norm_2",
    "attn.qkv": "attention.qkv",
    "attn.proj": "attention.proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}


def _timm_block(state: Mapping[str, Tensor], start: str, is_beit: bool) -> dict[str, Tensor]:
    found = {
        f"{start}{ours}.{last}": state[f"{start}{theirs}.{last}"]
        for theirs, ours in _TIMM.items()
        for last in ("weight", "bias")
        if f"{start}{theirs}.{last}" in state
    }
    for number in (1, 2):
        for gamma in (f"{start}ls{number}.gamma", f"{start}gamma_{number}"):
            if gamma in state:
                found[f"{start}scale_{number}"] = state[gamma]
    if is_beit:
        q, v = state[f"{start}attn.q_bias"], state[f"{start}attn.v_bias"]
        # It has none for the keys, which softmax would take no notice of.
        found[f"{start}attention.qkv.bias"] = torch.cat([q, torch.zeros_like(q), v])
        table = f"{start}attn.relative_position_bias_table"
        found[f"{start}attention.relative"] = state[
            table if table in state else "rel_pos_bias.relative_position_bias_table"
        ]
    return found
