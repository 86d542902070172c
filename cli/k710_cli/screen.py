"""Printing: tables for people, JSON for programs, progress for the patient.

Whatever a command shows goes through here, and is escaped here: see `k710_cli.plain_text`.
"""

import contextlib
import dataclasses
import io
import json
import signal
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

    from k710_cli.plain_text import PlainColumn, PlainConsole, PlainTable

__all__ = [
    "console",
    "counted",
    "guard_terminal",
    "make_bar",
    "print_json",
    "progress",
    "rates",
    "say",
    "say_cells",
    "stopped_in_words",
    "table",
    "text_column",
]


def console() -> "PlainConsole":
    """A Rich console on stdout that takes text as text: no markup, no emoji, nothing that acts."""
    from k710_cli.plain_text import PlainConsole

    screen = PlainConsole()
    # A pipe has no width: what a terminal of 100 columns shows.
    return screen if screen.is_terminal else PlainConsole(width=100)


def table(*columns: str, title: str | None = None, text_columns: int = 1) -> "PlainTable":
    """An empty Rich table: `text_columns` columns of text, then numbers at the right."""
    from rich import box

    from k710_cli.plain_text import PlainTable

    made = PlainTable(box=box.SIMPLE_HEAD, title=title, title_justify="left", show_edge=False)
    for place, column in enumerate(columns):
        made.add_column(
            column, justify="left" if place < text_columns else "right", overflow="fold"
        )
    return made


def say(text: str = "", *, end: str = "\n", flush: bool = False, to_stderr: bool = False) -> None:
    """Print lines as they are, not wrapped, with tabs and whatever else acts escaped."""
    from k710.errors import printable_lines

    file = sys.stderr if to_stderr else sys.stdout
    print(printable_lines(text), end=end, flush=flush, file=file)


def say_cells(*cells: object) -> None:
    """Print a line of a table for programs: cells with tabs between."""
    from k710.errors import printable

    print("\t".join(printable(str(cell)) for cell in cells))


def guard_terminal() -> None:
    """Escape what the terminal's encoding lacks, instead of failing at it, and what is logged."""
    import logging

    from k710.errors import printable_lines

    class Escaped(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return printable_lines(super().format(record))

    if logging.lastResort is not None:  # which prints warnings, as nobody has set up logging
        logging.lastResort.setFormatter(Escaped())
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


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
    from rich.progress import BarColumn, Progress

    from k710_cli.plain_text import PlainConsole

    what = text_column("{task.description}")
    screen = PlainConsole(to_stderr=True)
    return Progress(what, BarColumn(), *columns, console=screen, transient=transient)


def text_column(text: str) -> "PlainColumn":
    """A column of a bar, like `{task.fields[rate]}`."""
    from k710_cli.plain_text import PlainColumn

    return PlainColumn(text)


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
        else (text_column(f"{{task.completed:,}} {unit}".rstrip()),)
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
        text_column("{task.fields[rate]}"),
        text_column("{task.fields[remark]}"),
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
        say(f"Stopped. Run the same k710 {command} again: it goes on from here.", to_stderr=True)
        raise typer.Exit(1) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
