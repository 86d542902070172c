"""The names of a class file, in whichever of the usual forms it is.

    text     a name a line; with a number before or after it; tables with a comma, tab, semicolon
             or bar between their columns, with or without a header; lists of YAML
    JSON     a list of names, of pairs, of objects; name to number, number to name; in the middle of
             other things (id2label of Hugging Face)
    Python   the same as literals, alone or assigned; nothing is run
    pbtxt    item { name: "abseiling" id: 1 }

What is in a file decides, and not how it is called. Of several ways to read a text, the one counts
that finds the most names of Kinetics.
"""

import ast
import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from k710.errors import SourceError, printable, shown
from k710.labels.orders import find_row
from k710.labels.video_lines import is_video_line

__all__ = ["ClassNames", "read_class_file"]

_MOST_BYTES = 1 << 20  # those of 710 classes have some 20 kB
_MOST_NAMES = 5000
_MOST_DEEP = 8
_MOST_DIGITS = 9
_FORMS = (
    "A class file has a name a line, in order; or pairs of a name and its number, as a table, "
    "JSON, Python or pbtxt."
)
_HEADERS = {
    *("name", "names", "label", "labels", "class", "classes", "class_name", "classname", "title"),
    *("label_name", "display_name", "category", "action", "action_name", "class name", "id"),
    *("index", "idx", "class_index", "class_id", "label_id", "number", "row", "#"),
}
_NAME_KEYS = ("name", "label", "display_name", "class", "class_name", "title")
_NUMBER_KEYS = ("id", "index", "label_id", "class_id", "class_index", "label", "class")
# Nothing is tried twice (`++`): a file of many blanks, or of one long word, takes no longer.
_BLOCK = re.compile(r"\b\w++\s*+:?+\s*+\{([^{}]*+)\}")
_FIELD = re.compile(r"""\b(\w++)\s*+:\s*+("(?:[^"\\\n]|\\.)*+"|'(?:[^'\\\n]|\\.)*+'|[\w.+-]++)""")
_PBTXT = re.compile(r"(?:\s|#[^\n]*+\n)*+\w++\s*+:?+\s*+\{(?:\s|#[^\n]*+\n)*+\w++\s*+:")
_ASSIGNED = re.compile(r"(?:\s|#[^\n]*+\n)*+\w++\s*+=\s*+[\[({]")


@dataclass(frozen=True, slots=True)
class ClassNames:
    """What a class file says: `names` by their numbers, or in the order of the file."""

    names: list[str]
    first: int | None  # the number of the first one, 0 or 1; None: the file has no numbers

    @property
    def num_known(self) -> int:
        """How many are names of Kinetics."""
        return sum(find_row(name) is not None for name in self.names)


class _Unfit(ValueError):
    """Why a form can't be read as names."""


