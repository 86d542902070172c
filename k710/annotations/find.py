"""Which files of a folder are annotation lists, and of which dataset; the others, each with why.

A .csv or .json counts as a list unless it is known to be something else: a damaged list must not be
passed over. A .txt or .tsv counts where it begins like one.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from k710.annotations.content import (
    OFFICIAL,
    OtherList,
    is_list_header,
    name_other_list,
    read_head,
)
from k710.errors import SourceError, printable, shown

__all__ = ["FoundLists", "ListFile", "Unread", "find_lists", "unreadable"]

_CSV_KINDS = (".csv", ".csv.gz", ".gz")
_TEXT_KINDS = (".tsv", ".tsv.gz", ".txt", ".txt.gz")
_JSON_KINDS = (".json", ".json.gz")
_KINDS = (*_CSV_KINDS, *_TEXT_KINDS, *_JSON_KINDS)  # of one stem the first kind is read
_TABLE = ".parquet"
_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip", ".7z", ".rar")
_OTHER_LISTS = (
    *(".bz2", ".xz", ".zst", ".jsonl", ".ndjson", ".parquet", ".feather", ".arrow", ".npy"),
    *(".xlsx", ".xls", ".ods", ".numbers", ".pkl", ".pickle", ".yaml", ".yml", ".xml", ".sqlite"),
)
_RECORD = ".fetched.json"  # fetch-annotations' own
_DATASET = re.compile(r"(?:kinetics|(?<![a-z])k)[-_ ]?(400|600|700)(?!\d)", re.IGNORECASE)
_MOST_NAMES = 10


@dataclass(frozen=True, slots=True)
class ListFile:
    """One file to read."""

    path: Path
    name: str  # below the searched folder, with slashes: `source_file` of its rows
    dataset: str
    twins: tuple["ListFile", ...] = ()  # other forms of the list, that should have the same rows
    is_gzip: bool = False

    @property
    def is_json(self) -> bool:
        return self.name.lower().endswith(_JSON_KINDS)

    def beside(self, name: str) -> Path:
        """The path of another file of the same search."""
        return Path(str(self.path)[: -len(self.name)]) / name

    def at(self, line: int) -> str:
        """The place of a row, for an error: its line, or its number among a JSON's entries."""
        return f"{self.path}, entry {line}" if self.is_json else f"{self.path}:{line}"


@dataclass(frozen=True, slots=True)
class Unread:
    """Files of an annotations folder that are not read, all for one reason."""

    reason: str
    num_files: int
    files: tuple[str, ...]  # the first ten of them by name, below the folder, with slashes
    line: str = ""  # of the first of them, where that tells what it is

    def words(self, *, most: int = 3) -> str:
        """One line: the first files, how many more there are, and why they aren't read."""
        names = ", ".join(printable(name) for name in self.files[:most])
        more = self.num_files - len(self.files[:most])
        reason = printable(self.reason)
        line = f" ({shown(self.line)})" if self.line else ""
        return f"Not read: {names}{f' and {more:,} more' if more else ''}: {reason}{line}."


@dataclass(frozen=True, slots=True)
class FoundLists:
    """What a search found: the lists to read, by name, and all other files, by reason."""

    files: tuple[ListFile, ...]
    unread: tuple[Unread, ...]


@dataclass(slots=True)
class _Search:
    folder: Path
    lists: dict[str, list[tuple[int, str, bool]]] = field(default_factory=dict)  # by stem
    reasons: dict[str, dict[str, str]] = field(default_factory=dict)  # -> {name: a line of it}

    def pass_over(self, path: Path, reason: str, line: str = "") -> None:
        name = path.relative_to(self.folder).as_posix()
        self.reasons.setdefault(reason, {})[name] = line

    def unread(self) -> tuple[Unread, ...]:
        grouped = []
        for reason, lines in self.reasons.items():
            names = sorted(lines)
            first = tuple(names[:_MOST_NAMES])
            grouped.append(Unread(reason, len(names), first, lines[names[0]]))
        return tuple(sorted(grouped, key=lambda unread: unread.files))


def find_lists(folder: Path) -> FoundLists:
    """Search for annotation lists below `folder`. Hidden folders aren't entered.

    SourceError where there is none, or where a path names no dataset or two.
    """
    if not folder.is_dir():
        raise SourceError(_no_folder(folder))
    search = _Search(folder)
    for path in _walk(search):
        _sort_in(search, path)
    files = []
    for forms in search.lists.values():
        (_, name, is_gzip), *others = sorted(forms)
        dataset = _dataset_of(folder / name, folder)
        twins = tuple(
            ListFile(folder / other, other, dataset, is_gzip=gzipped)
            for _, other, gzipped in others
        )
        files.append(ListFile(folder / name, name, dataset, twins, is_gzip))
    unread = search.unread()
    if not files:
        raise SourceError(_no_list(folder, unread))
    return FoundLists(tuple(sorted(files, key=lambda file: file.name)), unread)


def unreadable(path: Path, error: OSError) -> SourceError:
    """The error for a list, or a folder that may hold some, which can't be opened or read."""
    return SourceError(
        f"{path} can't be read: {error.strerror}.\nMake it readable, or move it away."
    )


