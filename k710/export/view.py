"""A view as lists and indexes that other trainers read, in the class order of either family.

Beside the list lie the names of its classes in their order, <list>.classes.txt, and a JSON that
says of what it was made, <list>.about.json: the formats have no place for either.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import duckdb
import pyarrow as pa

import k710
from k710.errors import K710Error, StageError
from k710.export.formats import (
    SEPARATORS,
    Format,
    ListRow,
    default_family,
    default_output,
    needs_labels,
    refuse_path,
    refuse_usage,
    separator_of,
    settings_of,
    write_rows,
)
from k710.export.siblings import Asked, beside, refuse_folder, refuse_unlike
from k710.export.summary import ExportSummary, LeftOut, nothing_to_list, remarks_of
from k710.export.wids import WidsIndex, places_path, write_wids_index
from k710.files import replacing, sha256_of, word_os_errors
from k710.labels.orders import (
    Dataset,
    Family,
    class_names,
    dataset_spelling,
    head_map,
    k710_order,
    labels_sha256,
)
from k710.shards.extract import Extracted, extract_clips
from k710.tables.connection import make_table, run
from k710.tables.schemas import INDEX, MANIFEST, SOURCES, read_sql
from k710.tables.sidecar import open_table
from k710.tables.views import require_views

__all__ = ["export_view"]

OnProgress = Callable[[str, int, int | None], None]  # what, done, total if known
_BATCH_ROWS = 50_000
_FILES = "select clip_id, path, bytes from exported where reason is null order by clip_id"
_LISTED = """
select clip_id, youtube_id, time_start, time_end, label, label_name, path from exported
where reason is null order by youtube_id, time_start, time_end
"""
_ELSEWHERE = "select clip_id, uri from exported where reason = 'elsewhere' order by clip_id"
# Of all copies below the root: so the lists of all views are cut in the same way.
_HAS = """
select count(*) from (
    select substr(uri, length($root) + 1) as path from sources where starts_with(uri, $root)
    union all
    select path from exported where reason is null
) where contains(path, $separator)
"""


@dataclass(frozen=True, slots=True)
class _Job:
    """What was asked for, and the tables it is made of."""

    con: duckdb.DuckDBPyConnection
    asked: Asked
    on_progress: OnProgress


@dataclass(frozen=True, slots=True)
class _Made:
    """What is known of a list before it is written."""

    inputs: dict[str, str]  # table -> hash
    classes: list[str]
    separator: str | None
    has_spaces: bool
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
    shards themselves: `root` is where they are, by default `work`/shards. Labels are those of the
    view's own dataset in the order of `family`, None: that of the trainer's own checkpoints. No
    file is named that is not there. The list and what lies beside it are written, and then take
    their places; about.json does so last.

    StageError where nothing can be listed, a table is missing, the format can't carry a path, or a
    list is beside it that would be read with the same setting and is of another kind.
    """
    refuse_usage(format, root=root, extract=extract, output=output)
    work = Path(work)
    family = family if family is not None else default_family(format)
    folder = os.fspath(root if root is not None else work / "shards")
    asked = Asked(
        view=view,
        format=format,
        family=family,
        root=folder if format == "wids" and "://" in folder else os.path.abspath(folder),
        extract=extract,
        output=Path(output or default_output(work, view, format=format, family=family)),
        work=work,
    )
    refuse_folder(asked.output)
    with duckdb.connect() as con:
        return _exported(_Job(con, asked, on_progress))


def _exported(job: _Job) -> ExportSummary:
    asked = job.asked
    inputs = _open_inputs(job)
    rows, names = _classes(asked)
    _find_clips(job, rows, names)
    separator = _separator(job)
    refuse_unlike(asked, separator)
    extracted = Extracted(0, 0)
    with word_os_errors(asked.output.parent):
        if asked.extract:
            asked.output.parent.mkdir(parents=True, exist_ok=True)  # before an hour of writing
            extracted = extract_clips(
                job.con, asked.work, Path(asked.root), on_progress=job.on_progress
            )
        has_spaces = asked.format != "wids" and _look_at_files(job)
        asked.output.parent.mkdir(parents=True, exist_ok=True)
        return _write(job, _Made(inputs, names, separator, has_spaces, extracted))


