"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Json", "Work"]

Work = Annotated[Path, typer.Option("--work", help="Folder of the tables.", show_default=True)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
