"""Read the rows of one annotation list as text, with their place in the file.

Reads the formats in which Kinetics lists are published: CSV (plain or .gz, parted by commas, tabs
or semicolons, whatever its ending) and DeepMind's JSON.
Rows come in batches, in file order. Nothing that they say is believed yet: check.py checks it.
"""

import io
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from k710.annotations.content import (
    COLUMNS,
    HEAD_BYTES,
    OFFICIAL,
    Header,
    open_list,
    parse_header,
    refuse_bomb,
)
from k710.annotations.find import ListFile, unreadable
from k710.errors import SourceError, printable, shown

__all__ = ["TextRows", "read_text_rows"]

_BLOCK_BYTES = 4 << 20
_ENTRY_BYTES = 1 << 20  # far more than an entry of the JSON has
_ENTRIES_PER_BATCH = 20_000
_DECODER = json.JSONDecoder()
_RAGGED = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+): (.*)", re.DOTALL)  # Arrow's


@dataclass(frozen=True, slots=True)
class TextRows:
    """Some rows of one file: a string array for each of COLUMNS, and each row's line."""

    columns: dict[str, Any]
    lines: npt.NDArray[np.int32]


def read_text_rows(file: ListFile) -> Iterator[TextRows]:
    """Read the rows of one file in file order, in batches. Blank lines are passed over.

    A CSV without labels has empty ones. SourceError names file and line of what is no list: a
    missing column, a ragged row, a wrong encoding, a web page, an archive that ends too early.
    """
    try:
        if file.is_gzip:
            refuse_bomb(file.path)
        head = _head(file)
        yield from _json_rows(file) if file.is_json else _csv_rows(file, _header(file, head))
    except UnicodeDecodeError as error:
        raise _not_utf8(file) from error
    except (EOFError, zlib.error) as error:
        raise _cut_off(file) from error
    except OSError as error:  # BadGzipFile is one, and Arrow's errors on compressed streams are
        if file.is_gzip and error.errno is None:
            raise _cut_off(file) from error
        raise unreadable(file.path, error) from error


def _head(file: ListFile) -> str:
    with _open(file) as stream:
        head: bytes = stream.read(HEAD_BYTES)
    if not head.strip():
        raise SourceError(f"{file.path} is empty.\nDownload it again, or take it away.")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise SourceError(
            f"{file.path}:1: this is UTF-16 text.\nSave the list as UTF-8, or download it again."
        )
    if b"\x00" in head:
        raise _not_utf8(file)
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        raise SourceError(
            f"{file.at(1)}: this is a web page, no list: {shown(head.decode('utf-8', 'replace'))}\n"
            "The server answered with a page when it was downloaded. Download it again."
        )
    return head.decode("utf-8-sig", "replace")


def _open(file: ListFile) -> Any:
    return open_list(file.path, is_gzip=file.is_gzip)


def _header(file: ListFile, head: str) -> Header:
    first_line = head.splitlines()[0]
    header = parse_header(first_line)
    missing = [name for name in COLUMNS if name not in header.names and name != "label"]
    if missing:
        raise SourceError(
            f"{file.at(1)}: there is no column {' and no '.join(missing)} in {shown(first_line)}.\n"
            f"{OFFICIAL} Download it again, or move the file away if it is no list."
        )
    twice = [name for name in COLUMNS if header.names.count(name) > 1]
    if twice:
        raise SourceError(f"{file.at(1)}: the header has the column {twice[0]} twice.\nRemove one.")
    return header


# --- CSV


def _csv_rows(file: ListFile, header: Header) -> Iterator[TextRows]:
    line = 1
    with pa.input_stream(str(file.path), compression="gzip" if file.is_gzip else None) as stream:
        try:
            for batch in _arrow_batches(stream, header):
                lines = np.arange(line, line + batch.num_rows, dtype=np.int32)
                is_first, line = line == 1, line + batch.num_rows
                if is_first:
                    batch, lines = batch.slice(1), lines[1:]
                yield from _without_blank_lines(file, header, batch, lines)
        except pa.ArrowInvalid as error:
            raise _bad_csv(file, line, str(error)) from error


