"""fetch-annotations, build-manifest, explain."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from k710.manifest.rules import Dedup, Rules
from k710_cli.options import Json, Work
from k710_cli.screen import console, print_json, progress, say, table

if TYPE_CHECKING:
    from rich.table import Table

    from k710 import Summary

__all__ = ["build_manifest", "explain", "fetch_annotations", "print_summary"]


def fetch_annotations(
    folder: Annotated[Path, typer.Argument(help="Where to put them.")] = Path("annotations"),
    edition: Annotated[
        list[str] | None,
        typer.Option(help="k400, k600, k700 or k700_2020; may be repeated. Default: all but k700."),
    ] = None,
    sources: Annotated[
        Path | None,
        typer.Option(help="A file like manifests/sources.toml with other addresses (a mirror)."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Download and unpack the official annotation archives.

    What is there already is not fetched again; a download that was cut off goes on where it
    stopped.

    Example: k710 fetch-annotations ./annotations
    """
    import k710

    with progress(in_bytes=True) as show:
        fetched = (
            k710.fetch_annotations(folder, editions=edition, sources=sources, on_progress=show)
            if edition
            else k710.fetch_annotations(folder, sources=sources, on_progress=show)
        )
    if as_json:
        return print_json(fetched)
    for one in fetched:
        state = "was there" if one.already_there else "fetched"
        say(f"{one.edition}: {state}, {len(one.files)} files in {one.folder}")
    say(f"Next: k710 build-manifest --annotations {folder}")


def build_manifest(
    annotations: Annotated[
        Path,
        typer.Option(
            help="Folder with the lists: CSV (.csv, .txt or .tsv, plain or .gz) or the official "
            "JSON, in any layout that names the dataset in a file's or folder's name.",
            show_default=False,
        ),
    ],
    work: Work = Path("work"),
    protect: Annotated[
        str,
        typer.Option(
            help="Drop train videos that are in these lists of any dataset: val,test, val, "
            "test or none."
        ),
    ] = "val,test",
    prefer: Annotated[
        str, typer.Option(help="Whose row of a video stays when several datasets have it.")
    ] = "k700,k600,k400",
    dedup: Annotated[
        Dedup, typer.Option(help="Keep one train row per YouTube id (as published), or per clip.")
    ] = "id",
    memory_limit: Annotated[
        str, typer.Option(help="What the process may use, about; more is spilled to --work.")
    ] = "2GB",
    threads: Annotated[
        int | None, typer.Option(min=1, max=256, help="Default: one per core, at most 4.")
    ] = None,
    require_complete: Annotated[
        bool, typer.Option("--require-complete", help="Stop if a val or test list is missing.")
    ] = False,
    merge_editions: Annotated[
        bool,
        typer.Option(
            "--merge-editions", help="Take the rows of all files where two hold the same list."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Build K710 from annotation lists: manifest, dropped rows with their reasons, leak matrix.

    Any subset of the lists builds. A second run with the same input does nothing.

    Example: k710 build-manifest --annotations ./annotations --work ./work
    """
    import k710

    try:
        rules = Rules(_split(protect, none="none"), _split(prefer), dedup)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    with progress() as show:
        summary = k710.build_manifest(
            annotations,
            work=work,
            protect=rules.protect,
            prefer=rules.prefer,
            dedup=rules.dedup,
            memory_limit=memory_limit,
            threads=threads,
            require_complete=require_complete,
            merge_editions=merge_editions,
            on_progress=show,
        )
    if as_json:
        return print_json(summary)
    print_summary(summary)


def explain(
    youtube_id: Annotated[str, typer.Argument(metavar="ID", help="The YouTube id.")],
    work: Work = Path("work"),
    as_json: Json = False,
) -> None:
    """Say what became of each row of one YouTube id, and why.

    Example: k710 explain -aU-xCCzkT0
    """
    import k710

    rows = k710.explain(youtube_id, work=work)
    if as_json:
        return print_json(rows)
    screen = console()
    for row in rows:
        label = row.label_raw if row.label_raw is not None else "no label"
        if row.label_name not in (None, row.label_raw):
            label += f" (K710: {row.label_name})"
        place = f"{row.source_file}:{row.source_line}"
        line = f"{row.list_name}  {row.time_start}-{row.time_end} s  {label}  [{place}]"
        screen.print(line, soft_wrap=True)
        screen.print(f"    {row.verdict}", soft_wrap=True)


def _split(text: str, *, none: str | None = None) -> tuple[str, ...]:
    # Nothing at all stays a word that fits nowhere: an unset variable must not mean `none`.
    return () if text.strip() == none else tuple(word.strip() for word in text.split(","))


# --- the summary of a build


def print_summary(summary: "Summary") -> None:
    """Print what a build read and made: rows in, views out, dropped by reason, leak matrix."""
    screen = console()
    for made in (_lists_table(summary), _views_table(summary), _leak_matrix(summary)):
        screen.print(made)
        screen.print()
    for line in _remarks(summary):
        screen.print(line, soft_wrap=True)


def _lists_table(summary: "Summary") -> "Table":
    made = table("list", "file", "rows", title="Lists read", text_columns=2)
    for read in summary.lists:
        made.add_row(f"{read.dataset}/{read.name}", read.file, f"{read.rows:,}")
    made.add_section()
    made.add_row("", "", f"{sum(read.rows for read in summary.lists):,}")
    return made


def _views_table(summary: "Summary") -> "Table":
    reasons = sorted({reason for by_reason in summary.dropped.values() for reason in by_reason})
    words = [reason.replace("_", " ") for reason in reasons]
    made = table("view", "rows in", *(f"- {word}" for word in words), "= clips", title="Views made")
    for view in sorted(summary.views, key=lambda view: (not view.startswith("k710"), view)):
        clips = summary.views[view]
        if view.startswith("k710/"):
            dropped = summary.dropped.get(view, {})
            cells = [f"{dropped.get(reason, 0):,}" for reason in reasons]
            made.add_row(view, f"{clips + sum(dropped.values()):,}", *cells, f"{clips:,}")
        else:
            surplus = sum(one.rows for one in summary.duplicates if one.list_name == view)
            made.add_row(view, f"{clips + surplus:,}", *([""] * len(reasons)), f"{clips:,}")
    return made


def _leak_matrix(summary: "Summary") -> "Table":
    names = sorted({name for pair in summary.leakage for name in (pair.a, pair.b)})
    shared = {(pair.a, pair.b): pair.ids for pair in summary.leakage}
    made = table(
        "",
        *(name.replace("/", "\n") for name in names[:-1]),
        title="YouTube ids that two lists share",
    )
    for row in names[1:]:
        cells = [
            f"{shared[column, row] or '.':,}"
            if shared.get((column, row))
            else "."
            if column < row
            else ""
            for column in names[:-1]
        ]
        made.add_row(row, *cells)
    return made


def _remarks(summary: "Summary") -> list[str]:

    lines = []
    for one in summary.duplicates:
        conflict = f", {one.conflicting:,} clips with different labels" if one.conflicting else ""
        count = f"{one.rows:,}{conflict}"
        lines.append(f"{one.list_name}: exact duplicates left out: {count} (see {one.example})")
    lines += [unread.words() for unread in summary.unread]
    if summary.not_protected:
        lines.append(
            f"Not protected against lists that are missing: {', '.join(summary.not_protected)}"
        )
    if summary.built:
        lines.append(
            f"Written to {summary.work}: {', '.join(f'{name}.parquet' for name in summary.built)}"
        )
    else:
        lines.append(f"Nothing to do: all tables in {summary.work} are made of just these lists.")
    return lines
