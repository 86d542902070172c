"""Printing: tables for people, JSON for programs, progress for the patient."""

import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["console", "print_json", "progress", "table"]


def console() -> Any:
    """A Rich console on stdout that takes text as text: no markup, no emoji."""
    from rich.console import Console

    screen = Console(markup=False, emoji=False, highlight=False, soft_wrap=False)
    # A pipe has no width: what a terminal of 100 columns shows.
    return (
        screen
        if screen.is_terminal
        else Console(markup=False, emoji=False, highlight=False, width=100)
    )


def table(*columns: str, title: str | None = None, text_columns: int = 1) -> Any:
    """An empty Rich table: `text_columns` columns of text, then numbers at the right."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", show_edge=False)
    for place, column in enumerate(columns):
        made.add_column(
            column, justify="left" if place < text_columns else "right", overflow="fold"
        )
    return made


def print_json(value: Any) -> None:
    """Print dataclasses, or lists of them, as JSON."""
    print(json.dumps(value, indent=1, default=_plain))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return str(value)  # paths


@contextlib.contextmanager
def progress(*, in_bytes: bool = False) -> Iterator[Callable[[str, int, int | None], None]]:
    """A progress bar on stderr, fed with (what, done, total); none where that is no terminal."""
    if not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TransferSpeedColumn,
    )

    counts = (
        (DownloadColumn(), TransferSpeedColumn())
        if in_bytes
        else (TextColumn("{task.completed:,} rows"),)
    )
    screen = Console(stderr=True, markup=False, emoji=False, highlight=False)
    bars = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *counts,
        TimeElapsedColumn(),
        console=screen,
        transient=True,
    )
    with bars:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                for task in tasks.values():
                    bars.update(task, visible=False)
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield show