def _arrow_batches(stream: Any, header: Header) -> Iterator[Any]:
    # Not by their own names: two columns that aren't used may have the same one. And the header is
    # read as a row: a file of nothing else may lack its line end.
    columns = [str(place) for place in range(len(header.names))]
    with arrow_csv.open_csv(
        stream,
        # Threads would lose the line numbers of ragged rows.
        read_options=arrow_csv.ReadOptions(
            block_size=_BLOCK_BYTES, use_threads=False, column_names=columns
        ),
        # An empty line counts as a row, or else the line numbers after it would be wrong.
        parse_options=arrow_csv.ParseOptions(delimiter=header.delimiter, ignore_empty_lines=False),
        convert_options=arrow_csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string())),
    ) as reader:
        yield from reader


def _without_blank_lines(
    file: ListFile, header: Header, batch: Any, lines: npt.NDArray[np.int32]
) -> Iterator[TextRows]:
    for name, column in zip(header.names, batch.columns, strict=True):
        # A quote that is never closed would swallow the lines after it.
        broken = pc.index(pc.match_substring(column, "\n"), True).as_py()
        if broken >= 0:
            raise SourceError(
                f"{file.at(int(lines[broken]))}: a quoted value of {printable(name)} runs past "
                f"its line: {shown(column[broken])}.\nClose the quote."
            )
    empty = pa.repeat(pa.scalar(""), batch.num_rows)
    columns = {
        name: batch.column(header.names.index(name)) if name in header.names else empty
        for name in COLUMNS
    }
    if header.has_spaces:
        columns = {name: pc.ascii_trim_whitespace(column) for name, column in columns.items()}
    if pc.index(columns["split"], "").as_py() >= 0:
        filled = np.zeros(batch.num_rows, dtype=bool)
        for column in columns.values():
            filled |= pc.not_equal(column, "").to_numpy(zero_copy_only=False)
        columns = {name: column.filter(pa.array(filled)) for name, column in columns.items()}
        lines = lines[filled]
    if len(lines):
        yield TextRows(columns, lines)


# --- JSON: {<id>: {"annotations": {"label": ..., "segment": [start, end]}, "subset": ...}, ...}


def _json_rows(file: ListFile) -> Iterator[TextRows]:
    rows: list[tuple[str, str, str, str, str]] = []
    entry = 0
    for entry, (youtube_id, value) in enumerate(_json_entries(file), start=1):
        rows.append(_row_of_entry(file, entry, youtube_id, value))
        if len(rows) == _ENTRIES_PER_BATCH:
            yield _text_rows(rows, entry)
            rows = []
    if rows:
        yield _text_rows(rows, entry)


def _text_rows(rows: list[tuple[str, str, str, str, str]], last: int) -> TextRows:
    columns = {
        name: pa.array(values, pa.string())
        for name, values in zip(COLUMNS, zip(*rows, strict=True), strict=True)
    }
    return TextRows(columns, np.arange(last - len(rows) + 1, last + 1, dtype=np.int32))


def _row_of_entry(
    file: ListFile, entry: int, youtube_id: str, value: Any
) -> tuple[str, str, str, str, str]:
    try:
        annotation = value.get("annotations") or {}
        start, end = annotation["segment"]
        label = annotation.get("label")
        label = "" if label is None else label
        row = (label, youtube_id, str(start), str(end), value["subset"])
        if isinstance(annotation["segment"], list) and {type(start), type(end)} <= {int, float}:
            "".join(row).encode()  # all of them text, and text that can be written
            return row
    except (AttributeError, KeyError, TypeError, ValueError):
        pass
    raise SourceError(
        f"{file.at(entry)}: {shown(youtube_id)} lacks its annotations, segment or subset: "
        f"{shown(value)}.\nThis is no list as DeepMind publishes them. Download it again."
    )


