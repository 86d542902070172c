"""Printing: tables for people, JSON for programs, progress for the patient."""

import contextlib
import dataclasses
import json
import signal
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn
    from rich.table import Table

__all__ = [
    "console",
    "counted",
    "make_bar",
    "print_json",
    "progress",
    "rates",
    "stopped_in_words",
    "table",
]


def console() -> "Console":
    """A Rich console on stdout that takes text as text: no markup, no emoji."""
    from rich.console import Console

    screen = Console(markup=False, emoji=False, highlight=False, soft_wrap=False)
    # A pipe has no width: what a terminal of 100 columns shows.
    return (
        screen
        if screen.is_terminal
        else Console(markup=False, emoji=False, highlight=False, width=100)
    )


def table(*columns: str, title: str | None = None, text_columns: int = 1) -> "Table":
    """An empty Rich table: `text_columns` columns of text, then numbers at the right."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", show_edge=False)
    for place, column in enumerate(columns):
        made.add_column(
            column, justify="left" if place < text_columns else "right", overflow="fold"
        )
    return made


def counted(num: int, noun: str) -> str:
    """A number with its noun, which gets an s unless it is 1."""
    return f"{num:,} {noun}{'' if num == 1 else 's'}"


def print_json(value: Any) -> None:
    """Print dataclasses, or lists of them, as JSON."""
    print(json.dumps(value, indent=1, default=_plain))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return str(value)  # paths


def make_bar(*columns: "ProgressColumn", transient: bool = True) -> "Progress":
    """A progress bar on stderr: what is done, the bar, then these columns."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    screen = Console(stderr=True, markup=False, emoji=False, highlight=False)
    what = TextColumn("{task.description}", markup=False)
    return Progress(what, BarColumn(), *columns, console=screen, transient=transient)


@contextlib.contextmanager
def progress(
    *, in_bytes: bool = False, unit: str = "rows"
) -> Iterator[Callable[[str, int, int | None], None]]:
    """A progress bar on stderr, fed with (what, done, total); none where that is no terminal."""
    if not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    from rich import progress as columns

    counts = (
        (columns.DownloadColumn(), columns.TransferSpeedColumn())
        if in_bytes
        else (columns.TextColumn(f"{{task.completed:,}} {unit}".rstrip()),)
    )
    with make_bar(*counts, columns.TimeElapsedColumn()) as bars:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                for task in tasks.values():
                    bars.update(task, visible=False)
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield show


@contextlib.contextmanager
def rates() -> Iterator[Callable[[int, int, int, str], None]]:
    """A bar of clips with clips/s, MB/s and the time left; none where stderr is no terminal.

    It is fed with (clips done, clips in all, bytes read for them, a remark).
    """
    if not sys.stderr.isatty():
        yield lambda done, total, num_bytes, remark: None
        return
    from rich import progress as columns

    with make_bar(
        columns.MofNCompleteColumn(),
        columns.TextColumn("{task.fields[rate]}", markup=False),
        columns.TextColumn("{task.fields[remark]}", markup=False),
        columns.TimeElapsedColumn(),
        columns.TimeRemainingColumn(),
    ) as bars:
        task = bars.add_task("clips", total=None, rate="", remark="")

        def show(done: int, total: int, num_bytes: int, remark: str) -> None:
            elapsed = bars.tasks[0].elapsed or 0.0
            rate = ""
            if elapsed > 1:
                rate = f"{done / elapsed:,.1f} clips/s {num_bytes / elapsed / 1e6:,.1f} MB/s"
            bars.update(task, completed=done, total=total, rate=rate, remark=remark)

        yield show


@contextlib.contextmanager
def stopped_in_words(command: str) -> Iterator[None]:
    """Ctrl-C, SIGTERM and a closed terminal stop what is under way, and say that it can go on."""
    import typer

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    # What nohup has set to be ignored stays so.
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    except KeyboardInterrupt as error:
        print(f"Stopped. Run the same k710 {command} again: it goes on from here.", file=sys.stderr)
        raise typer.Exit(1) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
