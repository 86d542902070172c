"""Published weights into a model and back: every tensor in its place, every class in its row.

    checkpoint        names         head                          who writes it
    .pyth, bare       opengvlab     rows in OpenGVLab's order     the reference's model zoo
    .pyth             opengvlab     the same, in `model_state`    the reference's trainer
    .pth              mmaction2     alphabetical, `state_dict`    MMAction2
    .safetensors      any of these  as recorded                   k710; ours with the whole Config
    a run's folder    ours          as recorded                   k710 pretrain, k710 finetune

Loading is strict both ways. Something-Something checkpoints of the reference expect BGR frames: its
loader read JPEGs so. Their first layer is turned when it is loaded, and turned back when it is
written under those names, so that every model here takes RGB.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from k710.errors import WeightsError, shown
from k710.machine import usable_memory
from uniformerv2.config import Config
from uniformerv2.model import UniFormerV2
from uniformerv2.weights.class_order import ClassOrder, assumed_order, order_of_record
from uniformerv2.weights.files import read_tensors
from uniformerv2.weights.names import Format, format_of, from_names, head_names, shapes_in, to_names

__all__ = [
    "Checkpoint",
    "check_numbers",
    "check_shapes",
    "from_reference",
    "load_model",
    "make_record",
    "our_tensors",
    "read_checkpoint",
    "rename_tensors",
    "shapes_of",
]

_SHOWN_NAMES = 10
_SOMETHING_SOMETHING = 174  # classes, of V1 and V2
_NORMALISATION = {"data_preprocessor.mean": 114.75, "data_preprocessor.std": 57.375}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint file: its tensors as they are, and what is known of them."""

    path: Path
    tensors: dict[str, Tensor]
    format: Format
    order: ClassOrder | None  # None: its classes are none of Kinetics
    is_recorded: bool  # the file says its order; or else it is taken from the names
    config: Config
    normalisation: dict[str, Tensor]  # MMAction2's buffers, where it has them; ours is a constant


def read_checkpoint(path: str | Path) -> Checkpoint:
    """A checkpoint of UniFormerV2 in any of the forms above; its tensors are mapped, not copied.

    WeightsError if it is none, lacks its head, or does not fit the model that its shapes tell.
    LabelError if it records an order that it can't have.
    """
    path = Path(path)
    tensors, record = read_tensors(path)
    family = format_of(tensors)
    if family is None:
        some = ", ".join(shown(name) for name in list(tensors)[:5])
        raise WeightsError(
            f"{shown(path)} is no UniFormerV2: its names are those of neither OpenGVLab, MMAction2 "
            f"nor k710 ({some}, ...). An image model is given to --init."
        )
    normalisation = {n: t for n, t in tensors.items() if _is_normalisation(n, t, path)}
    tensors = {n: t for n, t in tensors.items() if n not in normalisation}
    weight, bias = head_names(family)
    lacking = [name for name in (weight, bias) if name not in tensors]
    if lacking:
        raise WeightsError(f"{shown(path)} has no classifier: {' and '.join(lacking)} are missing.")
    if tensors[weight].ndim != 2:
        raise WeightsError(f"{shown(path)}: {weight} is no matrix.")
    recorded = family == "k710"
    config = (
        _recorded_config(record, tensors, path) if recorded else _config_of(tensors, family, path)
    )
    check_shapes(shapes_in(config, family), shapes_of(tensors), path)
    num = config.num_classes
    order: ClassOrder | None
    if record is None:
        order = assumed_order(num, "alphabetical" if family == "mmaction2" else "opengvlab")
    elif record.get("dataset", "") is None:
        order = None
    else:
        order = order_of_record(record, num, shown(path))
    is_recorded = record is not None
    return Checkpoint(path, tensors, family, order, is_recorded, config, normalisation)


