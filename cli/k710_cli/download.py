"""download."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from k710.download.options import DownloadOptions, Policy
from k710_cli.options import Json, Work
from k710_cli.screen import console, print_json, rates, stopped_in_words, table

if TYPE_CHECKING:
    from rich.table import Table

    from k710.download.summary import DownloadSummary

__all__ = ["download", "print_downloads"]

_STOPPED: dict[str | None, str] = {
    "refusals": "Stopped: refused too often in a row. What is left is pending, not lost. Wait some "
    "hours and run the same command again, with more --sleep, --cookies, or another --proxy.",
    "unknown": "Stopped: too often in a row nothing came, and no reason that k710 knows. What is "
    "left is pending, not lost. Most often the site has changed: {tool} is here; update it with "
    "pip install -U yt-dlp and run the same command again. If such a video plays in a browser and "
    "still doesn't come, the site refuses this address or these cookies.",
}


def download(
    views: Annotated[
        str,
        typer.Option(
            help="Whose clips to get, like k710/train,k710/val: those without a copy.",
            show_default=False,
        ),
    ],
    work: Work = Path("work"),
    fetch: Annotated[
        Policy,
        typer.Option(
            help="whole: one stream of the video, for all its windows. sections: the windows "
            "alone, a bit padded (needs ffmpeg; sites throttle it). auto: what should be there "
            "first, by the rates measured so far."
        ),
    ] = "auto",
    short_side: Annotated[
        int, typer.Option(min=16, max=4320, help="The smallest stream with as many pixels.")
    ] = 320,
    audio: Annotated[bool, typer.Option("--audio", help="With sound.")] = False,
    cookies: Annotated[
        Path | None, typer.Option(help="Cookies of a browser session, in Netscape's format.")
    ] = None,
    proxy: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="May be repeated: taken in turn.")
    ] = None,
    sleep: Annotated[
        float,
        typer.Option(min=0, help="Seconds from one start to the next, for each address."),
    ] = 5.0,
    rate_limit: Annotated[
        str | None, typer.Option(help="Bytes a second for each address, like 3MB.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Fetches at a time.")] = 4,
    retries: Annotated[
        int, typer.Option(min=0, help="Of what may pass: 429, 5xx, broken connections.")
    ] = 3,
    backoff: Annotated[
        float, typer.Option(min=0, help="Seconds before the first retry; each doubles them.")
    ] = 5.0,
    walls: Annotated[
        int,
        typer.Option(
            min=1,
            help="Answers in a row, for each address, that bring no video and no known reason of "
            "its own (bot walls, 403, 429, errors that are unknown), after which it stops.",
        ),
    ] = 10,
    timeout: Annotated[
        float, typer.Option(min=1, help="Seconds after which a fetch is killed.")
    ] = 1800,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many videos.")] = None,
    classes: Annotated[
        Path | None, typer.Option(help="A file of class names, one a line: only these.")
    ] = None,
    again: Annotated[
        str,
        typer.Option(
            help="Statuses to try once more that count as final, like age,region (with cookies "
            "or a proxy) or damaged,empty (copies that are no good); failed: also what the site "
            "called unavailable three times without a known reason.",
            show_default=False,
        ),
    ] = "",
    part: Annotated[
        str,
        typer.Option(help="One part of the videos, like 3/16: for as many machines, on one disk."),
    ] = "1/1",
    address_name: Annotated[
        str,
        typer.Option(
            help="Machines that give the same name share sleep, rate and walls. Give each public "
            "address its own."
        ),
    ] = "this",
    keep_sources: Annotated[
        Literal["yes", "no"],
        typer.Option(help="no: a video goes once all that it was fetched for is in shards."),
    ] = "yes",
    url_template: Annotated[
        str, typer.Option(help="Where videos are; {id} stands for the YouTube id.")
    ] = "https://www.youtube.com/watch?v={id}",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what is to be fetched, and fetch nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Get the clips that no copy is there of, with yt-dlp; each attempt is in work/ledger/.

    May be stopped at any moment: the same command goes on with what is pending. Exit 1 where it
    stopped before all was asked for, or asked and nothing came.

    Example: k710 download --views k710/train --limit 100
    """
    from k710.download.run import check_again, download_videos
    from k710.labels.class_file import known_classes_in
    from k710.machine import num_bytes_of
    from k710.part import Part

    try:
        options = DownloadOptions(
            url_template=url_template,
            policy=fetch,
            short_side=short_side,
            audio=audio,
            cookies=None if cookies is None else str(cookies),
            proxies=tuple(proxy or ()),
            address=address_name,
            sleep_s=sleep,
            bytes_per_s=None if rate_limit is None else num_bytes_of(rate_limit.removesuffix("/s")),
            workers=workers,
            retries=retries,
            backoff_s=backoff,
            walls=walls,
            timeout_s=timeout,
            keep=keep_sources == "yes",
        )
        selected = Part.parse(part)
        check_again(_split(again))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    with stopped_in_words("download"), rates() as show:
        summary = download_videos(
            _split(views),
            work=work,
            options=options,
            classes=None if classes is None else known_classes_in(classes),
            again=_split(again),
            limit=limit,
            part=selected,
            dry_run=dry_run,
            on_progress=lambda now: show(
                now.clips, now.clips_in_all, now.num_bytes, f"{now.ok:,} ok"
            ),
        )
    if as_json:
        print_json(summary)
    else:
        print_downloads(summary)
    if summary.is_stopped or summary.came_to_nothing:
        raise typer.Exit(1)


