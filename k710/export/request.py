"""What `k710 export` was asked for."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from k710.export.formats import Format
from k710.labels.orders import Family

__all__ = ["ExportRequest"]


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """A list to write."""

    view: str
    format: Format
    family: Family
    root: str  # where the files are, or the shards
    extract: bool
    output: Path
    work: Path

    @property
    def dataset(self) -> str:
        """The first part of the view's name."""
        return self.view.partition("/")[0]

    @property
    def from_shards(self) -> bool:
        """Whether it is made of what is stored, not of the copies."""
        return self.extract or self.format == "wids"

    def command(self, view: str, output: Path) -> str:
        """The command that exports another view in the same way."""
        words = ["k710", "export", view, "--format", self.format, "--root", self.root]
        words += ["--extract"] if self.extract else []
        words += ["--family", self.family, "--output", str(output)]
        words += ["--work", str(self.work)] if self.work != Path("work") else []
        return shlex.join(words)