def our_tensors(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The tensors of a checkpoint under our names, for RGB frames; their numbers as they are.

    WeightsError where one is no number.
    """
    check_numbers(checkpoint)
    tensors = from_names(checkpoint.tensors, checkpoint.config, checkpoint.format)
    if _expects_bgr(checkpoint.format, checkpoint.config):
        tensors |= {"patch_embedding.weight": tensors["patch_embedding.weight"].flip(1)}
    return tensors


def check_numbers(checkpoint: Checkpoint) -> None:
    """WeightsError where a weight is NaN or infinite: the file is damaged, or its run burst."""
    for name, tensor in checkpoint.tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise WeightsError(
                f"{shown(checkpoint.path, limit=1000)}: {shown(name)} holds numbers that are none "
                "(NaN or infinite). The file is damaged, or the loss of its run was no number any "
                "more.\nTake another step of the run, or the file from where it came."
            )


def load_model(checkpoint: Checkpoint | str | Path) -> UniFormerV2:
    """Make the model of a checkpoint, in float32 and evaluation mode, on the CPU.

    Args:
        checkpoint: What `read_checkpoint` gives, or the path of a checkpoint or of a run's folder.

    Returns:
        A model from RGB clips, float (N, 3, T, size, size), to logits (N, classes).

    Raises:
        WeightsError: The file is no checkpoint of a UniFormerV2.
        LabelError: It records an order of classes that it can't have.
    """
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = read_checkpoint(checkpoint)
    return _fill_model(checkpoint.config, our_tensors(checkpoint)).eval()


def from_reference(config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> UniFormerV2:
    """The model that the reference builds with these arguments, with these tensors of its names.

    Every parameter is trainable; frames are taken as the reference takes them (BGR for
    Something-Something). WeightsError says what does not fit. Source: the constructor in
    slowfast/models/uniformerv2_model.py of the reference.
    """
    built = _config_of_reference(config)
    check_shapes(shapes_in(built, "opengvlab"), shapes_of(state_dict), "The state dict")
    return _fill_model(built, from_names(state_dict, built, "opengvlab"))


def rename_tensors(
    tensors: Mapping[str, Tensor], config: Config, family: Format
) -> dict[str, Tensor]:
    """A model's state dict under the names of `family`.

    WeightsError if that family has no such model.
    """
    if family != "k710":
        _check_writable(config, family)
    theirs = to_names(tensors, config, family)
    if _expects_bgr(family, config):
        name = "backbone.conv1.weight"
        theirs[name] = theirs[name].flip(1)
    return theirs


def make_record(config: Config, order: ClassOrder | None, family: Format) -> dict[str, Any]:
    """What is written beside the tensors: whose classes, in which order; for ours the Config."""
    record: dict[str, Any] = {"dataset": None} if order is None else dict(order.record())
    if family == "k710":
        record["config"] = dataclasses.asdict(config)
        record["config_sha256"] = _hash(record["config"])
    return record


def _hash(config: Mapping[str, Any]) -> str:
    """Of a record's configuration: shapes alone don't tell where global blocks are, say."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def check_shapes(
    wanted: Mapping[str, Sequence[int]], found: Mapping[str, Sequence[int]], where: Path | str
) -> None:
    """WeightsError with the difference of names and shapes, both ways; nothing if there is none."""
    parts = [
        ("missing", [n for n in wanted if n not in found], wanted),
        ("not of this model", [n for n in found if n not in wanted], found),
    ]
    lines = []
    for what, names, shapes in parts:
        rows = [f"    {shown(name)} {tuple(shapes[name])}" for name in names]
        lines += _some(f"  {what}: {len(names)} of {len(shapes)}", rows)
    other = [n for n in wanted if n in found and tuple(wanted[n]) != tuple(found[n])]
    rows = [f"    {n}: {tuple(found[n])}, should be {tuple(wanted[n])}" for n in other]
    lines += _some(f"  of another shape: {len(other)}", rows)
    if lines:
        name = shown(where, limit=1000) if isinstance(where, Path) else where
        raise WeightsError("\n".join([f"{name} does not fit the model:", *lines]))


