"""shard, verify."""

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from k710.video.profiles import ProfileName
from k710_cli.options import Json, Work, Workers
from k710_cli.screen import console, counted, print_json, progress, rates, stopped_in_words, table

if TYPE_CHECKING:
    from rich.table import Table

    from k710.engines.local import Engine
    from k710.shards.summary import ShardSummary
    from k710.shards.verify import Verified

__all__ = ["print_shards", "print_verified", "shard", "verify"]

EngineName = Literal["local", "ray"]


def shard(
    views: Annotated[
        str,
        typer.Option(help="Whose clips to store, like k710/train,k400/val.", show_default=False),
    ],
    work: Work = Path("work"),
    profile: Annotated[
        ProfileName,
        typer.Option(
            help="balanced: fast to read, 1.5 times the bytes of plain x264. compact: few bytes. "
            "intra: keyframes only, fastest to read. copy: files that are trimmed go in as they "
            "are, the rest as balanced."
        ),
    ] = "balanced",
    short_side: Annotated[
        int, typer.Option(min=16, max=4320, help="Scale to that many pixels; never up.")
    ] = 320,
    fps: Annotated[
        str | None,
        typer.Option(help="Frames a second, like 30 or 30000/1001. Default: each source's own."),
    ] = None,
    audio: Annotated[bool, typer.Option("--audio", help="Keep the sound, as stereo AAC.")] = False,
    shard_size: Annotated[str, typer.Option(help="About how large a shard gets.")] = "512MB",
    staging_size: Annotated[
        str,
        typer.Option(
            help="Disk for clips that wait to be packed. A .tar.gz is read once for each so many "
            "bytes of shards: give much where there are many."
        ),
    ] = "8GB",
    staging: Annotated[
        str | None,
        typer.Option(
            help="Folder or fsspec URL (s3://bucket/dir) for them. Default: staging/ in --work.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the order of the clips in the shards.")] = 0,
    engine: Annotated[
        EngineName, typer.Option(help="local: this machine's cores. ray: a Ray cluster's.")
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(help="Of the Ray cluster, HOST:PORT or auto. Default: a Ray of its own."),
    ] = None,
    workers: Workers = None,
    timeout: Annotated[
        float, typer.Option(min=1, help="Seconds after which a clip counts as hung.")
    ] = 600,
    part: Annotated[
        str | None,
        typer.Option(help="Make this part of the shards, like 3/16; others make theirs meanwhile."),
    ] = None,
    finish: Annotated[
        bool,
        typer.Option(
            "--finish",
            help="Join what all parts made, if it is all there. Only --views and --work count.",
        ),
    ] = False,
    found_only: Annotated[
        bool,
        typer.Option(
            "--found-only", help="Plan only clips that have a copy; others come to later shards."
        ),
    ] = False,
    retry: Annotated[
        bool, typer.Option("--retry", help="Try clips again that failed before.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be made, and write nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Cut, encode and pack the clips of views into WebDataset shards, each clip once.

    May be stopped at any moment: the same command goes on. Later runs append, and rewrite nothing.

    Example: k710 shard --views k710/train,k400/train,k400/val
    """
    from k710.machine import num_bytes_of
    from k710.part import Part
    from k710.shards.run import finish_shards, make_shards
    from k710.video.encode import Encoding

    names = [view.strip() for view in views.split(",")]
    if finish:
        if part is not None or dry_run:
            raise typer.BadParameter("--finish goes with neither --part nor --dry-run")
        with stopped_in_words("shard"):
            summary = finish_shards(names, work=work)
        return print_json(summary) if as_json else print_shards(summary, joined=True)
    try:
        encoding = Encoding(profile, short_side, Fraction(fps) if fps else None, audio)
        sizes = num_bytes_of(shard_size), num_bytes_of(staging_size)
        of_part = None if part is None else Part.parse(part)
    except (ValueError, ZeroDivisionError) as error:
        raise typer.BadParameter(str(error)) from error
    with stopped_in_words("shard"), rates() as show:
        summary = make_shards(
            names,
            work=work,
            encoding=encoding,
            shard_bytes=sizes[0],
            staging=staging,
            staging_bytes=sizes[1],
            seed=seed,
            engine=_choose_engine(engine, address, workers),
            timeout_s=timeout,
            part=of_part,
            found_only=found_only,
            retry=retry,
            dry_run=dry_run,
            on_progress=lambda now: show(
                now.clips, now.clips_in_all, now.source_bytes, f"{now.shards:,} shards"
            ),
        )
    if as_json:
        return print_json(summary)
    print_shards(summary)


def _choose_engine(name: EngineName, address: str | None, workers: int | None) -> "Engine":
    if name == "ray":
        from k710.engines.ray import Ray

        return Ray(address, workers)
    if address is not None:
        raise typer.BadParameter("--address goes with --engine ray")
    from k710.engines.local import Local

    return Local(workers)


def verify(
    work: Work = Path("work"),
    deep: Annotated[
        bool, typer.Option("--deep", help="Decode every clip, and count its frames.")
    ] = False,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Check every byte of the shards against hashes, index and plan. Exit 1 if there is a fault.

    Clips that could not be had are no fault of the shards.

    Example: k710 verify --deep
    """
    from k710.shards.verify import verify_shards

    with stopped_in_words("verify"), progress(unit="") as show:
        verified = verify_shards(work=work, deep=deep, workers=workers, on_progress=show)
    if as_json:
        print_json(verified)
    else:
        print_verified(verified)
    if verified.faults:
        raise typer.Exit(1)


def print_shards(summary: "ShardSummary", *, joined: bool = False) -> None:
    """Print how the clips of the views fared, and what was made, or `joined` of several parts."""
    screen = console()
    screen.print(_fates(summary))
    screen.print()
    estimate = f"about {summary.estimated_bytes / 1e9:,.1f} GB"
    if summary.dry_run:
        screen.print(
            f"To be made: {summary.clips_to_make:,} clips, {summary.hours_to_make:,.1f} hours, "
            f"{estimate} ({summary.free_bytes / 1e9:,.0f} GB free). "
            f"{summary.clips_without_copy:,} clips have no copy. Nothing was written.",
            soft_wrap=True,
        )
    elif summary.shards_made:
        rate = summary.clips_to_make / summary.seconds
        of_part = f" of part {summary.part}" if summary.part else ""
        screen.print(
            f"{counted(len(summary.shards_made), 'shard')} made in {summary.seconds:,.1f} s "
            f"({rate:,.1f} clips/s); {summary.shards_in_all:,}{of_part} in {summary.work}/shards.",
            soft_wrap=True,
        )
    elif joined:
        screen.print(
            f"All there: {summary.shards_in_all:,} shards in {summary.work}/shards. "
            "Written: index.parquet, sources.parquet.",
            soft_wrap=True,
        )
    else:
        what = f" in part {summary.part}" if summary.part else ""
        is_all = not summary.clips_undecided and not summary.part
        why = ": every clip that may be had is in a shard" if is_all else ""
        screen.print(f"Nothing to do{what}{why}.")
    if summary.clips_undecided and not summary.dry_run:
        screen.print(
            f"{counted(summary.clips_undecided, 'clip')} with a copy that can't be read, failed, "
            "or can't be told from other clips: `detail` says why. If they were moved: "
            "k710 index --videos DIR. Those that failed: k710 shard --retry.",
            soft_wrap=True,
        )
    if summary.part:
        if not summary.dry_run:
            screen.print("When all parts are done: the same command, --finish instead of --part.")
        return
    if any(fate.status != "ok" for fate in summary.fates):
        query = f"select clip_id, status, detail from '{summary.work}/sources.parquet'"
        screen.print(f"Why: duckdb -c \"{query} where status <> 'ok'\"", soft_wrap=True)


def _fates(summary: "ShardSummary") -> "Table":
    statuses = sorted({fate.status for fate in summary.fates}, key=lambda s: (s != "ok", s))
    made = table("view", "clips", "stored", "MB", *statuses, title="Clips by how they fared")
    for view in summary.views:
        fates = {fate.status: fate for fate in summary.fates if fate.view == view}
        made.add_row(
            view,
            f"{sum(fate.clips for fate in fates.values()):,}",
            f"{sum(fate.stored for fate in fates.values()):,}",
            f"{sum(fate.bytes for fate in fates.values()) / 1e6:,.1f}",
            *(f"{fates[status].clips:,}" if status in fates else "" for status in statuses),
        )
    return made


def print_verified(verified: "Verified") -> None:
    """Print what was checked, and each fault on a line."""
    from k710.errors import printable

    screen = console()
    depth = ", each decoded" if verified.deep else ""
    verdict = f"{counted(len(verified.faults), 'fault')}." if verified.faults else "all as written."
    screen.print(
        f"{counted(verified.shards, 'shard')}, {verified.clips:,} clips{depth}, "
        f"{verified.bytes / 1e6:,.1f} MB: {verdict}",
        soft_wrap=True,
    )
    for fault in verified.faults:
        screen.print(printable(f"    {fault.what}"), soft_wrap=True)
    if verified.unfinished:
        screen.print(f"{verified.unfinished:,} planned shards are not made yet.")
    if verified.faults and verified.shards:
        screen.print(
            "Remove the files named and run k710 shard again: what it makes is the same, byte for "
            "byte, if the copies still are.",
            soft_wrap=True,
        )
