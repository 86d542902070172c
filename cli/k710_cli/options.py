"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Json", "Work", "Workers"]

Work = Annotated[Path, typer.Option("--work", help="Folder of the tables.", show_default=True)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, max=1024, help="Processes. Default: one per core.")
]