def _some(title: str, rows: list[str]) -> list[str]:
    more = [f"    and {len(rows) - _SHOWN_NAMES} more"] if len(rows) > _SHOWN_NAMES else []
    return [title, *rows[:_SHOWN_NAMES], *more] if rows else []


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Name -> shape."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _fill_model(config: Config, tensors: Mapping[str, Tensor]) -> UniFormerV2:
    """WeightsError where it would take more memory than there is: a file may show bytes twice."""
    num_bytes = 4 * sum(tensor.numel() for tensor in tensors.values())
    if num_bytes > usable_memory():
        raise WeightsError(
            f"A model {config.width:,} wide and {config.depth} deep takes {num_bytes / 2**30:,.1f} "
            f"GiB, and there are {usable_memory() / 2**30:,.1f} GiB of memory."
        )
    with torch.device("meta"):
        model = UniFormerV2(config)  # nothing is drawn that would be overwritten
    model.to_empty(device="cpu")
    block: Any
    for block in model.blocks:
        block.attention.remake_offsets()
    model.load_state_dict(tensors)
    return model


def _is_normalisation(name: str, tensor: Tensor, path: Path) -> bool:
    if name not in _NORMALISATION:
        return False
    if not torch.allclose(tensor.float(), torch.tensor(_NORMALISATION[name])):
        raise WeightsError(
            f"{shown(path)}: {name} is {tensor.flatten().tolist()[:3]}, and not "
            f"{_NORMALISATION[name]} for each colour: its pictures are normalised in another way."
        )
    return True


def _expects_bgr(family: Format, config: Config) -> bool:
    return family == "opengvlab" and config.num_classes == _SOMETHING_SOMETHING


