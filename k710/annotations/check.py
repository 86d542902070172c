"""Check and label the rows of annotation lists, as Arrow batches; the first bad row ends it."""

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from k710.annotations.find import ListFile, Unread
from k710.annotations.read import TextRows, read_text_rows
from k710.annotations.twins import RowKeys, find_difference
from k710.errors import LabelError, SourceError, shown
from k710.labels.orders import DATASETS, Dataset, resolve_label
from k710.tables.clip_ids import MAX_TIME_S, YOUTUBE_ID
from k710.tables.schemas import ANNOTATIONS

__all__ = ["HOLDOUT", "ListRead", "read_annotations", "rows_schema"]

HOLDOUT = "holdout_test"
_SPLITS = {
    "train": "train",
    "val": "val",
    "validate": "val",
    "validation": "val",
    "test": "test",
    HOLDOUT: "test",  # K600's second test list: a list of its own, and one more test set to protect
}
_ID = f"^{YOUTUBE_ID}$"
_TIME = r"^0*[0-9]{1,6}(\.0+)?$"  # at most MAX_TIME_S

_ARROW_TYPES = {"VARCHAR": pa.string(), "INTEGER": pa.int32(), "SMALLINT": pa.int16()}
rows_schema = pa.schema([(name, _ARROW_TYPES[kind]) for name, kind in ANNOTATIONS.columns.items()])
"""The columns of the batches that `read_annotations` gives: those of annotations.parquet."""


@dataclass(frozen=True, slots=True, order=True)
class ListRead:
    """A list that was found: `name` is train, val, test or holdout_test, `file` a source_file."""

    dataset: str
    name: str
    file: str


def read_annotations(
    files: Sequence[ListFile],
    *,
    found: Counter[ListRead],
    merge_editions: bool = False,
    on_rows: Callable[[int], None] = lambda rows: None,
    on_unread: Callable[[Unread], None] = lambda unread: None,
) -> Iterator[pa.RecordBatch]:
    """Read and check the rows of all files, file by file, as batches of `rows_schema`.

    Counts the rows of each list into `found`, and calls `on_rows` with the rows read so far, and
    `on_unread` for each twin: it has the same rows, or can't be read. SourceError or LabelError at
    the first row that can't be used; SourceError where two files hold the same list, or where twins
    have different rows.
    """
    for file in files:
        keys = RowKeys()
        for batch in _read_file(file, found, merge_editions, on_rows):
            if file.twins:
                keys.note(batch)
            yield batch
        for twin in file.twins:
            try:
                others = RowKeys()
                for batch in _read_file(twin, Counter(), merge_editions):
                    others.note(batch)
            except (SourceError, LabelError) as error:
                why = str(error).splitlines()[0].removeprefix(str(twin.path)).strip(": .")
                reason = f"another form of {file.name} that can't be compared with it ({why})"
            else:
                difference = find_difference(file, keys, twin, others)
                if difference is not None and merge_editions:
                    yield from _read_file(twin, found, merge_editions, on_rows)
                    continue
                if difference is not None:
                    raise SourceError(difference)
                reason = f"another form of {file.name}, with the same rows"
            on_unread(Unread(reason, 1, (twin.name,)))


def _read_file(
    file: ListFile,
    found: Counter[ListRead],
    merge_editions: bool,
    on_rows: Callable[[int], None] = lambda rows: None,
) -> Iterator[pa.RecordBatch]:
    num_rows = 0
    for text in read_text_rows(file):
        batch = _check(file, text)
        for name, count in _list_names(text).items():
            read = ListRead(file.dataset, name, file.name)
            if read not in found and not merge_editions:
                _refuse_second_edition(file, read, found)
            found[read] += count
        num_rows += batch.num_rows
        yield batch
        on_rows(found.total())
    if not num_rows:
        raise SourceError(
            f"{file.path} has no row under its header.\nDownload it again, or take it away."
        )


def _refuse_second_edition(file: ListFile, read: ListRead, found: Counter[ListRead]) -> None:
    for other in found:
        if (other.dataset, other.name) == (read.dataset, read.name) and other.file != read.file:
            raise SourceError(
                f"{file.path} and {file.beside(other.file)} both hold rows of "
                f"{read.dataset}/{read.name}: two editions of one list.\n"
                "Move one of them away, or take both with --merge-editions."
            )


