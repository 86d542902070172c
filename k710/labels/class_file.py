"""Which label order is a class file in, and which of its rows are wrong?

Such files travel without saying so: `label_map_k400.txt` is alphabetical in one project and in the
checkpoint's own order in the next, and a head read in the wrong one scores at chance.
"""

import csv
import itertools
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from k710.errors import LabelError, SourceError, printable, shown
from k710.labels.orders import (
    DATASETS,
    FAMILIES,
    class_rows,
    dataset_spelling,
    resolve_label,
)
from k710.labels.video_lines import is_video_line

__all__ = ["ClassFileCheck", "WrongRow", "check_class_file", "known_classes_in", "read_class_file"]

_SAMPLE = 65_536  # characters


@dataclass(frozen=True, slots=True)
class WrongRow:
    """A row of a class file that does not name the class of its place."""

    index: int  # from 0
    found: str | None  # None: the file ends before it
    expected: str | None  # None: the order ends before it
    note: str  # what `found` is instead


@dataclass(frozen=True, slots=True)
class ClassFileCheck:
    """The order that a class file comes nearest to, and how it differs from that."""

    dataset: str  # k400, k600, k700 or k710
    family: str  # opengvlab or alphabetical
    num_rows: int
    wrong: tuple[WrongRow, ...]  # by index; empty: the file is in that order
    num_aliases: int  # rows with another name for the right class: no fault


@dataclass(frozen=True, slots=True)
class _Order:
    dataset: str
    family: str
    rows: list[int]
    names: list[str]


def check_class_file(path: str | os.PathLike[str]) -> ClassFileCheck:
    """Compare a class file with each known order and report on the nearest one.

    Reads a name a line, `index,name` tables (CSV, either order of columns, with or without header),
    and JSON lists or objects of names and indices. SourceError where that can't be read.
    """
    found = read_class_file(Path(path))
    rows = [_row_of(name) for name in found]

    def num_right(order: _Order) -> int:
        return sum(a == b for a, b in zip(rows, order.rows, strict=False))

    order = min(_orders(), key=lambda o: max(len(rows), len(o.rows)) - num_right(o))
    wrong = [
        WrongRow(index, name, expected, _note(order, name))
        for index, (name, expected) in enumerate(itertools.zip_longest(found, order.names))
        if name is None or expected is None or rows[index] != order.rows[index]
    ]
    aliases = sum(
        row == right and _letters(name) != _letters(expected)
        for name, row, expected, right in zip(found, rows, order.names, order.rows, strict=False)
    )
    return ClassFileCheck(order.dataset, order.family, len(found), tuple(wrong), aliases)


def known_classes_in(path: Path) -> list[str]:
    """The names in a class file, each that of a class. LabelError names the first that isn't."""
    names = read_class_file(path)
    for number, name in enumerate(names, start=1):
        try:
            resolve_label(name)
        except LabelError as error:
            raise LabelError(f"{path}, name {number}: {error}") from error
    return names


def read_class_file(path: Path) -> list[str]:
    """The names of a class file in the order of their indices."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SourceError(f"{path} can't be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} is not UTF-8 text: no class file.") from error
    is_json = path.suffix.lower() == ".json"
    _refuse_videos(path, text, is_json=is_json)
    names = _names_in_json(path, text) if is_json else _names_in_text(path, text)
    if not names:
        raise SourceError(f"{path} names no class.\nA class file has one name a line, in order.")
    return names


def _refuse_videos(path: Path, text: str, *, is_json: bool) -> None:
    # Of a JSON the keys and values are not looked at: one line may hold it all.
    lines = [line for line in text[:_SAMPLE].splitlines() if line.strip()][:20]
    if lines and not is_json and all(map(is_video_line, lines)):
        raise SourceError(
            f"{path} is a list of videos, as trainers read it ({shown(lines[0])}), and no class "
            "file.\nGive the file that names its classes in order: the numbers alone don't tell it."
        )


def _names_in_json(path: Path, text: str) -> list[str]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path} is broken JSON: {printable(str(error))}.") from error
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return value
    pairs: list[tuple[Any, Any]] = list(value.items()) if isinstance(value, dict) else []
    if pairs and all(isinstance(index, int) for _, index in pairs):
        return _put_in_order(path, [(index, name) for name, index in pairs])
    if pairs and all(_is_index(key) and isinstance(name, str) for key, name in pairs):
        return _put_in_order(path, [(int(key), name) for key, name in pairs])
    raise SourceError(
        f"{path}: this JSON is neither a list of names nor an object of names and indices."
    )


def _names_in_text(path: Path, text: str) -> list[str]:
    numbered_lines = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
    lines = [line for _, line in numbered_lines]
    if path.suffix.lower() in (".csv", ".tsv"):
        dialect = "excel-tab" if path.suffix.lower() == ".tsv" else "excel"
        reader = csv.reader(lines, dialect)
        try:
            cells = [[cell.strip() for cell in row] for row in reader]
        except csv.Error as error:
            raise SourceError(
                f"{path}:{numbered_lines[reader.line_num - 1][0]}: this can't be read as CSV: "
                f"{printable(str(error))}.\n"
                "A class file has one name a line, in order."
            ) from error
    else:
        cells = [line.strip().split(maxsplit=1) for line in lines]
    for index_at, name_at in ((0, 1), (-1, 0)):
        numbered = [row for row in cells if len(row) >= 2 and _is_index(row[index_at])]
        # A header is the one row without a number.
        if numbered and len(numbered) >= len(cells) - 1 and numbered == cells[-len(numbered) :]:
            return _put_in_order(path, [(int(row[index_at]), row[name_at]) for row in numbered])
    trailing = [line.strip().rsplit(maxsplit=1) for line in lines]
    if all(len(row) == 2 and _is_index(row[1]) for row in trailing):
        return _put_in_order(path, [(int(index), name) for name, index in trailing])
    return [line.strip().strip('"') for line in lines]


def _is_index(text: str) -> bool:
    return text.isdecimal() and len(text) < 10  # Python's int refuses thousands of digits


def _put_in_order(path: Path, pairs: list[tuple[int, str]]) -> list[str]:
    pairs = sorted(pairs)
    for place, (index, name) in enumerate(pairs):
        if index != place:
            raise SourceError(
                f"{path}: the indices should run from 0 to {len(pairs) - 1} once each; "
                f"{place} is missing, or {shown(name)} has an index twice."
            )
    return [name for _, name in pairs]


def _row_of(name: str) -> int | None:
    try:
        return resolve_label(name)
    except LabelError:
        return None


def _orders() -> list[_Order]:
    orders = []
    for family in FAMILIES:
        for dataset in (*DATASETS, "k710"):
            rows = class_rows(dataset, family)
            names = [dataset_spelling(dataset, row) for row in rows]
            orders.append(_Order(dataset, family, rows, names))
    return orders


def _note(order: _Order, name: str | None) -> str:
    if name is None:
        return "missing"
    row = _row_of(name)
    if row is None:
        return "no Kinetics class"
    return f"belongs at {order.rows.index(row)}" if row in order.rows else "no class of this order"


def _letters(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalpha())
