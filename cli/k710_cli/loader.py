"""bench-loader: is the loader quick enough on this disk, with these shards?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from k710_cli.options import Json, Work, Workers
from k710_cli.screen import console, print_json, progress, say, table
from k710_cli.weights import prepare_for_torch

if TYPE_CHECKING:
    from uniformerv2.loader_speed import LoaderSpeed

__all__ = ["bench_loader"]


def bench_loader(
    view: Annotated[str, typer.Option(help="Whose clips to read, like k710/train.")],
    work: Work = Path("work"),
    shards: Annotated[
        str | None,
        typer.Option(
            help="Folder of the shards, or a URL that fsspec knows (s3://bucket/shards). "
            "Default: shards/ in --work.",
            show_default=False,
        ),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps what comes over a network.")
    ] = None,
    workers: Workers = None,
    batch: Annotated[int, typer.Option(min=1, max=65536, help="Clips of a step.")] = 64,
    frames: Annotated[int, typer.Option(min=1, max=1024, help="Frames of a clip.")] = 8,
    seconds: Annotated[float, typer.Option(min=0.1, help="About how long to read.")] = 10.0,
    as_json: Json = False,
) -> None:
    """Measure how fast training batches come out of shards, and how well they are mixed.

    Example: k710 bench-loader --work ./work --view k710/train --workers 16
    """
    prepare_for_torch()
    from k710.machine import usable_cores
    from uniformerv2.dataset.clips import read_view
    from uniformerv2.dataset.decode import Reading
    from uniformerv2.dataset.draws import Chances
    from uniformerv2.dataset.frames import Sampling
    from uniformerv2.dataset.shard_reader import ShardReader

    reader = ShardReader(shards or work / "shards", cache)
    chosen = read_view(work, view)
    from uniformerv2.loader_speed import measure  # PyTorch takes seconds: after what may be wrong

    num_workers = workers or usable_cores()
    with progress(unit="clips") as show:
        speed = measure(
            chosen,
            Reading(reader, sampling=Sampling(frames), chances=Chances()),
            batch=min(batch, len(chosen.clip_ids)),
            workers=num_workers,
            seconds=seconds,
            report=lambda clips: show("reading", clips, None),
        )
    if as_json:
        return print_json(speed)
    _print(speed, chosen.name, frames)


def _print(speed: "LoaderSpeed", view: str, frames: int) -> None:
    say(
        f"{speed.clips_per_s:,.1f} clips/s with {speed.workers} "
        f"worker{'s' * (speed.workers != 1)}: "
        f"{speed.video_mb_per_s:,.1f} MB/s of video read, "
        f"{speed.frames_mb_per_s:,.0f} MB/s of frames handed over\n"
        f"({speed.clips:,} clips of {view} in {speed.seconds:.1f} s, "
        f"{speed.num_broken} broken)\n"
    )
    stages = table("One clip", "ms")
    for name, ms in (
        ("fetch its bytes", speed.fetch_ms),
        (f"decode {frames} frames", speed.decode_ms),
        ("the rest of a worker's time", speed.rest_ms),
        ("augment, on the device", speed.augment_ms),
    ):
        stages.add_row(name, f"{ms:,.2f}")
    screen = console()
    screen.print(stages)
    say()
    mixed = table("Neighbours in the order that have", "here", "perfectly mixed")
    shuffle = speed.shuffle
    for name, here, perfect in (
        ("the same shard", shuffle.same_shard, shuffle.same_shard_if_perfect),
        ("the same class", shuffle.same_class, shuffle.same_class_if_perfect),
    ):
        mixed.add_row(name, f"{here:.2%}", f"{perfect:.2%}")
    screen.print(mixed)
