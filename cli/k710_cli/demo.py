"""demo: the way from lists to manifest on data that it makes itself."""

from pathlib import Path
from typing import Annotated

import typer

from k710_cli.manifest import print_summary
from k710_cli.screen import console

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command("demo")(demo)


def demo(
    folder: Annotated[Path, typer.Option(help="Where to write.")] = Path("work/demo"),
) -> None:
    """Write three small overlapping lists, build K710 from them, and show what happened.

    Example: k710 demo
    """
    import k710
    from k710.demo import write_demo_lists

    screen = console()
    lists = write_demo_lists(folder / "annotations")
    screen.print(f"Wrote {len(lists.files)} small lists to {folder / 'annotations'}.\n")
    print_summary(k710.build_manifest(folder / "annotations", work=folder))
    for youtube_id, story in lists.stories:
        screen.print(f"\nk710 explain {youtube_id} --work {folder}   # {story}", soft_wrap=True)
        for row in k710.explain(youtube_id, work=folder):
            screen.print(f"    {row.list_name}: {row.verdict}", soft_wrap=True)
