"""export: lists and indexes for other trainers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from k710.export.formats import Format, refuse_usage
from k710.labels.orders import Family
from k710_cli.options import Json, Work
from k710_cli.screen import console, counted, print_json, progress

if TYPE_CHECKING:
    from k710.export.summary import ExportSummary

__all__ = ["export"]


def export(
    view: Annotated[str, typer.Argument(help="Whose clips, like k400/val.", show_default=False)],
    format: Annotated[
        Format,
        typer.Option(
            "--format",
            help="The trainer that reads it; wids: webdataset's index of whole shards.",
            show_default=False,
        ),
    ],
    root: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="The folder of the clips, below which the list names its trimmed files. wids: "
            "folder or address of the shards, if they are not in the work folder.",
            show_default=False,
        ),
    ] = None,
    family: Annotated[
        Family | None,
        typer.Option(
            help="Order of the classes. Default: alphabetical for slowfast, mmaction2, videomae: "
            "that of their own checkpoints; opengvlab for csv, wids.",
            show_default=False,
        ),
    ] = None,
    extract: Annotated[
        bool,
        typer.Option(
            "--extract",
            help="List the clips of the shards: write them below --root, where they aren't there.",
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The list. Default: its own folder in the work folder, lists/..."
        ),
    ] = None,
    work: Work = Path("work"),
    as_json: Json = False,
) -> None:
    """Write the list of a view as another trainer reads it, with classes in the order you choose.

    No file is listed that is not there. Beside the list go the names of its classes.

    Example: k710 export k400/val --format slowfast --root clips --extract
    """
    from k710.export.view import export_view

    try:
        refuse_usage(format, root=root, extract=extract, output=output)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    with progress(unit="clips") as show:
        summary = export_view(
            view,
            format=format,
            root=root,
            family=family,
            extract=extract,
            output=output,
            work=work,
            on_progress=show,
        )
    if as_json:
        return print_json(summary)
    _print_export(summary)


def _print_export(summary: "ExportSummary") -> None:
    from k710.errors import printable

    lines = [f"{summary.view} for {summary.format}: {counted(summary.clips, 'clip')}"]
    if summary.left_out:
        lines.append(f"Left out: {', '.join(left.words for left in summary.left_out)}")
    if summary.extracted.clips:
        extracted = summary.extracted
        lines.append(f"Extracted: {extracted.clips:,} of them, {extracted.bytes / 1e6:,.1f} MB")
    if summary.index is not None:
        index = summary.index
        lines.append(
            f"In {counted(index.shards, 'shard')} of {counted(index.samples, 'clip')}: take "
            "those of the view by their places, like torch.utils.data.Subset(dataset, places)"
        )
    lines.append(
        f"Class indices: 0 to {summary.num_classes - 1}, those of {summary.dataset} in "
        f"{summary.family} order"
    )
    folder = Path(summary.files[0]).parent
    names = ", ".join(Path(path).name for path in summary.files)
    lines.append(f"Written to {folder}: {names}")
    if summary.settings is not None:
        # Escaped, they would be other paths.
        is_plain = printable(summary.settings) == summary.settings
        told = summary.settings if is_plain else f"see settings in {summary.files[2]}"
        lines.append(f"Tell the trainer: {told}")
    screen = console()
    for line in (*lines, *summary.remarks):
        screen.print(printable(line), soft_wrap=True)
