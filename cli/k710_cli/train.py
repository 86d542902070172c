"""pretrain, finetune: a recipe, clips in shards, and weights to start from become a run."""

import contextlib
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from k710.labels.orders import Dataset
from k710_cli.options import Work
from k710_cli.screen import make_bar, say, text_column
from k710_cli.weights import prepare_for_torch

if TYPE_CHECKING:
    from uniformerv2.recipe import Recipe
    from uniformerv2.training.metrics import RunProgress

__all__ = ["Cache", "Device", "Settings", "Shards", "finetune", "pretrain", "run_or_checkpoint"]

Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A key of the recipe, like optim.lr=2e-6."),
]
Shards = Annotated[
    str | None,
    typer.Option(
        metavar="DIR",
        help="Folder of the shards, or a URL. Default: shards/ in --work.",
        show_default=False,
    ),
]
Cache = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Folder that keeps what comes over a network.")
]
_Run = Annotated[
    str | None,
    # torchrun takes --run for one of its own options, wherever it stands.
    typer.Option(
        "--run",
        "--name",
        metavar="NAME",
        help="Its folder in runs/. Default: the recipe's name. After torchrun: --name.",
    ),
]
_Keep = Annotated[int | None, typer.Option(min=1, help="Checkpoints to keep. Default: 2.")]
_SECONDS_BETWEEN_LINES = 30.0


Device = Annotated[
    Literal["cuda", "cpu"] | None,
    typer.Option(help="Default: cuda where there is a GPU.", show_default=False),
]


def pretrain(
    recipe: Annotated[
        str, typer.Option(metavar="NAME", help="A recipe of k710 recipes, or a .toml file.")
    ] = "k710_b16_f8x224",
    init: Annotated[
        str | None,
        typer.Option(metavar="CKPT", help="The image model: OpenAI's file, a folder, timm:NAME."),
    ] = None,
    work: Work = Path("work"),
    run: _Run = None,
    settings: Settings = None,
    keep: _Keep = None,
    shards: Shards = None,
    cache: Cache = None,
    device: Device = None,
) -> None:
    """Train a recipe from an image model, or go on with its run. SIGTERM and Ctrl-C checkpoint it.

    On 8 GPUs: torchrun --nproc-per-node 8 -m k710_cli pretrain ...

    Example: k710 pretrain --work ./work --recipe k710_b16_f8x224 --init ViT-B-16.pt
    """
    prepare_for_torch()
    from uniformerv2.recipe_toml import read_recipe

    chosen = read_recipe(recipe, _add_keep(settings, keep))
    _train(chosen, "pretrain", work, run, init, shards, cache, device)


def finetune(
    target: Annotated[Dataset, typer.Option(help="The dataset whose train view is trained on.")],
    source: Annotated[
        str, typer.Option("--from", metavar="RUN_OR_CKPT", help="A run of --work, or a checkpoint.")
    ],
    frames: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Of a clip. Default: as --from has.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Default: the published one for target, size, frames."),
    ] = None,
    work: Work = Path("work"),
    run: _Run = None,
    settings: Settings = None,
    keep: _Keep = None,
    shards: Shards = None,
    cache: Cache = None,
    device: Device = None,
) -> None:
    """Fine-tune a model of K710 on one dataset: its head gets the rows of that dataset's classes.

    Example: k710 finetune --work ./work --target k400 --from k710_b16_f8x224
    """
    prepare_for_torch()
    from uniformerv2.evaluate import recipe_of
    from uniformerv2.recipe_toml import find_fine_tuning_recipe, read_recipe
    from uniformerv2.weights.load import read_checkpoint

    path = run_or_checkpoint(work, source)
    if recipe is None:
        theirs = recipe_of(path)
        found = frames or (theirs.data.frames if theirs else 8)
        recipe = find_fine_tuning_recipe(target, read_checkpoint(path).config, found)
    elif frames is not None:
        settings = [*(settings or []), f"data.frames={frames}"]
    chosen = read_recipe(recipe, _add_keep(settings, keep))
    if chosen.start.kind != "video":
        raise typer.BadParameter(
            f"{recipe} starts from {chosen.start.of or chosen.start.kind}, and no video model: "
            "k710 pretrain trains it",
            param_hint="--recipe",
        )
    if chosen.dataset != target:
        raise typer.BadParameter(f"{recipe} trains on {chosen.dataset}", param_hint="--target")
    _train(chosen, "finetune", work, run, str(path), shards, cache, device)


def run_or_checkpoint(work: Path, text: str) -> Path:
    """The path of a run of that name in a work directory, or else of a checkpoint.

    StageError, with the runs that have a checkpoint, where it is neither.
    """
    from k710.errors import StageError, shown
    from uniformerv2.weights.files import step_of_run

    runs, path = work / "runs", Path(text)
    if path.name == text and (runs / text).is_dir():
        return runs / text
    if not path.exists():
        names = sorted(each.name for each in runs.glob("*") if step_of_run(each) is not None)
        there = (
            f"Runs there: {', '.join(map(shown, names))}."
            if names
            else "There are none with a checkpoint."
        )
        raise StageError(f"{shown(text)} is no file, and no run in {shown(runs)}.\n{there}")
    return path


