"""doctor: what is here of what k710 needs, and the commands that mend what is not."""

from pathlib import Path

import typer

from k710_cli.options import Json, Work
from k710_cli.screen import console, print_json, table

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command("doctor")(doctor)


def doctor(work: Work = Path("work"), as_json: Json = False) -> None:
    """Look at versions, GPU, decoder, disk and downloader; say what is missing, and what mends it.

    Exit code 1 if something is broken; what only some commands need may be missing.

    Example: k710 doctor --work /data/kinetics
    """
    from k710.doctor import checks

    found = checks(work)
    if as_json:
        print_json(found)
    else:
        rows = table("", "", "found", "needed for", text_columns=4)
        for check in found:
            mark = {"ok": "", "missing": "-", "broken": "BROKEN"}[check.state]
            rows.add_row(mark, check.name, check.found, check.needed_for)
        console().print(rows)
        remedies: dict[str, list[str]] = {}
        for check in found:
            if check.remedy is not None:
                remedies.setdefault(check.remedy, []).append(check.name)
        print("\nTo mend" if remedies else "\nNothing is missing.")
        for remedy, names in remedies.items():
            print(f"  {', '.join(names)}: {remedy}")
    if any(check.state == "broken" for check in found):
        raise typer.Exit(1)
