"""doctor: what is here of what k710 needs, and the commands that mend what is not."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from k710_cli.options import Json, Work
from k710_cli.screen import console, print_json, table

if TYPE_CHECKING:
    from k710.doctor.machine import Check

__all__ = ["doctor"]

_MARKS = {"ok": "ok", "missing": "-", "broken": "BROKEN", "note": "note"}
_FIRST = ("broken", "missing", "note")


def doctor(work: Work = Path("work"), as_json: Json = False) -> None:
    """Look at versions, GPU, decoder, disk and downloader; say what is missing, and what mends it.

    Exit code 1 if something is broken; what only some commands need may be missing.

    Example: k710 doctor --work ./work
    """
    from k710.doctor.checks import run_checks

    found = run_checks(work)
    if as_json:
        print_json(found)
    else:
        _print(found)
    if any(check.state == "broken" for check in found):
        raise typer.Exit(1)


def _print(found: "Sequence[Check]") -> None:
    screen = console()
    for topic, rows in groupby(found, key=lambda check: check.topic):
        made = table(topic, "", "found", "needed for", text_columns=4)
        for check in rows:
            made.add_row(check.name, _MARKS[check.state], check.found, check.needed_for)
        screen.print(made)
        screen.print()
    remedies = list(_remedies(found))
    screen.print("What to do" if remedies else "Nothing is missing.")
    for remedy, names in remedies:
        # On a line of its own, not wrapped: to be copied.
        screen.print(f"  {', '.join(names)}", soft_wrap=True)
        screen.print(f"    {remedy}", soft_wrap=True)


def _remedies(found: "Sequence[Check]") -> Iterator[tuple[str, list[str]]]:
    """What mends something, and the names of all that it mends: first what is broken."""
    named: dict[str, list[str]] = {}
    for check in sorted(found, key=lambda check: (*_FIRST, "ok").index(check.state)):
        if check.remedy is not None:
            named.setdefault(check.remedy, []).append(check.name)
    yield from named.items()