def read_class_file(path: Path) -> ClassNames:
    """The names of a class file in the order of their numbers. SourceError says why there are none.

    The file is never run, and no more than a class file's size of it is read.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise SourceError(
                f"{path} has {path.stat().st_size:,} bytes, which is too much for a class file.\n"
                f"{_FORMS}"
            )
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SourceError(f"{path} can't be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} is not UTF-8 text: no class file.") from error
    try:
        found = _read(path, text)
        if len(found.names) > _MOST_NAMES:
            raise _Unfit(f"it has {len(found.names):,} names, and no list of classes has so many")
    except _Unfit as error:
        raise SourceError(f"{path}: {error}.\n{_FORMS}") from error
    except (RecursionError, MemoryError) as error:
        raise SourceError(f"{path} is nested too deep for a class file.\n{_FORMS}") from error
    if not found.names:
        raise SourceError(f"{path} names no class.\n{_FORMS}")
    return found


def _read(path: Path, text: str) -> ClassNames:
    if not text.strip():
        raise _Unfit("it names no class")
    if path.suffix.lower() == ".py":
        return _names_in_python(text)
    if path.suffix.lower() == ".json" or text.lstrip()[0] in "{[":
        return _names_in_json(text)
    if path.suffix.lower() == ".pbtxt" or _PBTXT.match(text):
        return _names_in_pbtxt(text)
    return _names_in_python(text) if _ASSIGNED.match(text) else _names_in_text(text)


# --- JSON and Python


def _names_in_json(text: str) -> ClassNames:
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except _Unfit:
        raise
    except ValueError as error:
        try:
            value = ast.literal_eval(text.strip())  # a dict or list as Python prints it
        except (ValueError, SyntaxError, TypeError):
            raise _Unfit(f"it is broken JSON ({printable(str(error))})") from error
    return _names_in_value(value, "this JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        (twice, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise _Unfit(f"its JSON has the key {shown(twice)} twice")
    return found


def _names_in_python(text: str) -> ClassNames:
    """Of the literals of a module, the one with the most names of Kinetics."""
    try:
        module = ast.parse(text.replace("\0", ""))
    except (SyntaxError, ValueError) as error:
        raise _Unfit(f"it is no Python ({printable(str(error))})") from error
    found: list[ClassNames] = []
    for statement in module.body:
        if not isinstance(statement, ast.Assign | ast.AnnAssign | ast.Expr):
            continue
        try:
            found.append(_names_in_value(ast.literal_eval(statement.value or statement), "it"))
        except (ValueError, TypeError, SyntaxError):  # _Unfit too: of other things
            continue
    if not found:
        raise _Unfit("none of its statements is a literal list or dict of names (none is run)")
    return max(found, key=lambda each: (each.num_known, len(each.names)))


def _names_in_value(value: object, what: str, deep: int = 0) -> ClassNames:
    """The names in lists and dicts. _Unfit if there are none, or several."""
    if isinstance(value, Mapping):
        pairs = _pairs(list(value.items()))
        if pairs is not None:
            return _put_in_order(pairs)
        parts = [each for each in value.values() if isinstance(each, Mapping | list | tuple)]
    elif isinstance(value, list | tuple):
        if value and all(isinstance(each, str) for each in value):
            return ClassNames([_plain(each) for each in value], None)
        pairs = _pairs([_pair_of(each) for each in value])
        if pairs is not None:
            return _put_in_order(pairs)
        parts = [each for each in value if isinstance(each, Mapping | list | tuple)]
    else:
        parts = []
    found: list[ClassNames] = []
    if deep < _MOST_DEEP and len(parts) <= _MOST_NAMES:
        for part in parts:
            try:
                found.append(_names_in_value(part, what, deep + 1))
            except _Unfit:
                continue
    found = [each for each in found if each.num_known]
    if not found:
        raise _Unfit(f"{what} is neither a list of names nor one of names and their numbers")
    rows = {tuple(map(find_row, each.names)) for each in found}
    if len(rows) > 1:
        raise _Unfit(f"{what} has {len(found)} lists of names that differ: keep one")
    return found[0]


def _pair_of(value: object) -> tuple[object, object]:
    """A number and a name, in either order, of a pair or an object in a list."""
    if isinstance(value, list | tuple) and len(value) == 2:
        return value[0], value[1]
    if isinstance(value, Mapping):
        names = [value[key] for key in _NAME_KEYS if isinstance(value.get(key), str)]
        numbers = [value[key] for key in _NUMBER_KEYS if _number(value.get(key)) is not None]
        if names and numbers:
            return numbers[0], names[0]
    return None, None


def _pairs(found: Sequence[tuple[object, object]]) -> list[tuple[int, str]] | None:
    """Numbers and names, whichever comes first in all pairs; None if they are no such pairs."""
    for number_at, name_at in ((0, 1), (1, 0)):
        numbers = [_number(pair[number_at]) for pair in found]
        names = [pair[name_at] for pair in found]
        pairs = [
            (number, _plain(name))
            for number, name in zip(numbers, names, strict=True)
            if number is not None and isinstance(name, str)
        ]
        if pairs and len(pairs) == len(found):
            return pairs
    return None


def _number(value: object) -> int | None:
    """A whole number from 0 up, those of very many digits being one; or None."""
    if isinstance(value, str):
        digits = value.strip()
        if not re.fullmatch(r"[0-9]+", digits):
            return None
        return int(digits) if len(digits) < _MOST_DIGITS else 10**_MOST_DIGITS
    return min(value, 10**_MOST_DIGITS) if type(value) is int and value >= 0 else None


def _put_in_order(pairs: list[tuple[int, str]]) -> ClassNames:
    pairs = sorted(pairs)
    first = min(pairs[0][0], 1)
    for place, (number, name) in enumerate(pairs, start=first):
        if number != place:
            raise _Unfit(
                f"its numbers should run from {first} to {len(pairs) - 1 + first} once each; "
                f"{place} is missing, or {shown(name)} has a number twice"
            )
    return ClassNames([name for _, name in pairs], first)


def _plain(name: str) -> str:
    """A name without the quotes around it, of which some files have two pairs."""
    name = name.strip()
    for _ in range(2):
        if len(name) > 1 and name[0] == name[-1] and name[0] in "\"'":
            name = name[1:-1].strip()
    return name


# --- pbtxt


def _names_in_pbtxt(text: str) -> ClassNames:
    pairs: list[tuple[int, str]] = []
    names: list[str] = []
    for block in _BLOCK.findall(re.sub(r"(?m)^\s*#.*$", "", text)):
        fields = {key: _unescape(value) for key, value in _FIELD.findall(block)}
        number, name = _pair_of(fields)
        name = name or next((fields[key] for key in _NAME_KEYS if key in fields), None)
        if not isinstance(name, str):
            raise _Unfit("one of its items has no name")
        names.append(_plain(name))
        if (found := _number(number)) is not None:
            pairs.append((found, names[-1]))
    if pairs and len(pairs) != len(names):
        raise _Unfit(f"{len(names) - len(pairs)} of its {len(names)} items have no id")
    return _put_in_order(pairs) if pairs else ClassNames(names, None)


def _unescape(value: str) -> str:
    if value[0] not in "\"'":
        return value
    try:
        return str(ast.literal_eval(value))  # its escapes are those of Python
    except (ValueError, SyntaxError):
        return value[1:-1]


# --- text


def _names_in_text(text: str) -> ClassNames:
    lines = [re.sub(r"^-\s+", "", line.strip()) for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if lines and all(map(is_video_line, lines[:20])):
        raise _Unfit(
            f"it is a list of videos, as trainers read it ({shown(lines[0])}), and no class file: "
            "the numbers alone don't tell the order of classes"
        )
    if len(lines) > _MOST_NAMES + 1:
        raise _Unfit(f"it has {len(lines):,} lines, and no list of classes has so many")
    ways: list[Callable[[], list[list[str]]]] = [
        lambda: [[line.rstrip(",;")] for line in lines],
        *(lambda comma=comma: _cells(lines, comma) for comma in ",\t;|"),
        lambda: [line.split(maxsplit=1) for line in lines],
        lambda: [line.rsplit(maxsplit=1) for line in lines],
        lambda: [line.rstrip(",").split(":") for line in lines],
    ]
    best: ClassNames | _Unfit | None = None
    best_key = (-1, False, 0)
    for way in ways:
        rows = [[_plain(cell) for cell in row] for row in way()]
        for start in (0, 1):
            found, num_known = _names_in_rows(rows, start)
            has_numbers = not isinstance(found, ClassNames) or found.first is not None
            if found is not None and (num_known, has_numbers, start) > best_key:
                best, best_key = found, (num_known, has_numbers, start)
    if best is None:
        raise _Unfit(
            "it has no names, or lines of different forms" if lines else "it names no class"
        )
    if isinstance(best, _Unfit):
        raise best
    return best


def _cells(lines: list[str], comma: str) -> list[list[str]]:
    try:
        return list(csv.reader(lines, delimiter=comma, skipinitialspace=True))
    except csv.Error:  # a cell of more than 131,072 characters
        return []


def _names_in_rows(rows: list[list[str]], start: int) -> tuple[ClassNames | _Unfit | None, int]:
    """The names of a table, whose first row is a header if `start` is 1; and how many are known.

    None where it is no table of names.
    """
    header, body = rows[:start], rows[start:]
    if not body or len({len(row) for row in body}) != 1:
        return None, 0
    columns = list(zip(*body, strict=True))
    numbers, texts = [], {}
    for place, column in enumerate(columns):
        if all(_number(cell) is not None for cell in column):
            numbers.append(column)
        else:
            texts[place] = column
    if start and not _is_header(header[0], texts, has_numbers=bool(numbers)):
        return None, 0
    known = {place: [find_row(cell) for cell in column] for place, column in texts.items()}
    counts = {place: sum(row is not None for row in found) for place, found in known.items()}
    most = max(counts.values(), default=0)
    chosen = [place for place, count in counts.items() if count == most]
    if not chosen:
        return None, 0
    if len({tuple(known[place]) for place in chosen}) > 1:
        titles = header[0] if header else []
        told = [shown(titles[p]) if p < len(titles) else str(p + 1) for p in chosen[:5]]
        return _Unfit(
            f"its columns {', '.join(told)} have names of classes that differ: keep one"
        ), most
    names = texts[chosen[0]]
    if not numbers:
        return ClassNames(list(names), None), most
    orders: list[ClassNames] = []
    reason: _Unfit | None = None
    for column in numbers:
        try:
            pairs = _pairs(list(zip(column, names, strict=True)))
            orders.append(_put_in_order(pairs or []))
        except _Unfit as error:
            reason = reason or error
    if not orders:
        return reason, most
    if len({tuple(order.names) for order in orders}) > 1:
        return _Unfit("it has several columns of numbers, which give other orders: keep one"), most
    return orders[0], most


def _is_header(row: list[str], texts: Mapping[int, Sequence[str]], *, has_numbers: bool) -> bool:
    """Whether a first row is no class: it lacks a number that others have, or has usual words."""
    if any(find_row(cell) is not None for cell in row):
        return False
    is_number = [_number(cell) is not None for cell in row]
    return (has_numbers and not any(is_number)) or any(
        cell.rstrip(":").lower() in _HEADERS for cell in row
    )
