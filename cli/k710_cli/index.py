"""index: which clips are there, in which files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from k710_cli.options import Json, Work, Workers
from k710_cli.screen import console, print_json, progress, table

if TYPE_CHECKING:
    from rich.table import Table

    from k710.sources.index import IndexSummary

__all__ = ["index", "print_index"]


def index(
    videos: Annotated[
        list[Path],
        typer.Option(
            metavar="PATH",
            help="A folder in any layout, a .tar or .tar.gz, or a video; may be repeated. Files "
            "are known by their names, ID_000012_000022.mp4, ID.mp4 or what yt-dlp calls them.",
            show_default=False,
        ),
    ],
    work: Work = Path("work"),
    probe: Annotated[
        bool,
        typer.Option("--probe", help="Look into each copy: size, length, and whether it is sound."),
    ] = False,
    name_pattern: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX",
            help="Read other names in these folders by its groups id, start and end (seconds), as "
            r"in 'clip-(?P<id>[\w-]{11})@(?P<start>\d+)-(?P<end>\d+)'; start and end may be left "
            "out. With a / in it, of the whole path. Remembered; '' forgets it.",
            show_default=False,
        ),
    ] = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Find the clips in local copies, where they are: nothing is unpacked or moved.

    Run it again for other folders: what was found before is remembered.

    Example: k710 index --videos ./videos
    """
    from k710.sources.index import index_videos

    with progress() as show:
        summary = index_videos(
            videos,
            work=work,
            probe=probe,
            name_pattern=name_pattern,
            workers=workers,
            on_progress=show,
        )
    if as_json:
        return print_json(summary)
    print_index(summary)


def print_index(summary: "IndexSummary") -> None:
    from k710.errors import printable

    screen = console()
    screen.print(_views(summary))
    screen.print()
    screen.print(
        f"Videos: {summary.videos:,} = {summary.used:,} used + {summary.duplicates:,} duplicates "
        f"+ {summary.unknown:,} whose names are no clip's"
    )
    for path in summary.unknown_first:
        screen.print(f"    {printable(path)}", soft_wrap=True)
    if summary.unknown > len(summary.unknown_first):
        screen.print("    ...")
    for remark in summary.remarks:
        screen.print(printable(remark), soft_wrap=True)
    screen.print(
        f"Written to {printable(summary.work)}: sources.parquet, copies.parquet", soft_wrap=True
    )


def _views(summary: "IndexSummary") -> "Table":
    """found = ok + whatever else befell those that have a copy."""
    shown = [view for view in summary.views if view.clips]
    faults = sorted({s for view in shown for s in view.statuses} - {"ok", "missing"})
    columns = ("clips", "found", "missing", "duplicates", *faults)
    made = table("view", *columns, title="Clips that are there")
    for view in sorted(shown, key=lambda view: (not view.view.startswith("k710"), view.view)):
        counts = (view.clips, view.found, view.missing, view.duplicates)
        cells = (*counts, *(view.statuses.get(fault, 0) for fault in faults))
        made.add_row(view.view, *(f"{cell:,}" for cell in cells))
    return made
