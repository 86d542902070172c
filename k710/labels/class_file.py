"""Which label order is a class file in, and which of its rows are wrong?

Such files travel without saying so: `label_map_k400.txt` is alphabetical in one project and in the
checkpoint's own order in the next, and a head read in the wrong one scores at chance.
"""

import itertools
import os
from dataclasses import dataclass
from pathlib import Path

from k710.errors import LabelError, SourceError, shown
from k710.labels.class_file_forms import read_class_file
from k710.labels.orders import (
    DATASETS,
    FAMILIES,
    class_rows,
    dataset_spelling,
    find_row,
    resolve_label,
)

__all__ = ["ClassFileCheck", "WrongRow", "check_class_file", "known_classes_in"]


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
    first: int | None = None  # the number of the first row, 0 or 1; None: rows have no numbers


@dataclass(frozen=True, slots=True)
class _Order:
    dataset: str
    family: str
    rows: list[int]
    names: list[str]


def check_class_file(path: str | os.PathLike[str]) -> ClassFileCheck:
    """Compare a class file with each known order and report on the nearest one.

    Reads the forms of `class_file_forms`. SourceError where a file is in none of them, or its names
    are not those of Kinetics.
    """
    read = read_class_file(Path(path))
    found = read.names
    rows = [find_row(name) for name in found]
    _check_sense(Path(path), found, rows)

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
    return ClassFileCheck(
        order.dataset, order.family, len(found), tuple(wrong), aliases, read.first
    )


def _check_sense(path: Path, names: list[str], rows: list[int | None]) -> None:
    """SourceError where most names are none, or the same ones: that was no list of classes."""
    unknown = [name for name, row in zip(names, rows, strict=True) if row is None]
    if 2 * len(unknown) > len(names):
        raise SourceError(
            f"{path} reads as {len(names):,} names, and {len(unknown):,} of them are no class of "
            f"Kinetics, like {shown(unknown[0])}.\nIt is a class file of another dataset, or in a "
            "form that k710 does not know: a name a line is the plainest."
        )
    if 2 * len(set(rows)) <= len(rows):
        raise SourceError(
            f"{path} reads as {len(rows):,} names of {len(set(rows)):,} classes: a list of clips, "
            "and no class file."
        )


def known_classes_in(path: Path) -> list[str]:
    """The names in a class file, each that of a class. LabelError names the first that isn't."""
    names = read_class_file(path).names
    for number, name in enumerate(names, start=1):
        try:
            resolve_label(name)
        except LabelError as error:
            raise LabelError(f"{path}, name {number}: {error}") from error
    return names


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
    row = find_row(name)
    if row is None:
        return "no Kinetics class"
    return f"belongs at {order.rows.index(row)}" if row in order.rows else "no class of this order"


def _letters(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalpha())
