"""What a file in an annotations folder is, by its first bytes: a list, or something with a name.

Ready-made lists, class lists and annotation lists travel under the same names (`train.csv`,
`val.txt`), so the ending tells little.

Not covered: whether a list is sound beyond its header; `read` says.
"""

import contextlib
import csv
import gzip
import json
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from k710.errors import LabelError, SourceError
from k710.labels.orders import resolve_label
from k710.labels.video_lines import is_video_line
from k710.tables.clip_ids import YOUTUBE_ID

__all__ = [
    "COLUMNS",
    "GZIP_MAGIC",
    "HEAD_BYTES",
    "OFFICIAL",
    "Header",
    "OtherList",
    "is_list_header",
    "name_other_list",
    "open_list",
    "parse_header",
    "read_head",
    "refuse_bomb",
]

COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split")
"""The columns of a published list: test lists may lack `label`; others aren't used."""

OFFICIAL = (
    f"The manifest is made of the official annotation lists, which have the columns "
    f"{', '.join(COLUMNS)}."
)

HEAD_BYTES = 64 << 10
GZIP_MAGIC = b"\x1f\x8b"
MAX_RATIO = 50  # unpacked to packed; the published lists stay below 20
FREE_BYTES = 4 << 20  # unpacked before the ratio counts
_SAMPLE_LINES = 20
_READY_MADE = (
    "a ready-made list of videos, as MMAction2, SlowFast, VideoMAE and UniFormer read it, without "
    "the times and the order of its classes; k710 export writes such lists"
)
_CLASSES = "a list of classes, of which k710 labels --check says the order"
_IDS = "YouTube ids alone, without times and classes"
_DELIMITERS = (",", "\t", ";")
_ID = re.compile(YOUTUBE_ID)
_SPLIT = re.compile(r"train|val|validate|validation|test|holdout_test", re.IGNORECASE)
_NUMBER = re.compile(r"\d+(\.\d+)?")
_LONGEST_NAME = 200
_JSON_SAMPLE = 8192


@dataclass(frozen=True, slots=True)
class Header:
    """The first line of a CSV: its column names as COLUMNS spell them, and how they are parted."""

    names: tuple[str, ...]
    delimiter: str
    has_spaces: bool  # around the names, and so perhaps around the values


@dataclass(frozen=True, slots=True)
class OtherList:
    """What a file is that is no annotation list, and a line of it."""

    kind: str  # worded to go on after the file's name and a colon
    line: str


def open_list(path: Path, *, is_gzip: bool) -> Any:
    """Open a list to read its bytes, unpacked."""
    return gzip.open(path, "rb") if is_gzip else path.open("rb")


def read_head(path: Path) -> tuple[bytes, bool]:
    """The first 64 KiB of a file, unpacked, and whether it is a gzip file.

    Of a damaged gzip file, what could be unpacked. OSError where it can't be read.
    """
    with path.open("rb") as file:
        raw = file.read(HEAD_BYTES)
    if not raw.startswith(GZIP_MAGIC):
        return raw, False
    with contextlib.suppress(zlib.error):
        return zlib.decompressobj(wbits=31).decompress(raw, HEAD_BYTES), True
    return b"", True


def refuse_bomb(path: Path) -> None:
    """SourceError where a .gz unpacks to more than a list of its size can."""
    # All of it is unpacked before a row is parsed: zeros or blank lines take no time here.
    most = FREE_BYTES + MAX_RATIO * path.stat().st_size
    with gzip.open(path, "rb") as stream:
        unpacked = 0
        while chunk := stream.read(1 << 20):
            unpacked += len(chunk)
            if unpacked > most:
                raise SourceError(
                    f"{path} unpacks to more than {most:,} bytes, {MAX_RATIO} times its size, as "
                    "no list does.\nDownload it again, or move it away if it is no list."
                )


def parse_header(line: str) -> Header:
    """Split the first line of a CSV at commas, tabs or semicolons: whichever gives COLUMNS."""
    best = Header((), ",", has_spaces=False)
    for delimiter in _DELIMITERS:
        cells = next(csv.reader([line], delimiter=delimiter), [])
        names = tuple(cell.strip().lower() for cell in cells)
        if delimiter == "," or len(_known(names)) > len(_known(best.names)):
            best = Header(names, delimiter, any(cell != cell.strip() for cell in cells))
    return best


def _known(names: tuple[str, ...]) -> set[str]:
    return set(COLUMNS) & set(names)


def is_list_header(line: str) -> bool:
    """Whether a line is the header of an annotation list, or a row of one that has no header."""
    if "youtube_id" in parse_header(line).names:
        return True
    cells = [cell.strip(" \"'") for cell in re.split(r"[,;\t]", line)]
    return (
        any(_ID.fullmatch(cell) for cell in cells)
        and any(_SPLIT.fullmatch(cell) for cell in cells)
        and sum(_NUMBER.fullmatch(cell) is not None for cell in cells) >= 2
    )


def name_other_list(head: bytes) -> OtherList | None:
    """What a file that begins with `head` is, if it is a list of a known kind, and another one."""
    text = head.decode("utf-8-sig", "replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(head) >= HEAD_BYTES:
        lines = lines[:-1]  # the last is cut off
    lines = lines[:_SAMPLE_LINES]
    if not lines or any(is_list_header(line) for line in lines[:2]):
        return None
    is_json = text.lstrip()[:1] in ("{", "[")
    if is_json:
        lines = _strings_in(text)
    # The first line may be a header.
    for body in (lines, lines[1:]):
        if not body:
            continue
        if all(_is_class(line) for line in body):
            return OtherList(_CLASSES, body[0])
        if all(map(is_video_line, body)):
            return OtherList(_READY_MADE, body[0])
        if not is_json and all(_ID.fullmatch(line) for line in body):
            return OtherList(_IDS, body[0])
    return None


def _is_class(line: str) -> bool:
    """Whether a line is the name of a class, with or without its number before or after it."""
    if len(line) > _LONGEST_NAME:
        return False
    plain = re.sub(r"^-?\d+[\s,;:]+|[\s,;:]+-?\d+$", "", line).strip(" \"'")
    if not any(character.isalpha() for character in plain):
        return False
    with contextlib.suppress(LabelError):
        resolve_label(plain)
        return True
    return False


def _strings_in(text: str) -> list[str]:
    """The first texts in a JSON: of an object of class names and numbers, all that there are."""
    found = []
    for match in re.finditer(r'"(?:[^"\\]|\\.)*"', text[:_JSON_SAMPLE]):
        with contextlib.suppress(ValueError):
            found.append(json.loads(match[0]))
    names = [name for name in found if not re.fullmatch(r"-?\d*", name)]
    return names[:_SAMPLE_LINES]
