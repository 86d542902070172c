"""A view as lists and indexes that other trainers read, in the class order of either family.

Beside the list lie the names of its classes in their order, <list>.classes.txt, and a JSON that
says of what it was made, <list>.about.json, written last: the formats have no place for either.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import duckdb
import pyarrow as pa

from k710.errors import StageError, shown
from k710.export_summary import ExportSummary, LeftOut, nothing_to_list, remarks_of
from k710.extract import Extracted, extract_clips
from k710.files import replacing, sha256_of, word_os_errors, write_json
from k710.labels import (
    Dataset,
    Family,
    class_names,
    dataset_spelling,
    head_map,
    k710_order,
    labels_sha256,
)
from k710.tables import open_table, read_sql
from k710.trainers import (
    SEPARATORS,
    Format,
    ListRow,
    default_output,
    needs_labels,
    refuse_path,
    refuse_usage,
    separator_of,
    settings_of,
    write_rows,
)
from k710.wids_index import WidsIndex, places_path, write_wids_index

__all__ = ["export_view"]

OnProgress = Callable[[str, int, int | None], None]  # what, done, total if known
_BATCH_ROWS = 50_000
_FILES = "select clip_id, path, bytes from exported where reason is null order by clip_id"
_LISTED = """
select clip_id, youtube_id, time_start, time_end, label, label_name, path from exported
where reason is null order by youtube_id, time_start, time_end
"""


@dataclass(frozen=True, slots=True)
class _Job:
    """What was asked for."""

    con: Any
    work: Path
    view: str
    format: Format
    family: Family
    root: str
    output: Path
    extract: bool
    on_progress: OnProgress

    @property
    def dataset(self) -> str:
        return self.view.partition("/")[0]

    @property
    def from_shards(self) -> bool:
        return self.extract or self.format == "wids"

    def beside(self, what: str) -> Path:
        return self.output.with_name(f"{self.output.name}.{what}")


def export_view(
    view: str,
    *,
    format: Format,
    root: str | os.PathLike[str] | None = None,
    family: Family = "opengvlab",
    extract: bool = False,
    output: str | os.PathLike[str] | None = None,
    work: str | os.PathLike[str] = "work",
    on_progress: OnProgress = lambda what, done, total: None,
) -> ExportSummary:
    """Write the list of a view as the trainer `format` wants it; returns what it holds and lacks.

    It names the trimmed files of the view below `root`, as k710 index found them; with `extract`
    the clips of the shards, which are written to `root` where they aren't there. `wids` lists the
    shards themselves: `root` is where they are, by default `work`/shards. Labels are those of the
    view's own dataset in the order of `family`. No file is named that is not there. StageError
    where nothing can be listed, a table is missing, or the format can't carry a path.
    """
    refuse_usage(format, root=root, extract=extract, output=output)
    work = Path(work)
    folder = os.fspath(root if root is not None else work / "shards")
    with duckdb.connect() as con:
        job = _Job(
            con=con,
            work=work,
            view=view,
            format=format,
            family=family,
            root=folder if format == "wids" and "://" in folder else os.path.abspath(folder),
            output=Path(output or default_output(work, view, format=format, family=family)),
            extract=extract,
            on_progress=on_progress,
        )
        return _exported(job)


def _exported(job: _Job) -> ExportSummary:
    inputs = _open_inputs(job)
    rows, names = _classes(job)
    _find_clips(job, rows, names)
    extracted, index = Extracted(0, 0), None
    if job.extract:
        extracted = extract_clips(job.con, job.work, Path(job.root), on_progress=job.on_progress)
    unused = set(SEPARATORS) if job.format == "wids" else _look_at_files(job)
    separator = separator_of(job.format, unused, job.root)
    with word_os_errors(job.output.parent):
        job.output.parent.mkdir(parents=True, exist_ok=True)
        job.beside("about.json").unlink(missing_ok=True)
        with replacing(job.beside("classes.txt")) as partial:
            partial.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        if job.format == "wids":
            index = write_wids_index(job.con, job.work, job.output, view=job.view, root=job.root)
        else:
            _write_list(job, separator or "")
        summary = _summary(
            job,
            len(names),
            extracted=extracted,
            index=index,
            separator=separator,
            has_spaces=" " not in unused,
        )
        _write_about(job, summary, inputs)
    return summary


# --- which clips


def _open_inputs(job: _Job) -> dict[str, str]:
    """Open the tables that are needed; returns the hash of each."""
    names = ("manifest", "sources", *(("index",) if job.from_shards else ()))
    sidecars = {name: open_table(job.con, job.work, name) for name in names}
    if sidecars["sources"].inputs.get("manifest") != sidecars["manifest"].sha256:
        raise StageError(
            f"sources.parquet in {job.work} is of another manifest than the one there.\n"
            f"Look for the copies again: k710 index --videos DIR --work {job.work}"
        )
    views = job.con.execute("select distinct view from manifest order by view").fetchall()
    if (job.view,) not in views:
        raise StageError(
            f"There is no view {shown(job.view)} in {job.work}.\n"
            f"There are {', '.join(row[0] for row in views)}."
        )
    return {name: sidecar.sha256 for name, sidecar in sidecars.items()}


def _classes(job: _Job) -> tuple[list[int], list[str]]:
    """The K710 row and the name of each class, in the order of the family."""
    if job.dataset == "k710":
        rows = k710_order(job.family)
        return rows, [class_names()[row] for row in rows]
    dataset = cast(Dataset, job.dataset)
    rows = head_map(dataset, job.family)
    return rows, [dataset_spelling(dataset, row) for row in rows]


def _find_clips(job: _Job, rows: list[int], names: list[str]) -> None:
    """Make `exported` on the connection: each clip of the view, and why it isn't listed if not."""
    classes = pa.table({"k710_row": rows, "class": list(range(len(rows))), "name": names})
    job.con.register("classes", classes)
    values: dict[str, Any] = {"view": job.view, "needs_label": needs_labels(job.format)}
    if not job.from_shards:
        values["root"] = job.root.rstrip("/") + "/"
    sql = read_sql("export_shards" if job.from_shards else "export_copies")
    job.con.execute(f"create temp table exported as\n{sql}", values).fetchall()
    _refuse_nothing(job)


