"""A view as lists and indexes that other trainers read, in the class order of either family.

Beside the list lie the names of its classes in their order, <list>.classes.txt, and a JSON that
says of what it was made, <list>.about.json: the formats have no place for either.
"""

import json
import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import duckdb

import k710
from k710.errors import StageError, shown
from k710.export.clips import (
    OnProgress,
    check_files,
    choose_clips,
    choose_separator,
    count_left_out,
    fetch_batches,
    open_inputs,
)
from k710.export.formats import (
    Format,
    ListRow,
    default_family,
    default_output,
    refuse_usage,
    settings_of,
    write_rows,
)
from k710.export.request import ExportRequest
from k710.export.siblings import beside, refuse_folder, refuse_unlike
from k710.export.summary import ExportSummary, remarks_of
from k710.export.wids import WidsIndex, open_address, places_path, write_wids_index
from k710.files import is_url, replacing, sha256_of, word_os_errors
from k710.labels.orders import (
    Family,
    class_rows,
    dataset_spelling,
    labels_sha256,
)
from k710.shards.extract import Extracted, extract_clips
from k710.tables.connection import connect_to_read, run

__all__ = ["export_view"]

_LISTED = """
select youtube_id, time_start, time_end, class_index, class_name, clip_id, path from exported
where reason is null order by youtube_id, time_start, time_end
"""


@dataclass(frozen=True, slots=True)
class _List:
    """What is known of a list before it is written."""

    request: ExportRequest
    inputs: dict[str, str]  # table -> SHA-256
    class_names: list[str]  # by class index
    separator: str | None
    has_spaces: bool  # in a path
    extracted: Extracted


def export_view(
    view: str,
    *,
    format: Format,
    root: str | os.PathLike[str] | None = None,
    family: Family | None = None,
    extract: bool = False,
    output: str | os.PathLike[str] | None = None,
    work: str | os.PathLike[str] = "work",
    on_progress: OnProgress = lambda what, done, total: None,
) -> ExportSummary:
    """Write the list of a view as the trainer `format` wants it; returns what it holds and lacks.

    It names the trimmed files of the view below `root`, as k710 index found them; with `extract`
    the clips of the shards, which are written to `root` where they aren't there. `wids` lists the
    shards themselves: `root` is where they are, by default `work`/shards. Classes
    are those of the view's own dataset in the order of `family`, None: that of the trainer's own
    checkpoints. No
    file is named that is not there. The list and what lies beside it are written, and then take
    their places; about.json does so last.

    StageError where nothing can be listed, a table is missing, the format can't carry a path, or a
    list is beside it that would be read with the same setting and is of another kind.
    """
    refuse_usage(format, root=root, extract=extract, output=output)
    work = Path(work)
    family = family if family is not None else default_family(format)
    folder = os.fspath(root if root is not None else work / "shards")
    is_address = format == "wids" and is_url(folder)
    if is_url(folder) and not is_address:
        raise StageError(
            f"{shown(folder)} is an address, and {format} lists files.\nName a folder."
        )
    request = ExportRequest(
        view=view,
        format=format,
        family=family,
        root=open_address(folder) if is_address else os.path.abspath(folder),
        extract=extract,
        output=Path(output or default_output(work, view, format=format, family=family)),
        work=work,
    )
    refuse_folder(request.output)
    with connect_to_read() as con:
        return _export(con, request, on_progress=on_progress)


def _export(
    con: duckdb.DuckDBPyConnection, request: ExportRequest, *, on_progress: OnProgress
) -> ExportSummary:
    inputs = open_inputs(con, request)
    rows, names = _classes(request)
    choose_clips(con, request, rows=rows, names=names)
    separator = choose_separator(con, request)
    refuse_unlike(request, separator)
    folder, extracted = request.output.parent, Extracted(0, 0)
    with word_os_errors(folder):
        if request.extract:
            folder.mkdir(parents=True, exist_ok=True)  # before an hour of writing
            extracted = extract_clips(
                con, request.work, Path(request.root), on_progress=on_progress
            )
        has_spaces = request.format != "wids" and check_files(con, request, on_progress=on_progress)
        folder.mkdir(parents=True, exist_ok=True)
        return _write(con, _List(request, inputs, names, separator, has_spaces, extracted))


def _classes(request: ExportRequest) -> tuple[list[int], list[str]]:
    """The K710 row and the name of each class, in the order of the family."""
    rows = class_rows(request.dataset, request.family)
    return rows, [dataset_spelling(request.dataset, row) for row in rows]


def _write(con: duckdb.DuckDBPyConnection, new: _List) -> ExportSummary:
    """Write the list and what lies beside it, all of it before any takes its place."""
    request, output, index = new.request, new.request.output, None
    with ExitStack() as stack:  # left in reverse: about.json takes its place last
        about = stack.enter_context(replacing(beside(output, "about.json")))
        listed = stack.enter_context(replacing(output))
        classes = stack.enter_context(replacing(beside(output, "classes.txt")))
        classes.write_text("".join(f"{name}\n" for name in new.class_names), encoding="utf-8")
        if request.format == "wids":
            places = stack.enter_context(replacing(places_path(output)))
            index = write_wids_index(con, request, listed, places)
        else:
            rows = (ListRow(*row) for batch in fetch_batches(con, _LISTED) for row in batch)
            with listed.open("w", encoding="utf-8", newline="") as file:
                write_rows(
                    file,
                    rows,
                    format=request.format,
                    root=request.root,
                    separator=new.separator or "",
                )
        summary = _summarise(con, new, index)
        about.write_text(_about(summary, new.inputs, sha256_of(listed)), encoding="utf-8")
        # Killed between two of them, there is none: list and names may not belong together then.
        beside(output, "about.json").unlink(missing_ok=True)
    return summary


def _summarise(
    con: duckdb.DuckDBPyConnection, new: _List, index: WidsIndex | None
) -> ExportSummary:
    request, output, num_classes = new.request, new.request.output, len(new.class_names)
    ((num_clips, never_opened),) = run(
        con, "select count(*), count(*) filter (never_opened) from exported where reason is null"
    )
    left_out = count_left_out(con)
    files = [output, beside(output, "classes.txt"), beside(output, "about.json")]
    files += [] if index is None else [places_path(output)]
    return ExportSummary(
        view=request.view,
        format=request.format,
        dataset=request.dataset,
        family=request.family,
        num_classes=num_classes,
        clips=num_clips,
        left_out=tuple(left_out),
        root=request.root,
        separator=new.separator,
        extracted=new.extracted,
        index=index,
        files=tuple(map(str, files)),
        settings=settings_of(
            output,
            format=request.format,
            root=request.root,
            separator=new.separator or "",
            num_classes=num_classes,
        ),
        remarks=tuple(
            remarks_of(
                request,
                left_out,
                num_classes=num_classes,
                never_opened=never_opened,
                has_spaces=new.has_spaces,
            )
        ),
    )


def _about(summary: ExportSummary, inputs: dict[str, str], sha256: str) -> str:
    """The JSON that says of what the list is made. Same inputs, same bytes."""
    about = {
        "format": summary.format,
        "view": summary.view,
        "dataset": summary.dataset,
        "family": summary.family,
        "num_classes": summary.num_classes,
        "labels_sha256": labels_sha256(),
        "root": summary.root,
        "separator": summary.separator,
        "settings": summary.settings,
        "clips": summary.clips,
        "left_out": {left.reason: left.clips for left in summary.left_out},
        "sha256": sha256,
        "inputs": inputs,
        "k710": k710.__version__,
    }
    return json.dumps(about, indent=1) + "\n"