def _no_folder(folder: Path) -> str:
    get = f"Get the official lists with: k710 fetch-annotations {printable(str(folder))}"
    if not folder.is_file():
        return f"{folder} is no folder.\n{get}"
    try:
        other = name_other_list(read_head(folder)[0])
    except OSError:
        other = None
    if other is None:
        return f"{folder} is a file.\nName the folder that it lies in."
    return (
        f"{folder} is a file, and no annotation list: {other.kind} ({shown(other.line)}).\n"
        f"{OFFICIAL}\n"
        "Get those with: k710 fetch-annotations ./annotations"
    )


def _no_list(folder: Path, unread: tuple[Unread, ...]) -> str:
    lines = [f"{folder} has no annotation list in it: no .csv, .txt, .tsv or .json that is one."]
    lines += [one.words() for one in unread]
    lines.append(OFFICIAL)
    lines.append(f"Unpack the archives there, or get them with: k710 fetch-annotations {folder}")
    return "\n".join(lines)


def _walk(search: _Search) -> Iterator[Path]:
    """Yield the plain files, each once, whatever links lead to it; no folder is too deep."""
    seen: set[tuple[int, int]] = set()
    folders = [search.folder]
    while folders:
        folder = folders.pop()
        try:
            found = folder.stat()
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise unreadable(folder, error) from error
        if (found.st_dev, found.st_ino) in seen:  # a link to a folder above
            continue
        seen.add((found.st_dev, found.st_ino))
        inner = []
        for entry in entries:
            path = folder / entry.name
            if any("\ud800" <= character <= "\udfff" for character in entry.name):
                raise SourceError(f"{folder}: the name {shown(entry.name)} is no UTF-8. Rename it.")
            try:
                is_folder, is_file = entry.is_dir(), entry.is_file()
            except OSError:  # a loop of links
                is_folder = is_file = False
            if is_file:
                yield path
            elif is_folder:
                if not entry.name.startswith("."):
                    inner.append(path)
            elif not entry.is_symlink():
                search.pass_over(path, "no plain file, but a pipe, a socket or a device")
            elif not entry.name.startswith("."):
                _pass_link(search, path)
        folders += reversed(inner)


def _pass_link(search: _Search, path: Path) -> None:
    """Pass over a link that leads to no file; SourceError where a list should be there."""
    try:
        path.stat()
        search.pass_over(path, "no plain file, but a pipe, a socket or a device")
    except OSError as error:
        if _kind_of(path.name) is not None:
            raise SourceError(
                f"{path} is a link to a file that isn't there ({error.strerror}).\n"
                "Mend the link, or remove it."
            ) from error
        search.pass_over(path, "a link to a file that isn't there")


def _sort_in(search: _Search, path: Path) -> None:
    """Note the file as a list, or with the reason why it is none."""
    name = path.name.lower()
    kind = _kind_of(name)
    if name.startswith("."):
        if kind is not None and name != _RECORD and not name.startswith("._"):
            search.pass_over(path, "a hidden file")
    elif name.endswith((_TABLE, _TABLE + ".json")) and _is_own_table(path):
        search.pass_over(path, "a table of k710")
    elif name.endswith(_ARCHIVES):
        search.pass_over(path, "an archive, which would have to be unpacked")
    elif kind is None:
        ending = path.suffix.lower()
        if ending in _OTHER_LISTS:
            search.pass_over(path, f"{ending} is no form in which the lists are published")
        else:
            search.pass_over(path, "no list by its ending")
    else:
        _look_into(search, path, kind)


def _look_into(search: _Search, path: Path, kind: str) -> None:
    try:
        head, is_gzip = read_head(path)
    except OSError as error:
        if kind in _TEXT_KINDS:
            search.pass_over(path, f"it can't be read: {error.strerror}")
            return
        head, is_gzip = b"", False  # the reader says so
    other = name_other_list(head) or (_other_text(head) if kind in _TEXT_KINDS else None)
    if other is not None:
        search.pass_over(path, other.kind, other.line)
        return
    name = path.relative_to(search.folder).as_posix()
    form = (_KINDS.index(kind), name, is_gzip or kind.endswith(".gz"))
    search.lists.setdefault(name[: -len(kind)], []).append(form)


def _other_text(head: bytes) -> OtherList | None:
    """What a .txt or .tsv is that does not begin like an annotation list."""
    text = head.decode("utf-8-sig", "replace")
    first = next(iter(text.splitlines()), "")
    if is_list_header(first):
        return None
    if not text.strip():
        return OtherList("it is empty", "")
    if b"\0" in head:
        return OtherList("it is no UTF-8 text (UTF-16, perhaps: save it as UTF-8)", "")
    return OtherList("its first line is no header of an annotation list", first)


def _is_own_table(path: Path) -> bool:
    """Whether a file is a table that k710 wrote, or the sidecar of one."""
    beside = path.with_name(path.name + ".json") if path.suffix == _TABLE else path.with_suffix("")
    return path.name.endswith(".json") or beside.is_file()


def _kind_of(name: str) -> str | None:
    name = name.lower()
    if name.endswith((*_ARCHIVES, _TABLE + ".json")):
        return None
    # The longest that fits: .csv.gz is a .gz too.
    return max((kind for kind in _KINDS if name.endswith(kind)), key=len, default=None)


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
