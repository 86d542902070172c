"""Tables and text as Markdown."""

import re
from collections.abc import Iterable, Sequence

from k710.errors import printable

__all__ = ["markdown_table", "markdown_text"]

# What Markdown would read as more than text.
_MARKUP = re.compile(r"([\\`*_{}\[\]<>|#~&$])")


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the cells are Markdown already."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def markdown_text(text: str) -> str:
    """Text from outside as Markdown that shows just it."""
    return _MARKUP.sub(r"\\\1", printable(text))