def _check(file: ListFile, text: TextRows) -> pa.RecordBatch:
    raw = text.columns

    def require(ok: Any, words: Callable[[dict[str, str]], str]) -> None:
        bad = pc.index(ok, False).as_py()
        if bad >= 0:
            row = {name: column[bad].as_py() for name, column in raw.items()}
            raise SourceError(f"{file.at(int(text.lines[bad]))}: {words(row)}")

    spelling = pc.dictionary_encode(raw["split"])
    splits = pa.array([_SPLITS.get(name) for name in spelling.dictionary.to_pylist()], pa.string())
    split = pc.take(splits, spelling.indices)
    require(pc.is_valid(split), _split_words)
    require(pc.match_substring_regex(raw["youtube_id"], _ID), _id_words)
    for name in ("time_start", "time_end"):
        require(pc.match_substring_regex(raw[name], _TIME), functools.partial(_time_words, name))
    start, end = _seconds(raw["time_start"]), _seconds(raw["time_end"])
    require(pc.less(start, end), _window_words)

    label = pc.dictionary_encode(raw["label"])
    names = pa.array([n if n.strip() else None for n in label.dictionary.to_pylist()], pa.string())
    label_raw = pc.take(names, label.indices)
    require(pc.or_(pc.is_valid(label_raw), pc.equal(split, "test")), _blank_words)
    rows = pa.array(_k710_rows(file, text, label), pa.int16())
    size = len(text.lines)
    columns = [
        pa.repeat(file.dataset, size),
        split,
        raw["youtube_id"],
        start,
        end,
        label_raw,
        pc.take(rows, label.indices),
        pa.repeat(file.name, size),
        pa.array(text.lines),
    ]
    return pa.record_batch(columns, schema=rows_schema)


def _list_names(text: TextRows) -> dict[str, int]:
    names: Counter[str] = Counter()
    for count in pc.value_counts(text.columns["split"]).to_pylist():
        spelling = count["values"]
        names[spelling if spelling == HOLDOUT else _SPLITS[spelling]] += count["counts"]
    return names


def _k710_rows(file: ListFile, text: TextRows, label: Any) -> list[int | None]:
    """The K710 row of each distinct name, null for a blank one."""
    names = label.dictionary.to_pylist()
    rows: list[int | None] = []
    for place, name in enumerate(names):
        try:
            rows.append(_resolve(name, file.dataset) if name.strip() else None)
        except LabelError as error:
            line = int(text.lines[pc.index(label.indices, place).as_py()])
            hint = _other_dataset([name for name in names if name.strip()], file)
            raise LabelError(f"{file.at(line)}: {error}\n{hint}") from error
    return rows


def _other_dataset(names: list[str], file: ListFile) -> str:
    for dataset in DATASETS:
        try:
            for name in names:
                _resolve(name, dataset)
        except LabelError:
            continue
        return (
            f"All {len(names)} names read here are classes of {dataset}: this looks like a list of "
            f"{dataset}, and its path says {file.dataset}. Rename the file or its folder."
        )
    return "Mend the name, or take the file away if it is a list of something else."


@functools.cache
def _resolve(name: str, dataset: Dataset) -> int:
    return resolve_label(name, dataset=dataset)


def _seconds(times: Any) -> Any:
    if pc.any(pc.match_substring(times, ".")).as_py():
        times = pc.replace_substring_regex(times, r"\.0+$", "")
    return times.cast(pa.int32())


# --- what is wrong with a row


def _split_words(row: dict[str, str]) -> str:
    return (
        f"{shown(row['split'])} is no split: published lists have {', '.join(_SPLITS)}.\n"
        "Mend the line, or download the list again."
    )


def _id_words(row: dict[str, str]) -> str:
    youtube_id = row["youtube_id"]
    text = f"{shown(youtube_id)} is no YouTube id: those have 11 characters of A-Z a-z 0-9 _ -.\n"
    if "/" in youtube_id or ":" in youtube_id:
        return text + "Put the id alone there, without the address around it."
    if len(youtube_id) == 10:
        return text + "Has a program taken away a leading -? Download the list again."
    return text + "Mend the line, or download the list again."


def _time_words(name: str, row: dict[str, str]) -> str:
    return (
        f"{name} {shown(row[name])} is no whole number of seconds from 0 to {MAX_TIME_S}.\n"
        "Mend the line, or download the list again."
    )


def _window_words(row: dict[str, str]) -> str:
    return (
        f"time_end ({row['time_end']}) must be greater than time_start ({row['time_start']}).\n"
        "Mend the line, or download the list again."
    )


def _blank_words(row: dict[str, str]) -> str:
    return (
        f"the label is blank in a row of {shown(row['split'])}: only test lists may leave it out.\n"
        "Mend the line, or download the list with its labels."
    )
