"""The files of a list: beside it the names of its classes, and a JSON that says of what it is made.

Lists of one folder may be read with one setting. So what that setting has in it is compared with
the lists that are there before another goes beside them.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from k710.errors import StageError, shown
from k710.export.formats import FOLDER_NAMES, Format, reads_folder
from k710.export.request import ExportRequest

__all__ = ["beside", "refuse_folder", "refuse_unlike"]


def beside(output: Path, what: str) -> Path:
    """The name of a file that goes with the list."""
    return output.with_name(f"{output.name}.{what}")


def refuse_folder(output: Path) -> None:
    """StageError where the list would have to take the place of a folder."""
    if output.is_dir():
        raise StageError(
            f"{output} is a folder.\nName the list itself: --output {output / 'val.csv'}"
        )


def refuse_unlike(request: ExportRequest, separator: str | None) -> None:
    """StageError where a list beside is read with the same setting, and that would be wrong.

    SlowFast gives label 0 to a line that it can't cut, and none sees a wrong order of classes.
    """
    for sibling, about in _siblings(request):
        mine = {
            "format": request.format,
            "dataset": request.dataset,
            "family": request.family,
            "root": request.root,
            "separator": separator,
        }
        differing = [
            f"{name} {shown(about.get(name), limit=300)} there, {shown(mine[name], limit=300)} here"
            for name in _common(request.format)
            if about.get(name) != mine[name]
        ]
        if differing:
            view = about.get("view")
            again = request.command(view if isinstance(view, str) else "VIEW", sibling)
            raise StageError(
                f"{request.output.name} would be read with the same setting as {sibling}, and they "
                f"differ: {'; '.join(differing)}.\n"
                f"Keep them apart: --output OTHER/{request.output.name}\n"
                f"Or remove {sibling}, run this again, and make that one alike: {again}"
            )


def _common(format: Format) -> tuple[str, ...]:
    """What lists that are read together must have in common, as about.json names it."""
    if format == "slowfast":
        return ("format", "dataset", "family", "root", "separator")
    if format == "videomae":  # its paths are whole
        return ("format", "dataset", "family")
    return ("family",)  # in MMAction2 each list has its own settings


def _siblings(request: ExportRequest) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The other lists of the folder that may be read together with it, each with its JSON."""
    if not reads_folder(request.format) and request.format != "mmaction2":
        return
    for path in sorted(request.output.parent.glob("*.about.json")):
        sibling = path.with_name(path.name.removesuffix(".about.json"))
        if sibling.name == request.output.name or not sibling.is_file():
            continue
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if not isinstance(about, dict):
            continue
        of_pair = (about.get("format"), about.get("dataset")) == (request.format, request.dataset)
        if sibling.name in FOLDER_NAMES if reads_folder(request.format) else of_pair:
            yield sibling, about
