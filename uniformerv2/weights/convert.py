"""A K710 head becomes that of one of its datasets; weights change their names, order, or form."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from torch import Tensor

from k710.errors import LabelError, WeightsError, shown
from k710.labels.orders import NUM_CLASSES, Dataset, Family
from uniformerv2.weights.class_order import ClassOrder, positions
from uniformerv2.weights.files import MODEL, TORCH_SUFFIXES, write_tensors
from uniformerv2.weights.load import (
    Checkpoint,
    check_numbers,
    load_model,
    make_record,
    our_tensors,
    read_checkpoint,
    rename_tensors,
)
from uniformerv2.weights.names import Format, head_names

__all__ = ["Converted", "Remapped", "convert", "remap_head"]

WRAPPERS: dict[Format, str] = {
    "opengvlab": "model_state",
    "mmaction2": "state_dict",
    "k710": "model_state",
}


@dataclass(frozen=True, slots=True)
class Remapped:
    """What `remap_head` did."""

    path: Path
    source: ClassOrder
    known_by: Literal["record", "told", "names"]  # whose word the source's order is
    target: ClassOrder
    rows: tuple[int, ...]  # position i: the row of the old head that is row i of the new one

    @property
    def names(self) -> list[str]:
        """Class of each row of the new head."""
        return self.target.names()


@dataclass(frozen=True, slots=True)
class Converted:
    """What `convert` did."""

    path: Path
    format: Format | Literal["onnx"]
    source: ClassOrder | None
    target: ClassOrder | None  # None: its classes are none of Kinetics, rows stay
    num_tensors: int


def remap_head(
    path: str | Path,
    target: Dataset,
    *,
    family: Family | None = None,
    source_family: Family | None = None,
    out: str | Path | None = None,
) -> Remapped:
    """Write a checkpoint whose head has the classes of `target`, from one with a K710 head.

    The rows of weight and bias are picked by class; every other tensor stays as it is, bit for bit,
    under its name. `family` orders the new head, as the old one unless told. `out` is beside the
    input unless told: ckpt_k400.pth. WeightsError without a head of 710 rows; LabelError if
    `source_family` is not what the file records.
    """
    checkpoint = read_checkpoint(path)
    check_numbers(checkpoint)
    source = _source(checkpoint, source_family)
    aim = ClassOrder(target, family or source.family)
    out = Path(out) if out is not None else _beside(checkpoint, f"_{target}")
    rows = positions(source, aim)
    tensors = _pick_rows(checkpoint, rows) | checkpoint.normalisation
    config = replace(checkpoint.config, num_classes=len(rows))
    if checkpoint.format == "k710" and out.suffix != ".safetensors":
        raise WeightsError(
            f"{shown(checkpoint.path)} has k710's names, which are written as .safetensors. "
            f"k710 convert makes the others."
        )
    write_tensors(
        out,
        tensors,
        record=make_record(config, aim, checkpoint.format),
        wrapper=WRAPPERS[checkpoint.format],
    )
    known_by: Literal["record", "told", "names"] = "names" if source_family is None else "told"
    if checkpoint.is_recorded:
        known_by = "record"
    return Remapped(out, source, known_by, aim, tuple(rows))


def _source(checkpoint: Checkpoint, told: Family | None) -> ClassOrder:
    num = checkpoint.config.num_classes
    order = checkpoint.order
    if num != NUM_CLASSES or order is None:
        raise WeightsError(
            f"{shown(checkpoint.path)} has a head of {num:,} rows: only one of {NUM_CLASSES} has "
            "all classes of a target."
        )
    if told is None or told == order.family:
        return order
    if checkpoint.is_recorded:
        raise LabelError(
            f"{shown(checkpoint.path)} records that its rows are in {order.family} order: "
            f"--source-family {told} would scramble its classes."
        )
    return ClassOrder(order.dataset, told)


def _pick_rows(checkpoint: Checkpoint, rows: list[int]) -> dict[str, Tensor]:
    tensors = dict(checkpoint.tensors)
    for name in head_names(checkpoint.format):
        tensors[name] = tensors[name][rows]
    return tensors


def _beside(checkpoint: Checkpoint, ending: str, suffix: str | None = None) -> Path:
    # Beside the name that was given, not beside what a link points to: a cache, say.
    path = Path(os.path.abspath(checkpoint.path))
    if path.is_dir():
        name = path.name
        if (path / MODEL).exists():  # of a step, beside its run: a run's folder is k710's alone
            path, name = path.parent, f"{path.parent.name}_{path.name}"
        return path.with_name(f"{name}{ending}{suffix or '.safetensors'}")
    own = path.suffix if path.suffix in (".safetensors", *TORCH_SUFFIXES) else ".pth"
    return path.with_name(f"{path.stem}{ending}{suffix or own}")


def convert(
    path: str | Path,
    to: Literal["opengvlab", "mmaction2", "safetensors", "onnx"],
    *,
    frames: int = 8,
    out: str | Path | None = None,
) -> Converted:
    """Write a checkpoint under another family's names, its head in that family's order.

    `safetensors` are our own names with the whole Config; the order of the classes stays. Every
    number stays as it is. Of the source only the weights are taken, no optimizer state. `onnx` is a
    graph for clips of so many `frames`, see `write_onnx`.
    """
    checkpoint = read_checkpoint(path)
    if to == "onnx":
        from uniformerv2.weights.onnx import write_onnx  # an extra

        out = Path(out) if out is not None else _beside(checkpoint, "", ".onnx")
        order = checkpoint.order
        write_onnx(load_model(checkpoint), out, frames=frames, order=order)
        return Converted(out, to, order, order, len(checkpoint.tensors))
    family: Format = "k710" if to == "safetensors" else to
    suffix = {"k710": ".safetensors", "opengvlab": ".pyth", "mmaction2": ".pth"}[family]
    out = Path(out) if out is not None else _beside(checkpoint, f"_{to}", suffix)
    if family == "k710" and out.suffix != suffix:
        raise WeightsError(f"{shown(out)} should end with {suffix}: --to safetensors.")
    source = target = checkpoint.order
    if source is not None and family != "k710":
        target = ClassOrder(source.dataset, "opengvlab" if to == "opengvlab" else "alphabetical")
        checkpoint = replace(
            checkpoint, tensors=_pick_rows(checkpoint, positions(source, target)), order=target
        )
    tensors = rename_tensors(our_tensors(checkpoint), checkpoint.config, family)
    record = make_record(checkpoint.config, target, family)
    write_tensors(out, tensors, record=record, wrapper=WRAPPERS[family])
    return Converted(out, family, source, target, len(tensors))