def _split(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def print_downloads(summary: "DownloadSummary") -> None:
    """Print how the clips of the views stand, what was done, and why not more."""
    from k710.errors import printable

    screen = console()
    screen.print(_views(summary))
    screen.print()
    if not summary.expected.videos:
        why = "no clip of these views is pending"
        screen.print(f"Nothing to do{'' if summary.given_up else f': {why}'}.")
    elif summary.dry_run:
        _print_expected(summary)
    else:
        fates = ", ".join(f"{clips:,} {status}" for status, clips in summary.statuses.items())
        screen.print(
            f"{summary.videos:,} of {summary.expected.videos:,} videos in {summary.attempts:,} "
            f"attempts, {summary.num_bytes / 1e6:,.1f} MB. Clips: {fates or 'none'}.",
            soft_wrap=True,
        )
    for status, reason, videos in summary.reasons:
        screen.print(printable(f"    {videos:,} {status}: {reason}"), soft_wrap=True)
    for remark in summary.remarks:
        screen.print(printable(remark), soft_wrap=True)
    if words := _STOPPED.get(summary.stopped_by):
        screen.print(words.format(tool=summary.tool), soft_wrap=True)
    elif summary.came_to_nothing:
        screen.print("Nothing came.")


def _print_expected(summary: "DownloadSummary") -> None:
    expected = summary.expected
    if expected.estimated_bytes is None:
        size = (
            f"at least {expected.at_least_bytes / 1e9:,.1f} GB (the windows alone; videos are "
            "many times as long: fetch some with --limit 50, and ask again)"
        )
    else:
        size = f"about {expected.estimated_bytes / 1e9:,.1f} GB, by what was fetched so far"
    takes = "" if expected.estimated_hours is None else f", in {expected.estimated_hours:,.1f} h"
    console().print(
        f"To be fetched: {expected.clips:,} clips ({expected.hours:,.1f} hours) in "
        f"{expected.videos:,} videos, {size}{takes}; {expected.free_bytes / 1e9:,.0f} GB are free. "
        "Nothing was fetched.",
        soft_wrap=True,
    )


def _views(summary: "DownloadSummary") -> "Table":
    statuses = sorted({row.status for row in summary.views}, key=lambda s: (s != "ok", s))
    made = table("view", "clips", *statuses, title="Clips by how they fared")
    for view in sorted({row.view for row in summary.views}):
        counts = {row.status: row.clips for row in summary.views if row.view == view}
        cells = (f"{counts[status]:,}" if status in counts else "" for status in statuses)
        made.add_row(view, f"{sum(counts.values()):,}", *cells)
    return made