def _json_entries(file: ListFile) -> Iterator[tuple[str, Any]]:
    """Key and value of each entry of the file's one object, twice the same key included.

    Entry by entry, because a whole list of K700 as Python objects would take a gigabyte.
    """
    with io.TextIOWrapper(_open(file), encoding="utf-8-sig") as stream:
        text = stream.read(_ENTRY_BYTES).lstrip()
        if not text.startswith("{"):
            raise SourceError(
                f"{file.at(1)}: this JSON is no object of entries by YouTube id: {shown(text)}.\n"
                "Download the list again, or move the file away if it is no list."
            )
        place, entry, open_ = 1, 0, text[1:].lstrip()[:1] != "}"
        while open_:
            try:
                key, value, place, open_ = _next_entry(text, place)
            except (IndexError, ValueError, RecursionError) as error:
                more = stream.read(_ENTRY_BYTES)
                text, place = text[place:] + more, 0
                if not more or len(text) > 4 * _ENTRY_BYTES:
                    raise SourceError(
                        f"{file.at(entry + 1)}: broken JSON.\nDownload the list again."
                    ) from error
            else:
                entry += 1
                yield key, value
        rest = text[place:] if entry else text[1:].lstrip()[1:]
        if rest.strip() or any(
            more.strip() for more in iter(lambda: stream.read(_ENTRY_BYTES), "")
        ):
            raise SourceError(
                f"{file.path} goes on after its last entry, {entry}.\nDownload the list again."
            )


def _next_entry(text: str, place: int) -> tuple[str, Any, int, bool]:
    """The entry at `place`: key, value, where the next one begins, and whether there is one.

    IndexError or ValueError where it isn't whole.
    """
    place = _skip_space(text, place)
    if text[place] != '"':
        raise ValueError("no key")
    key, place = _DECODER.raw_decode(text, place)
    place = _skip_space(text, place)
    if text[place] != ":":
        raise ValueError("no colon")
    value, place = _DECODER.raw_decode(text, _skip_space(text, place + 1))
    place = _skip_space(text, place)
    if text[place] not in ",}":
        raise ValueError("no comma")
    return key, value, place + 1, text[place] == ","


def _skip_space(text: str, place: int) -> int:
    while text[place] in " \t\r\n":
        place += 1
    return place


# --- errors


def _bad_csv(file: ListFile, line: int, why: str) -> SourceError:
    """The error for what Arrow could not read; `line` is the next one that it would have given."""
    if "UTF8" in why:
        return _not_utf8(file)
    ragged = _RAGGED.search(why)
    if ragged:
        number, expected, actual, text = ragged.groups()
        return SourceError(
            f"{file.at(int(number))}: {actual} values under a header of {expected} columns: "
            f"{shown(text)}.\nMend the line, or download the list again."
        )
    return SourceError(
        f"{file.at(_long_line(file) or line)}: from here on it can't be read as CSV "
        f"({printable(why)}).\nMend the line, or download the list again."
    )


def _long_line(file: ListFile) -> int | None:
    """The number of the first line that is longer than any block of a list."""
    return next((n for n, part in _line_parts(file) if len(part) == _BLOCK_BYTES), None)


def _line_parts(file: ListFile) -> Iterator[tuple[int, bytes]]:
    """Yield each line with its number; what is longer than a block, in parts."""
    number, is_new = 0, True
    with _open(file) as stream:
        while part := stream.readline(_BLOCK_BYTES):
            number += is_new
            is_new = part.endswith(b"\n")
            yield number, part


def _not_utf8(file: ListFile) -> SourceError:
    line = next((number for number, part in _line_parts(file) if not _is_text(part)), 1)
    return SourceError(
        f"{file.path}:{line}: this is not UTF-8 text.\n"
        "Save the list as UTF-8, or download it again: the published ones are plain ASCII."
    )


def _is_text(content: bytes) -> bool:
    try:
        return "\x00" not in content.decode("utf-8")
    except UnicodeDecodeError:
        return False


def _cut_off(file: ListFile) -> SourceError:
    return SourceError(
        f"{file.path} ends too early, or is damaged: it can't be unpacked to its end.\n"
        "Download it again."
    )
