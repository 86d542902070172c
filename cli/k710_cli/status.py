"""status, card."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from k710.statuses import Status
from k710_cli.options import Json, Work
from k710_cli.screen import console, counted, print_json, table

if TYPE_CHECKING:
    from k710.report.status import ViewStatus, WorkStatus

__all__ = ["card", "print_status", "status"]

_WORST = 10
_MOST_VIEWS = 3  # whose classes are shown unasked
_WORDS = {"to_shard": "to shard"}


def status(
    view: Annotated[
        list[str] | None,
        typer.Option(help="Like k710/train; may be repeated. Default: all views."),
    ] = None,
    work: Work = Path("work"),
    classes: Annotated[
        bool,
        typer.Option(
            "--classes", help="Show all classes, not just the ten of which least is stored."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Say how many clips of each view are stored, may still be had, or can't be had, and why.

    Example: k710 status --view k400/train
    """
    from k710.report.status import read_status

    found = read_status(view, work=work)
    if as_json:
        return print_json(found)
    print_status(found, all_classes=classes, views_chosen=bool(view))


def card(
    output: Annotated[
        Path | None,
        typer.Option(help="Where to write it. Default: README.md in --work.", show_default=False),
    ] = None,
    work: Work = Path("work"),
    repo_id: Annotated[
        str | None,
        typer.Option(metavar="ORG/NAME", help="Where on the hub the tables will be."),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace a file that k710 did not write, or that was edited."),
    ] = False,
) -> None:
    """Write a dataset card for the Hugging Face hub: views, rules, labels, how to make it again.

    Nothing is uploaded.

    Example: k710 card --repo-id my-group/kinetics-710
    """
    from k710.report.card import write_card

    try:
        written = write_card(work, output=output, repo_id=repo_id, force=force)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    screen = console()
    screen.print(f"Written: {written.path}", soft_wrap=True)
    screen.print(f"What belongs beside it: {', '.join(written.tables)}", soft_wrap=True)
    screen.print(
        "Never publish shards/ (the videos belong to their uploaders), nor sources.parquet, "
        "copies.parquet, outcomes/ and tries/, which tell of your paths.",
        soft_wrap=True,
    )


# --- the screen of status


def print_status(
    found: "WorkStatus", *, all_classes: bool = False, views_chosen: bool = True
) -> None:
    """Print what has come of the clips, why, in which classes, and what to do next.

    Of more than three views that nobody chose, classes are printed of the k710 views alone.
    """
    screen = console()
    with_classes = [
        view
        for view in found.views
        if views_chosen or len(found.views) <= _MOST_VIEWS or view.view.startswith("k710/")
    ]
    shown = [_counts(found), *_reasons(found), *_messages(found)]
    for made in (*shown, *_classes(with_classes, all_classes)):
        screen.print(made)
        screen.print()
    others = [view.view for view in found.views if view not in with_classes and _tells(view)]
    if others:
        screen.print(
            f"Classes of the other views: k710 status --view {shlex.quote(others[0])}{_work(found)}"
        )
        screen.print()
    screen.print(
        f"Distinct clips: {found.clips:,}, of which {found.stored:,} are stored. "
        f"{counted(found.shards, 'shard')}, {found.shard_bytes / 1e6:,.1f} MB.",
        soft_wrap=True,
    )
    for line in _next(found):
        screen.print(line, soft_wrap=True)


def _counts(found: "WorkStatus") -> Any:
    made = table("view", "clips", "stored", "to shard", "pending", "final", title="Clips")
    for view in found.views:
        counts = (view.clips, view.stored, view.to_shard, view.pending, view.final)
        made.add_row(view.view, *(f"{count:,}" for count in counts))
    return made


def _reasons(found: "WorkStatus") -> Iterator[Any]:
    """Those that are not stored, by status, with their share of the view."""
    columns = ("view", "state", "status", "meaning", "clips", "of view")
    made = table(*columns, title="Not stored", text_columns=4)
    for view in found.views:
        name = view.view
        for count in view.statuses:
            if count.state == "stored":
                continue
            state = _WORDS.get(count.state, count.state)
            numbers = f"{count.clips:,}", f"{count.share:.2%}"
            made.add_row(name, state, count.status, count.status.words, *numbers)
            name = ""
    if made.row_count:
        yield made


def _messages(found: "WorkStatus") -> Iterator[Any]:
    made = table("status", "message", "clips", title="Why, most often", text_columns=2)
    before = None
    for message in found.messages:
        status = message.status
        made.add_row(status if status != before else "", message.text, f"{message.clips:,}")
        before = status
    if made.row_count:
        yield made


def _classes(views: Sequence["ViewStatus"], all_classes: bool) -> Iterator[Any]:
    """The classes of each view of which least is stored; all of them if wanted."""
    for view in views:
        lacking = [one for one in view.classes if one.pending or one.final]
        shown = view.classes if all_classes else lacking[:_WORST]
        if not shown or not (all_classes or _tells(view)):
            continue
        title = f"Classes of {view.view}, least stored first"
        if len(shown) < len(lacking):
            title += f" ({len(shown)} of {len(lacking)})"
        columns = ("clips", "stored", "to shard", "pending", "final", "share stored")
        made = table("class", *columns, title=title)
        for one in shown:
            counts = (one.clips, one.stored, one.to_shard, one.pending, one.final)
            made.add_row(
                one.label_name, *(f"{count:,}" for count in counts), f"{one.share_stored:.1%}"
            )
        yield made


def _tells(view: "ViewStatus") -> bool:
    """Whether its classes differ: where nobody has looked yet, each of them lacks all."""
    return bool(view.classes) and view.pending + view.final > 0 and view.pending < view.clips


def _work(found: "WorkStatus") -> str:
    return "" if found.work == "work" else f" --work {shlex.quote(found.work)}"


def _next(found: "WorkStatus") -> Iterator[str]:
    for command, views in (
        ("shard --views", [view for view in found.views if view.to_shard]),
        ("shard --retry --views", [view for view in found.views if _failed_here(view)]),
        ("download --views", [view for view in found.views if _without_copy(view)]),
    ):
        if views:
            names = shlex.quote(",".join(view.view for view in views))
            yield f"Next: k710 {command} {names}{_work(found)}"
            if command.startswith("download"):
                yield f"Where there are copies: k710 index --videos DIR{_work(found)}"


def _failed_here(view: "ViewStatus") -> bool:
    return any(count.status == Status.FAILED and count.with_copy for count in view.statuses)


def _without_copy(view: "ViewStatus") -> bool:
    return any(
        count.state == "pending" and count.clips > count.with_copy for count in view.statuses
    )
