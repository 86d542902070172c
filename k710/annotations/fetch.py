"""The official annotation lists: each edition's archive fetched, checked, and unpacked once.

    <folder>/kinetics400/   the lists as published, and .fetched.json: from where, with which hashes
    <folder>/.downloads/    the lock and what is on its way; stays behind, nearly empty

Not covered: HTTP (`download_archive`), safe unpacking (`unpack`), reading the lists (`find`).
"""

import difflib
import functools
import os
import re
import shutil
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from k710.annotations.download_archive import Download, Refused, download
from k710.annotations.unpack import BadArchive, PackedFile, unpack_into
from k710.errors import SourceError, printable, shown
from k710.files import locked, manifests_dir, sha256_of, word_os_errors, write_json

__all__ = ["EDITIONS_DEFAULT", "Fetched", "fetch_annotations"]

EDITIONS_DEFAULT = ("k400", "k600", "k700_2020")
_RECORD = ".fetched.json"
_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
_FIELDS = {
    "url": (r"https?://[^\s/?#@]+/[!-~]*", "an http:// or https:// address"),
    "folder": (_NAME, "a plain folder name"),
    "sha256": ("[0-9a-fA-F]{64}", "64 hex digits"),
}
_OPTIONAL = ("sha256",)

Progress = Callable[[str, int, int | None], None]
"""Called with the edition's name, the bytes so far, and all its bytes where the server tells."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """One edition on disk. `sha256` and `bytes` are the archive's; `files`, below `folder`."""

    edition: str
    folder: Path
    url: str
    sha256: str
    bytes: int
    files: tuple[str, ...]
    already_there: bool


@dataclass(frozen=True, slots=True)
class _Edition:
    """One table of a sources TOML, and where its files go."""

    name: str
    target: Path  # the folder of its lists
    archive: Download

    @property
    def aside(self) -> Path:
        """Where the folder that is being replaced waits until the new one is in its place."""
        return self.archive.part.with_name(self.name + ".old")

    @property
    def new(self) -> Path:
        """Where the archive is unpacked."""
        return self.archive.part.with_name(self.name + ".unpacked")


@dataclass(frozen=True, slots=True)
class _Record:
    """What .fetched.json says of its folder. `sha256` and `bytes` are the archive's."""

    url: str
    sha256: str
    bytes: int
    files: tuple[PackedFile, ...]


def fetch_annotations(
    folder: str | os.PathLike[str] = "annotations",
    *,
    editions: Sequence[str] = EDITIONS_DEFAULT,
    sources: str | os.PathLike[str] | None = None,
    on_progress: Progress = lambda edition, done, total: None,
) -> list[Fetched]:
    """Fetch the editions asked for, each into its folder below `folder`, or find it there whole.

    `sources` is a TOML in the form of manifests/sources.toml, for mirrors. `on_progress` gets the
    edition, the archive's bytes so far, and all its bytes where the server tells. A folder whose
    files have changed since is fetched again and replaced whole; a killed run loses nothing.

    SourceError: an edition that doesn't exist, malformed `sources`, a server that refuses or fails
    for good, an archive that is none, is damaged or is hostile, a folder in the way. StageError:
    another process fetches into `folder`, or it can't be written.
    """
    root = Path(folder)
    known = _read_sources(Path(sources or manifests_dir() / "sources.toml"), root)
    for name in editions:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=len(known) or 1, cutoff=0.0)
            raise SourceError(f"There is no edition {shown(name)}. There are: {', '.join(near)}.")
    with word_os_errors(root), locked(root / ".downloads"):
        return [_fetch(known[name], on_progress) for name in dict.fromkeys(editions)]


def _fetch(edition: _Edition, on_progress: Progress) -> Fetched:
    target, aside, archive = edition.target, edition.aside, edition.archive
    if aside.exists() and not os.path.lexists(target):
        aside.replace(target)  # the last run was killed between the two renames of _replace_folder
    found = _read_record(target)
    if found is not None and _is_whole(edition, found):
        record, already_there = found, True
    else:
        _refuse_loss(edition, found)
        try:
            sha256 = download(archive, functools.partial(on_progress, edition.name))
            record, already_there = _replace_folder(edition, sha256), False
        except (BadArchive, Refused) as error:
            if isinstance(error, BadArchive):
                archive.forget()
            raise SourceError(
                f"{archive.name} {error}.\nName another mirror with --sources FILE, or put the "
                f"lists into {target} by hand and leave {edition.name} out."
            ) from error
    archive.forget()
    shutil.rmtree(aside, ignore_errors=True)
    return Fetched(
        edition=edition.name,
        folder=target,
        url=record.url,
        sha256=record.sha256,
        bytes=record.bytes,
        files=tuple(file.name for file in record.files),
        already_there=already_there,
    )


