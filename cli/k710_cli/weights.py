"""remap-head, convert, predict: what can be done with a checkpoint."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from k710.labels.orders import Dataset, Family
from k710_cli.options import Json
from k710_cli.screen import console, print_json, say, table

if TYPE_CHECKING:
    from uniformerv2.weights.class_order import ClassOrder

__all__ = ["convert", "needs_torch", "predict", "prepare_for_torch", "remap_head"]

_Checkpoint = Annotated[
    Path, typer.Argument(metavar="CKPT", help=".pyth, .pth, .safetensors, or a run's folder.")
]
_Out = Annotated[Path | None, typer.Option(metavar="FILE", help="Default: beside the input.")]


def needs_torch() -> None:
    """MissingExtra where what training needs is not installed. Comes before it is imported."""
    from importlib.util import find_spec

    from k710.errors import MissingExtra

    if find_spec("torch") is None or find_spec("safetensors") is None:
        raise MissingExtra("This command needs PyTorch: pip install 'k710[train]'")


def prepare_for_torch() -> None:
    """Do what must be done before a command that computes much imports PyTorch."""
    needs_torch()
    from uniformerv2.dataset.workers import shorten_openmp_spin

    shorten_openmp_spin()


def remap_head(
    checkpoint: _Checkpoint,
    target: Annotated[Dataset, typer.Option(help="The dataset whose classes the head gets.")],
    family: Annotated[
        Family | None, typer.Option(help="Order of the new head. Default: the old one's.")
    ] = None,
    source_family: Annotated[
        Family | None,
        typer.Option(help="Order of the old head, where the file does not record it."),
    ] = None,
    out: _Out = None,
    as_json: Json = False,
) -> None:
    """Pick the rows of K400, K600 or K700 out of a head of 710 classes.

    Example: k710 remap-head k710_b16.pyth --target k400
    """
    needs_torch()
    from k710.errors import printable
    from uniformerv2.weights.convert import remap_head as remap

    done = remap(
        checkpoint,
        target,
        family=family,
        source_family=source_family,
        out=out,
    )
    names = done.names
    if as_json:
        return print_json({**asdict(done), "first_class": names[0], "last_class": names[-1]})
    say(f"From: {_words(done.source)}, {_KNOWN_BY[done.known_by]}")
    say(f"To:   {_words(done.target)}")
    for position in (0, 1, 2, len(names) - 1):
        say(f"  row {position:>3}  {names[position]}  (was row {done.rows[position]})")
    say(f"Written to {printable(str(done.path))}")


def _words(order: "ClassOrder") -> str:
    return f"{len(order.rows())} classes of {order.dataset} in {order.family} order"


_KNOWN_BY = {
    "record": "as the file records",
    "told": "as --source-family says: no record",
    "names": "as such tensor names have them: no record",
}


def convert(
    checkpoint: _Checkpoint,
    to: Annotated[
        Literal["opengvlab", "mmaction2", "safetensors", "onnx"],
        typer.Option(help="Whose names, and whose order of classes."),
    ],
    frames: Annotated[
        int, typer.Option(min=1, max=1024, help="Frames of a clip; for onnx alone.")
    ] = 8,
    out: _Out = None,
    as_json: Json = False,
) -> None:
    """Write a checkpoint under another family's names, its head in their order; or as ONNX graph.

    Example: k710 convert k710_b16.pyth --to mmaction2
    """
    needs_torch()
    from k710.errors import printable
    from uniformerv2.weights.convert import convert as convert_to

    done = convert_to(checkpoint, to, frames=frames, out=out)
    if as_json:
        return print_json(done)
    if done.source is not None and done.target is not None:
        say(f"From: {_words(done.source)}")
        say(f"To:   {_words(done.target)}")
    say(f"{done.num_tensors} tensors written to {printable(str(done.path))}")


def predict(
    video: Annotated[Path, typer.Argument(metavar="VIDEO", help="A video file.")],
    checkpoint: Annotated[Path, typer.Option(metavar="CKPT", help="As for remap-head.")],
    frames: Annotated[int, typer.Option(min=1, max=1024, help="Frames of a clip.")] = 8,
    views: Annotated[int, typer.Option(min=1, max=100, help="Clips, evenly apart in time.")] = 1,
    crops: Annotated[int, typer.Option(help="1, the middle; or 3, along the longer side.")] = 1,
    as_json: Json = False,
) -> None:
    """Print the five likeliest classes of a video.

    Example: k710 predict yoga.mp4 --checkpoint k710_b16.pyth --views 4 --crops 3
    """
    if crops not in (1, 3):
        raise typer.BadParameter("must be 1 or 3", param_hint="--crops")
    needs_torch()
    from k710.errors import printable
    from uniformerv2.predict import predict as predict_classes
    from uniformerv2.weights.load import load_model, read_checkpoint

    found = read_checkpoint(checkpoint)
    model = load_model(found)
    best = predict_classes(
        model,
        video,
        found.order,
        size=found.config.size,
        clip_frames=frames,
        views=views,
        crops=crops,
    )
    if as_json:
        return print_json(best)
    rows = table("class", "row", "probability", title=printable(video.name))
    for one in best:
        rows.add_row(one.name, str(one.row), f"{one.probability:.1%}")
    console().print(rows)