# --- which clips


def _open_inputs(job: _Job) -> dict[str, str]:
    """Open the tables that are needed; returns the hash of each."""
    con, work, view = job.con, job.asked.work, job.asked.view
    tables = (MANIFEST, SOURCES, *((INDEX,) if job.asked.from_shards else ()))
    sidecars = {table: open_table(con, work, table) for table in tables}
    if sidecars[SOURCES].inputs.get("manifest") != sidecars[MANIFEST].sha256:
        raise StageError(
            f"sources.parquet in {work} is of another manifest than the one there.\n"
            f"Look for the copies again: k710 index --videos DIR --work {work}"
        )
    require_views(con, work, [view])
    return {table.name: sidecar.sha256 for table, sidecar in sidecars.items()}


def _classes(asked: Asked) -> tuple[list[int], list[str]]:
    """The K710 row and the name of each class, in the order of the family."""
    if asked.dataset == "k710":
        rows = k710_order(asked.family)
        return rows, [class_names()[row] for row in rows]
    dataset = cast(Dataset, asked.dataset)
    rows = head_map(dataset, asked.family)
    return rows, [dataset_spelling(dataset, row) for row in rows]


def _find_clips(job: _Job, rows: list[int], names: list[str]) -> None:
    """Make `exported` on the connection: each clip of the view, and why it isn't listed if not."""
    con, asked = job.con, job.asked
    classes = pa.table({"k710_row": rows, "class": list(range(len(rows))), "name": names})
    con.register("classes", classes)
    values: dict[str, Any] = {"view": asked.view, "needs_label": needs_labels(asked.format)}
    if not asked.from_shards:
        values["root"] = asked.root.rstrip("/") + "/"
    name = "export_shards" if asked.from_shards else "export_copies"
    make_table(con, "exported", read_sql(f"k710/export/{name}.sql"), values)
    run(con, "create temp table in_shards (clip_id varchar)")
    if not asked.from_shards:
        _look_through_links(job)
        with suppress(K710Error):  # nothing but a remark depends on it
            open_table(con, asked.work, INDEX)
            run(con, "insert into in_shards select clip_id from index")
    _refuse_nothing(job)


def _look_through_links(job: _Job) -> None:
    """List those too that are below the root by another path than k710 index took."""
    root = os.path.realpath(job.asked.root)
    below: dict[str, str | None] = {}  # folder -> as it is called below the root
    found: list[tuple[str, str]] = []
    for batch in _batches(job.con, _ELSEWHERE):
        for clip_id, uri in batch:
            folder, name = os.path.split(uri)
            if folder not in below:
                real = os.path.realpath(folder)
                is_below = os.path.commonpath((root, real)) == root
                below[folder] = os.path.relpath(real, root) if is_below else None
            path = below[folder]
            if path is not None:
                found.append((clip_id, os.path.normpath(os.path.join(path, name))))
    if found:
        clip_ids, paths = zip(*found, strict=True)
        job.con.register("linked", pa.table({"clip_id": clip_ids, "path": paths}))
        run(
            job.con,
            "update exported set path = linked.path, reason = null from linked "
            "where exported.clip_id = linked.clip_id",
        )


def _left_out(job: _Job) -> list[LeftOut]:
    rows = run(
        job.con,
        "select reason, count(*), count(in_shards.clip_id) "
        "from exported left join in_shards using (clip_id) "
        "where reason is not null group by reason order by reason",
    )
    return [LeftOut(*row) for row in rows]


def _refuse_nothing(job: _Job) -> None:
    if not run(job.con, "select 1 from exported where reason is null limit 1"):
        raise StageError(nothing_to_list(job.asked, _left_out(job)))


def _batches(con: duckdb.DuckDBPyConnection, sql: str) -> Iterator[list[Any]]:
    """The rows of a query; nothing else may run on `con` until they are at their end."""
    result = con.execute(sql)
    while batch := result.fetchmany(_BATCH_ROWS):
        yield batch