def _replace_folder(edition: _Edition, sha256: str) -> _Record:
    """Put the archive's files in the place of `edition.target`, all at once or not at all."""
    new, aside, part = edition.new, edition.aside, edition.archive.part
    for leftover in (new, aside):
        shutil.rmtree(leftover, ignore_errors=True)
    new.mkdir()
    try:
        files = unpack_into(new, part, top=edition.target.name)
        record = _Record(edition.archive.name, sha256, part.stat().st_size, files)
        write_json(new / _RECORD, asdict(record))
        if edition.target.exists():
            edition.target.replace(aside)
        new.replace(edition.target)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return record


def _read_record(folder: Path) -> _Record | None:
    try:
        return msgspec.json.decode((folder / _RECORD).read_bytes(), type=_Record)
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return None


def _is_whole(edition: _Edition, record: _Record) -> bool:
    if record.url != edition.archive.name or not edition.archive.accepts(record.sha256):
        return False
    paths = [(edition.target / file.name, file.sha256) for file in record.files]
    return all(path.is_file() and sha256_of(path) == sha256 for path, sha256 in paths)


def _refuse_loss(edition: _Edition, record: _Record | None) -> None:
    """SourceError if replacing the edition's folder would lose something that was not fetched."""
    target = edition.target
    if not os.path.lexists(target):
        return
    if record is None:
        raise SourceError(
            f"{target} exists, and this command did not fetch it: it holds no {_RECORD}.\n"
            f"Use it as it is and leave {edition.name} out, or move it away."
        )
    found = {p.relative_to(target).as_posix() for p in target.rglob("[!.]*") if not p.is_dir()}
    others = sorted(found - {file.name for file in record.files})
    if others:
        why = f"{shown(others[0])} in it was not fetched"
    elif target.is_symlink():
        why = "it is a link"
    else:
        return
    raise SourceError(
        f"{target} is not what {edition.archive.name} holds, and can't be replaced: {why}.\n"
        "Move that away, and run the same command again."
    )


def _read_sources(path: Path, root: Path) -> dict[str, _Edition]:
    """Read the editions of the TOML at `path`, by name, their folders below `root`.

    SourceError where it can't be read, or isn't of the form of manifests/sources.toml.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        why = printable(getattr(error, "strerror", None) or str(error))
        raise _bad_sources(path, f"no TOML that can be read: {why}") from error
    editions: dict[str, _Edition] = {}
    for name, table in tables.items():
        edition = _read_edition(path, name, table, root)
        for other in editions.values():
            if other.target.name.casefold() == edition.target.name.casefold():
                raise _bad_sources(path, f"{name}.folder is the folder of {other.name} too")
        editions[name] = edition
    return editions


def _read_edition(path: Path, name: str, table: Any, root: Path) -> _Edition:
    if not isinstance(table, dict) or not re.fullmatch(_NAME, name):
        raise _bad_sources(path, f"{shown(name)} is no table like [k400], with a url and a folder")
    for key in table:
        if key not in _FIELDS:
            near = difflib.get_close_matches(key, _FIELDS, n=1, cutoff=0.0)[0]
            raise _bad_sources(
                path, f"{name} has an unknown key {shown(key)}; the nearest is {near}"
            )
    for key, (pattern, words) in _FIELDS.items():
        if key not in table:
            if key in _OPTIONAL:
                continue
            raise _bad_sources(path, f"{name}.{key} is missing, {words}")
        value = table[key]
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise _bad_sources(path, f"{name}.{key} is {shown(value)}, not {words}")
    if not _has_host(table["url"]):
        raise _bad_sources(path, f"{name}.url is {shown(table['url'])}, not {_FIELDS['url'][1]}")
    part = root / ".downloads" / f"{name}.tar.gz.part"
    sha256 = table["sha256"].lower() if "sha256" in table else None
    return _Edition(name, root / table["folder"], Download(table["url"], part, sha256))


def _has_host(url: str) -> bool:
    try:
        return bool(urlsplit(url).hostname) and urlsplit(url).port != 0
    except ValueError:  # such as http://[::1/
        return False


def _bad_sources(path: Path, what: str) -> SourceError:
    return SourceError(
        f"{path}: {what}.\nMend that, or leave --sources out: k710 has one of its own."
    )
