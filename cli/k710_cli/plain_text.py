"""Rich's console, table and bar column, which show text as it is: nothing in it acts on a terminal.

Names of files and classes, and what sites and libraries said, come from anywhere. What is made of
these three can't forget to escape it. `k710_cli.screen` makes them.
"""

from typing import Any

from rich.console import Console
from rich.progress import Task, TextColumn
from rich.table import Table
from rich.text import Text

from k710.errors import printable, printable_lines

__all__ = ["PlainColumn", "PlainConsole", "PlainTable"]


class PlainConsole(Console):
    """A console that takes text as text: no markup, no emoji, no control characters."""

    def __init__(self, *, to_stderr: bool = False, width: int | None = None) -> None:
        super().__init__(
            stderr=to_stderr,
            markup=False,
            emoji=False,
            highlight=False,
            soft_wrap=False,
            width=width,
        )

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as Rich does, each text on a line of its own, escaped."""
        super().print(*(printable(o) if isinstance(o, str) else o for o in objects), **options)


class PlainTable(Table):
    """A table whose cells are one line each; only its title and headers may break theirs."""

    def __init__(self, *, title: str | None = None, **options: Any) -> None:
        super().__init__(title=None if title is None else printable_lines(title), **options)

    def add_column(self, header: Any = "", *args: Any, **options: Any) -> None:
        """Add a column, its header escaped."""
        super().add_column(printable_lines(str(header)), *args, **options)

    def add_row(self, *cells: Any, **options: Any) -> None:
        """Add a row, its cells escaped."""
        super().add_row(*(printable(str(cell)) for cell in cells), **options)


class PlainColumn(TextColumn):
    """A column of a progress bar: `{task.description}` or `{task.fields[name]}`, escaped."""

    def __init__(self, text: str) -> None:
        super().__init__(text, markup=False)

    def render(self, task: Task) -> Text:
        """The column's text for `task`."""
        return Text(printable(super().render(task).plain), style=self.style)