def _separator(job: _Job) -> str | None:
    asked = job.asked
    if asked.from_shards:  # names of shards and clips have none of them
        return separator_of(asked.format, SEPARATORS, asked.root)
    values = {"root": asked.root.rstrip("/") + "/"}
    unused = [
        separator
        for separator in SEPARATORS
        if run(job.con, _HAS, {**values, "separator": separator}) == [(0,)]
    ]
    return separator_of(asked.format, unused, asked.root)


def _look_at_files(job: _Job) -> bool:
    """Leave out the files that are not as they were; returns whether a path has a space.

    StageError where the format can't carry a path.
    """
    asked = job.asked
    changed: list[str] = []
    num_seen, has_spaces = 0, False
    for batch in _batches(job.con, _FILES):
        for clip_id, path, num_bytes in batch:
            whole = os.path.join(asked.root, path)
            if _size_of(whole) != num_bytes:
                changed.append(clip_id)
                continue
            written = whole if asked.format == "videomae" else path
            refuse_path(written, asked.format)
            has_spaces = has_spaces or " " in written
        num_seen += len(batch)
        job.on_progress("looking at files", num_seen, None)
    if changed:
        job.con.register("changed", pa.table({"clip_id": changed}))
        run(job.con, "update exported set reason = 'changed' where clip_id in (from changed)")
        _refuse_nothing(job)
    return has_spaces


def _size_of(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except OSError:
        return None


# --- what is written


def _write(job: _Job, made: _Made) -> ExportSummary:
    """Write the list and what lies beside it, all of it before any takes its place."""
    output, index = job.asked.output, None
    with ExitStack() as stack:  # left in reverse: about.json takes its place last
        about = stack.enter_context(replacing(beside(output, "about.json")))
        listed = stack.enter_context(replacing(output))
        classes = stack.enter_context(replacing(beside(output, "classes.txt")))
        classes.write_text("".join(f"{name}\n" for name in made.classes), encoding="utf-8")
        if job.asked.format == "wids":
            places = stack.enter_context(replacing(places_path(output)))
            index = write_wids_index(job.con, job.asked, listed, places)
        else:
            _write_list(job, made.separator or "", listed)
        summary = _summary(job, made, index)
        about.write_text(_about(summary, made.inputs, sha256_of(listed)), encoding="utf-8")
        # Killed between two of them, there is none: list and names may not belong together then.
        beside(output, "about.json").unlink(missing_ok=True)
    return summary


def _write_list(job: _Job, separator: str, to: Path) -> None:
    rows = (cast(ListRow, row) for batch in _batches(job.con, _LISTED) for row in batch)
    with to.open("w", encoding="utf-8", newline="") as file:
        write_rows(file, rows, format=job.asked.format, root=job.asked.root, separator=separator)


def _summary(job: _Job, made: _Made, index: WidsIndex | None) -> ExportSummary:
    asked = job.asked
    ((num_clips, never_opened),) = run(
        job.con, "select count(*), count_if(never_opened) from exported where reason is null"
    )
    left_out = _left_out(job)
    files = [asked.output, beside(asked.output, "classes.txt"), beside(asked.output, "about.json")]
    if index is not None:
        files.append(places_path(asked.output))
    num_classes = len(made.classes)
    return ExportSummary(
        view=asked.view,
        format=asked.format,
        dataset=asked.dataset,
        family=asked.family,
        num_classes=num_classes,
        clips=num_clips,
        left_out=tuple(left_out),
        root=asked.root,
        separator=made.separator,
        extracted=made.extracted,
        index=index,
        files=tuple(map(str, files)),
        settings=settings_of(
            asked.output,
            format=asked.format,
            root=asked.root,
            separator=made.separator or "",
            num_classes=num_classes,
        ),
        remarks=tuple(
            remarks_of(
                asked,
                left_out,
                num_classes=num_classes,
                never_opened=never_opened,
                has_spaces=made.has_spaces,
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