def _add_keep(settings: list[str] | None, keep: int | None) -> list[str]:
    return [*(settings or []), *([] if keep is None else [f"run.keep={keep}"])]


def _train(
    recipe: "Recipe",
    command: str,
    work: Path,
    run: str | None,
    init: str | None,
    shards: str | None,
    cache: Path | None,
    device: str | None,
) -> None:
    from k710.errors import StageError, printable
    from uniformerv2.train import train_model

    name = run or recipe.name
    if not name or Path(name).name != name or name.startswith("."):
        raise StageError(f"--run {name!r} must be the name of a folder, without a path.")
    with _show_progress() as watch:
        done = train_model(
            recipe,
            work=work,
            run=name,
            init=init,
            shards=shards,
            cache=cache,
            device=device,
            watch=watch,
        )
    if not done.is_first:
        return
    where = printable(str(done.folder))
    if done.began and init is not None:
        say(
            f"This run went on after step {done.began:,}: {printable(init)} was not read.\n"
            "To start from it, give another --run."
        )
    if not done.is_checked:
        say(
            f"The checkpoint after step {done.began:,}, which it went on from, is of an older "
            "version and has no hashes:\nwhether its files are as they were written is not known."
        )
    if done.is_finished:
        say(f"{done.step:,} steps are done: {where}")
        say(f"Next: {_next_command(name, recipe.dataset, work, shards, cache)}")
    else:
        say(
            f"Stopped after step {done.step:,} of {done.total_steps:,}, with a checkpoint.\n"
            f"Run the same k710 {command} again: it goes on from there."
        )


def _next_command(
    run: str, dataset: str, work: Path, shards: str | None, cache: Path | None
) -> str:
    from k710.errors import printable

    words = ["k710", "evaluate", run, "--work", str(work), "--view", f"{dataset}/val"]
    words += [] if shards is None else ["--shards", shards]
    words += [] if cache is None else ["--cache", str(cache)]
    return printable(shlex.join(words))


@contextlib.contextmanager
def _show_progress() -> Iterator[Callable[["RunProgress"], None]]:
    """A bar on stderr, where that is a terminal; else a line now and then on stdout."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich import progress as columns

    bar = make_bar(
        columns.MofNCompleteColumn(),
        text_column("{task.fields[said]}"),
        columns.TimeElapsedColumn(),
        columns.TimeRemainingColumn(elapsed_when_finished=True),
        transient=False,
    )
    task = bar.add_task("steps", total=None, said="")

    def show(seen: "RunProgress") -> None:
        line = seen.lines[-1]
        if "loss" in line:
            bar.update(task, completed=seen.step, total=seen.total_steps, said=_describe_step(line))
        else:
            bar.console.print(_describe_validation(line), soft_wrap=True)
        bar.start()  # not before: of several processes one alone has something to show

    try:
        yield show
    finally:
        bar.stop()


class _Lines:
    """Prints a line of what the last steps gave, not more often than once in a while."""

    def __init__(self) -> None:
        self.last = -_SECONDS_BETWEEN_LINES

    def __call__(self, seen: "RunProgress") -> None:
        line = seen.lines[-1]
        if "loss" not in line:
            say(_describe_validation(line), flush=True)
        elif (
            time.monotonic() - self.last >= _SECONDS_BETWEEN_LINES or seen.step == seen.total_steps
        ):
            self.last = time.monotonic()
            left_s = (seen.total_steps - seen.step) * seen.step_s
            say(
                f"step {seen.step:,} of {seen.total_steps:,}: {_describe_step(line)}, "
                f"{_clock(left_s)} left",
                flush=True,
            )


def _describe_step(line: dict[str, Any]) -> str:
    words = [
        f"loss {line['loss']:.3f}",
        f"accuracy {line['accuracy']:.1%}",
        f"{line['clips_per_s']:,.1f} clips/s",
        f"waits {line['data_wait_s'] * 1e3:,.0f} ms",
    ]
    if line["mfu"] is not None:
        words.append(f"MFU {line['mfu']:.0%}")
    return ", ".join(words)


def _describe_validation(line: dict[str, Any]) -> str:
    return (
        f"step {line['step']:,}: {line['val_clips']:,} validation clips, one view each: "
        f"top-1 {line['val_top1']:.1%}, top-5 {line['val_top5']:.1%}"
    )


def _clock(seconds: float) -> str:
    minutes = int(seconds) // 60
    return f"{minutes // 60}:{minutes % 60:02}:{int(seconds) % 60:02}"