def _check_writable(config: Config, family: Format) -> None:
    """The other families have one fusion and CLIP's ViT, and say nothing but shapes."""
    plain = Config()
    alike = {
        "heads": _heads(config.width),
        "global_layers": _last(config.depth, len(config.global_layers)),
        **{
            name: getattr(plain, name)
            for name in (
                "fusion",
                "activation",
                "norm_eps",
                "norm_before",
                "layer_scale",
                "relative_positions",
            )
        },
    }
    lacking = [
        f"{name} = {getattr(config, name)}"
        for name, value in alike.items()
        if getattr(config, name) != value
    ]
    if config.local_width not in (None, int(config.width // 1.5)):
        lacking.append(f"local_width = {config.local_width}")
    if family == "mmaction2" and config.frozen:
        lacking.append("frozen = True")
    if lacking:
        raise WeightsError(
            f"A checkpoint of {family} can't say {', '.join(lacking)}: --to safetensors keeps all."
        )


def _heads(width: int) -> int:
    """Of 64 channels, as all published models have them."""
    return max(width // 64, 1)


def _last(depth: int, num: int) -> tuple[int, ...]:
    """The layers that all published models have their global UniBlocks after."""
    return tuple(range(depth - num, depth))


def _config_of_reference(arguments: Mapping[str, Any]) -> Config:
    a = dict(arguments)
    try:
        if (a["n_dim"], a["n_head"]) != (a["width"], a["heads"]) or a["kernel_size"] != 3:
            raise WeightsError(
                f"n_dim ({a['n_dim']}) must be the width ({a['width']}), n_head ({a['n_head']}) "
                f"the heads ({a['heads']}), and kernel_size ({a['kernel_size']}) 3."
            )
        if a["n_layers"] != len(a["return_list"]):
            raise WeightsError(f"n_layers ({a['n_layers']}) must be the length of return_list.")
        local: Literal["none", "single", "double"]
        local = "none" if a["no_lmhra"] else "double" if a["double_lmhra"] else "single"
        return Config(
            num_classes=a["num_classes"],
            size=a["input_resolution"],
            patch=a["patch_size"],
            width=a["width"],
            depth=a["layers"],
            heads=a["heads"],
            global_layers=tuple(a["return_list"]),
            global_mlp_ratio=a["mlp_factor"],
            frozen=a["frozen"],
            temporal_downsample=a["temporal_downsample"],
            local=local,
            local_width=int(a["width"] // a["dw_reduction"]),
            drop_path=a["backbone_drop_path_rate"],
            global_drop_path=a["drop_path_rate"],
            drop_path_mode="reference",
            global_dropout=tuple(a["mlp_dropout"]),
            head_dropout=a["cls_dropout"],
            checkpoint_blocks=a["checkpoint_num"][0] if a["use_checkpoint"] else 0,
        )
    except KeyError as error:
        raise WeightsError(f"The reference's arguments lack {error}.") from error
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise WeightsError(f"The reference's arguments are of no model: {error}.") from error


def _config_of(tensors: Mapping[str, Tensor], family: Format, path: Path) -> Config:
    """What the shapes tell, and for the rest what all published models have in common.

    That is 64 channels a head, and global UniBlocks after the last layers.
    """
    start = "backbone.transformer."
    try:
        conv, table = tensors["backbone.conv1.weight"], tensors["backbone.positional_embedding"]
        width, _, taps, patch, _ = conv.shape
        side = math.isqrt(table.shape[0] - 1)
        depth = _count(tensors, f"{start}resblocks.")
        blocks = _count(tensors, f"{start}dec.")
        mlp = tensors[f"{start}dec.0.mlp.c_fc.weight"].shape[0]
    except KeyError as error:
        raise WeightsError(f"{shown(path)} is no whole UniFormerV2: {error} is missing.") from error
    except (ValueError, IndexError) as error:
        raise WeightsError(
            f"{shown(path)} is no UniFormerV2: its patch embedding, positions or global UniBlocks "
            f"have another shape ({error})."
        ) from error
    local = [f"{start}resblocks.0.lmhra{n}.pos_embed.1.weight" in tensors for n in (1, 2)]
    try:
        return Config(
            num_classes=len(tensors[head_names(family)[0]]),
            size=side * patch,
            patch=patch,
            width=width,
            depth=depth,
            heads=_heads(width),
            global_layers=_last(depth, blocks),
            global_mlp_ratio=mlp / width,
            frozen=family == "opengvlab" and f"{start}balance" not in tensors,
            temporal_downsample=taps == 3,
            local="double" if local[1] else "single" if local[0] else "none",
        )
    except (ValueError, ZeroDivisionError) as error:
        raise WeightsError(f"{shown(path)} is of no UniFormerV2: {error}.") from error


def _count(tensors: Mapping[str, Tensor], start: str) -> int:
    return len({n[len(start) :].partition(".")[0] for n in tensors if n.startswith(start)})


def _recorded_config(
    record: Mapping[str, Any] | None, tensors: Mapping[str, Tensor], path: Path
) -> Config:
    config = None if record is None else record.get("config")
    if not isinstance(config, dict):
        raise WeightsError(
            f"{shown(path)} has k710's names, and not the record that k710 writes beside them."
        )
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}
    try:
        if record is not None and record.get("config_sha256", "") not in ("", _hash(config)):
            raise ValueError(
                f"global_layers {config.get('global_layers')}, {config.get('heads')} heads and so "
                "on are not those that its tensors were written with (config_sha256)"
            )
        made = Config(**values)
        if made.depth != _count(tensors, "blocks.") or made.width != len(tensors["class_token"]):
            raise ValueError(f"depth {made.depth} and width {made.width}, and its tensors another")
        return made
    except (TypeError, ValueError, KeyError, RecursionError) as error:
        raise WeightsError(
            f"{shown(path)} records a model that this version does not have: "
            f"{shown(str(error), limit=200)}."
        ) from error