def _left_out(job: _Job) -> list[LeftOut]:
    rows = job.con.execute(
        "select reason, count(*) from exported where reason is not null "
        "group by reason order by reason"
    ).fetchall()
    return [LeftOut(*row) for row in rows]


def _refuse_nothing(job: _Job) -> None:
    if not job.con.execute("select 1 from exported where reason is null limit 1").fetchall():
        raise StageError(nothing_to_list(job.view, job.format, _left_out(job)))


def _batches(con: Any, sql: str) -> Iterator[list[Any]]:
    """The rows of a query; nothing else may run on `con` until they are at their end."""
    result = con.execute(sql)
    while batch := result.fetchmany(_BATCH_ROWS):
        yield batch


def _look_at_files(job: _Job) -> set[str]:
    """Leave out the files that are not as they were; returns the separators that no path has.

    StageError where the format can't carry a path.
    """
    unused = set(SEPARATORS)
    changed: list[str] = []
    num_seen = 0
    for batch in _batches(job.con, _FILES):
        for clip_id, path, num_bytes in batch:
            whole = os.path.join(job.root, path)
            if _size_of(whole) != num_bytes:
                changed.append(clip_id)
                continue
            written = whole if job.format == "videomae" else path
            refuse_path(written, job.format)
            unused = {separator for separator in unused if separator not in written}
        num_seen += len(batch)
        job.on_progress("looking at files", num_seen, None)
    if changed:
        job.con.register("changed", pa.table({"clip_id": changed}))
        job.con.execute(
            "update exported set reason = 'changed' where clip_id in (from changed)"
        ).fetchall()
        _refuse_nothing(job)
    return unused


def _size_of(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except OSError:
        return None


# --- what is written


def _write_list(job: _Job, separator: str) -> None:
    rows = (cast(ListRow, row) for batch in _batches(job.con, _LISTED) for row in batch)
    with (
        replacing(job.output) as partial,
        partial.open("w", encoding="utf-8", newline="") as file,
    ):
        write_rows(file, rows, format=job.format, root=job.root, separator=separator)


def _summary(
    job: _Job,
    num_classes: int,
    *,
    extracted: Extracted,
    index: WidsIndex | None,
    separator: str | None,
    has_spaces: bool,
) -> ExportSummary:
    ((num_clips, never_opened),) = job.con.execute(
        "select count(*), count_if(never_opened) from exported where reason is null"
    ).fetchall()
    left_out = _left_out(job)
    files = [job.output, job.beside("classes.txt"), job.beside("about.json")]
    if index is not None:
        files.append(places_path(job.output))
    return ExportSummary(
        view=job.view,
        format=job.format,
        dataset=job.dataset,
        family=job.family,
        num_classes=num_classes,
        clips=num_clips,
        left_out=tuple(left_out),
        root=job.root,
        separator=separator,
        extracted=extracted,
        index=index,
        files=tuple(map(str, files)),
        settings=settings_of(
            job.output,
            format=job.format,
            root=job.root,
            separator=separator or "",
            num_classes=num_classes,
        ),
        remarks=tuple(
            remarks_of(
                job.view,
                left_out,
                format=job.format,
                family=job.family,
                num_classes=num_classes,
                never_opened=never_opened,
                has_spaces=has_spaces,
            )
        ),
    )


def _write_about(job: _Job, summary: ExportSummary, inputs: dict[str, str]) -> None:
    """Say beside the list of what it was made. Same inputs, same bytes."""
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
        "sha256": sha256_of(job.output),
        "inputs": inputs,
        "k710": metadata.version("k710"),
    }
    write_json(job.beside("about.json"), about)
