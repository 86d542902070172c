"""evaluate: how good is a checkpoint on a view, on which clips, and what does it mix up?"""

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from k710_cli.options import Json, Work, Workers
from k710_cli.screen import console, print_json, progress, say, table
from k710_cli.train import Cache, Device, Shards, run_or_checkpoint
from k710_cli.weights import prepare_for_torch

if TYPE_CHECKING:
    from uniformerv2.evaluate import Evaluated

__all__ = ["evaluate"]


def evaluate(
    checkpoint: Annotated[str, typer.Argument(metavar="CKPT", help="A run, or a checkpoint.")],
    view: Annotated[str, typer.Option(help="Whose clips to test on, like k400/val.")],
    clips: Annotated[
        int | None, typer.Option(min=1, max=100, help="Times in each video. Default: the recipe's.")
    ] = None,
    crops: Annotated[
        int | None, typer.Option(help="1, the middle; 3, along the longer side. The recipe's.")
    ] = None,
    frames: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Of a clip. Default: the recipe's, or 8.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Whose frames, views and colours to take, and whose number to compare with.",
        ),
    ] = None,
    precision: Annotated[
        Literal["fp32", "bf16", "fp16"], typer.Option(help="Of the model.")
    ] = "fp32",
    shuffle_frames: Annotated[
        list[int] | None,
        typer.Option(
            metavar="SEED",
            min=0,
            help="Frames of each clip in an order drawn for it: is time seen? Each SEED is a test.",
        ),
    ] = None,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Count broken clips as missing, and go on.")
    ] = False,
    batch: Annotated[
        int | None,
        typer.Option(min=1, max=4096, help="Videos at a time, per GPU. Default: as in training."),
    ] = None,
    worst: Annotated[int, typer.Option(min=0, help="Classes and confusions to show.")] = 5,
    work: Work = Path("work"),
    shards: Shards = None,
    cache: Cache = None,
    workers: Workers = None,
    device: Device = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Default: a folder in evaluations/ of --work.", show_default=False
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Test a checkpoint on a view; write what it says of each clip to predictions.parquet.

    A model of K710 is tested on a dataset of it with the rows of that dataset's classes.

    Example: k710 evaluate k400+k710_b16_f8x224 --view k400/val --clips 4 --crops 3
    """
    if crops not in (None, 1, 3):
        raise typer.BadParameter("must be 1 or 3", param_hint="--crops")
    prepare_for_torch()
    from uniformerv2.evaluate import EvalViews, evaluate_model
    from uniformerv2.recipe_toml import read_recipe

    views = EvalViews(
        num_clips=clips,
        num_crops=crops,
        num_frames=frames,
        precision=precision,
        skip_broken=skip_broken,
        batch=batch,
        workers=workers,
    )
    seeds: list[int | None] = [*shuffle_frames] if shuffle_frames else [None]
    tests = [replace(views, shuffle_seed=seed) for seed in seeds]
    if len(tests) > 1 and (out is not None or as_json):
        raise typer.BadParameter("is for one test", param_hint="--json" if as_json else "--out")
    for test in tests:
        with progress(unit="videos") as show:
            found = evaluate_model(
                run_or_checkpoint(work, checkpoint),
                view,
                test,
                work=work,
                recipe=None if recipe is None else read_recipe(recipe),
                shards=shards,
                cache=cache,
                device=device,
                out=out,
                report=partial(show, "testing"),
            )
        if found is None:  # another process of torchrun's prints
            continue
        if as_json:
            print_json({**asdict(found), "missing": found.missing})
        else:
            _print(found, worst)


def _print(found: "Evaluated", worst: int) -> None:
    from k710.errors import printable
    from uniformerv2.evaluation.predictions import class_accuracies, confusions

    views = f"{found.frames} frames x {found.crops} crops x {found.clips} clips"
    order = "" if found.shuffle_seed is None else ", frames out of order"
    say(f"{printable(found.checkpoint)} on {found.view}, {views}{order}")
    rows = table("", "here", "published", "difference")
    theirs = found.published
    for name, here, there in (
        ("top-1", found.top1, None if theirs is None else theirs.top1),
        ("top-5", found.top5, None if theirs is None else theirs.top5),
        ("mean of classes", found.mean_class, None),
    ):
        apart = "" if there is None else f"{100 * here - there:+.2f}"
        rows.add_row(name, f"{here:.2%}", "" if there is None else f"{there:.1f}%", apart)
    screen = console()
    screen.print(rows)
    say(
        f"of {found.videos:,} of the {found.listed:,} clips of the list "
        f"({found.missing:.2%} missing), list {found.list_sha256[:16]}"
    )
    if found.published is not None:
        say(f"Published: {found.published.views} (frames x crops x clips), on the authors' copies.")
    if worst:
        classes = table("Worst classes", "clips", "top-1", "top-5")
        for one in class_accuracies(found.path)[:worst]:
            classes.add_row(one.name, f"{one.clips:,}", f"{one.top1:.1%}", f"{one.top5:.1%}")
        say()
        screen.print(classes)
        pairs = table("Taken", "for", "clips", "of the class", text_columns=2)
        for pair in confusions(found.path, worst):
            pairs.add_row(pair.name, pair.taken_for, f"{pair.clips:,}", f"{pair.share:.1%}")
        say()
        screen.print(pairs)
    say(f"\nWritten to {printable(str(found.path))}")
