"""Which files of a folder are annotation lists, and of which dataset."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from k710.errors import SourceError, shown

__all__ = ["ListFile", "find_lists"]

_KINDS = (".csv", ".csv.gz", ".gz", ".json", ".json.gz")  # of one stem the first kind is read
_NO_LISTS = (".tar.gz", ".parquet.json")  # archives, and the sidecars of a work directory in here
_DATASET = re.compile(r"(?:kinetics|(?<![a-z])k)[-_ ]?(400|600|700)(?!\d)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ListFile:
    """One file to read."""

    path: Path
    name: str  # below the searched folder, with slashes: `source_file` of its rows
    dataset: str
    twins: tuple[str, ...]  # names of files with the same rows, not read

    @property
    def is_json(self) -> bool:
        return self.name.lower().endswith((".json", ".json.gz"))

    @property
    def is_gzip(self) -> bool:
        return self.name.lower().endswith(".gz")

    def beside(self, name: str) -> Path:
        """The path of another file of the same search."""
        return Path(str(self.path)[: -len(self.name)]) / name

    def at(self, line: int) -> str:
        """The place of a row, for an error: its line, or its number among a JSON's entries."""
        return f"{self.path}, entry {line}" if self.is_json else f"{self.path}:{line}"


def find_lists(folder: Path) -> list[ListFile]:
    """The annotation lists below `folder`, sorted by name; hidden files are passed over.

    SourceError where there is none, or where a path names no dataset or two.
    """
    if not folder.is_dir():
        raise SourceError(
            f"{folder} is no folder.\nGet the official lists with: k710 fetch-annotations {folder}"
        )
    same_stem: dict[str, list[tuple[int, str]]] = {}
    for path in _walk(folder, seen=set()):
        name = path.relative_to(folder).as_posix()
        kind = _kind_of(name)
        if kind is not None:
            same_stem.setdefault(name[: -len(kind)], []).append((_KINDS.index(kind), name))
    files = []
    for names in same_stem.values():
        (_, name), *twins = sorted(names)
        dataset = _dataset_of(folder / name, folder)
        files.append(ListFile(folder / name, name, dataset, tuple(twin for _, twin in twins)))
    if not files:
        raise SourceError(
            f"{folder} has no annotation list in it: no .csv, .csv.gz or .json.\n"
            f"Unpack the archives there, or get them with: k710 fetch-annotations {folder}"
        )
    return sorted(files, key=lambda file: file.name)


def _walk(folder: Path, seen: set[Path]) -> Iterator[Path]:
    real = folder.resolve()
    if real in seen:  # a link to a folder above
        return
    seen.add(real)
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise SourceError(f"{folder} can't be read: {error.strerror}.") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if any("\ud800" <= character <= "\udfff" for character in entry.name):
            raise SourceError(f"{folder}: the name {shown(entry.name)} is no UTF-8. Rename it.")
        if entry.is_dir():
            yield from _walk(folder / entry.name, seen)
        elif entry.is_file():
            yield folder / entry.name
        elif entry.is_symlink() and _kind_of(entry.name) is not None:
            raise SourceError(
                f"{folder / entry.name} is a link to a file that isn't there.\n"
                "Mend the link, or remove it."
            )


def _kind_of(name: str) -> str | None:
    if name.lower().endswith(_NO_LISTS):
        return None
    # The longest that fits: .csv.gz is a .gz too.
    return max((kind for kind in _KINDS if name.lower().endswith(kind)), key=len, default=None)


def _dataset_of(path: Path, folder: Path) -> str:
    # The folder's name as it was given counts, and then, where it is a link, its true one.
    own = [Path(os.path.abspath(folder)).name, folder.resolve().name]
    parts = [*path.relative_to(folder).parts[::-1], *own]
    for part in parts:
        named = sorted({f"k{size}" for size in _DATASET.findall(part)})
        if len(named) == 1:
            return named[0]
        if named:
            raise SourceError(
                f"{path}: {shown(part)} names two datasets, {' and '.join(named)}.\n"
                f"Rename it so that it names the one whose rows it holds, like {named[0]}."
            )
    raise SourceError(
        f"{path}: neither its name nor a folder above names a dataset.\n"
        "Rename the file or its folder so that it says k400, k600 or k700 (or kinetics400, "
        "kinetics700_2020, ...), or move it away if it is no annotation list."
    )
