"""The official annotation lists: each edition's archive fetched, checked, and unpacked once.

    <folder>/kinetics400/   the lists as published, and .fetched.json: from where, with which hashes
    <folder>/.downloads/    the lock and what is on its way; stays behind, nearly empty

Not covered: HTTP (`download_archive`), safe unpacking (`unpack`), reading the lists (`find`).
"""

import difflib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from k710.annotations.download_archive import Progress, download
from k710.annotations.editions import BadArchive, Edition, read_sources
from k710.annotations.unpack import PackedFile, unpack_into
from k710.errors import SourceError, shown
from k710.files import locked, manifests_dir, sha256_of, word_os_errors, write_json

__all__ = ["EDITIONS_DEFAULT", "Fetched", "fetch_annotations"]

EDITIONS_DEFAULT = ("k400", "k600", "k700_2020")
_RECORD = ".fetched.json"


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
    """The editions asked for, each in its folder below `folder`: fetched now, or found there whole.

    `sources` is a TOML in the form of manifests/sources.toml, for mirrors. `on_progress` gets the
    edition, the archive's bytes so far, and all its bytes where the server tells. A folder whose
    files have changed since is fetched again and replaced whole; a killed run loses nothing.

    SourceError: an edition that doesn't exist, malformed `sources`, a server that refuses or fails
    for good, an archive that is none, is damaged or is hostile, a folder in the way. StageError:
    another process fetches into `folder`, or it can't be written.
    """
    root = Path(folder)
    known = read_sources(Path(sources or manifests_dir() / "sources.toml"), root)
    for name in editions:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=len(known) or 1, cutoff=0.0)
            raise SourceError(f"There is no edition {shown(name)}. There are: {', '.join(near)}.")
    with word_os_errors(root), locked(root / ".downloads"):
        return [_fetch(known[name], on_progress) for name in dict.fromkeys(editions)]


def _fetch(edition: Edition, on_progress: Progress) -> Fetched:
    target, aside = edition.target, _aside(edition)
    if aside.exists() and not os.path.lexists(target):
        aside.replace(target)  # the last run was killed between the two renames of _replace_folder
    found = _read_record(target)
    if found is not None and _is_whole(edition, found):
        record, already_there = found, True
    else:
        _refuse_loss(edition, found)
        try:
            sha256 = download(edition, on_progress)
            record, already_there = _replace_folder(edition, sha256), False
        except BadArchive as bad:
            edition.forget()
            raise edition.refused(str(bad)) from bad
    edition.forget()
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


def _replace_folder(edition: Edition, sha256: str) -> _Record:
    """Put the archive's files in the place of `edition.target`, all at once or not at all."""
    new, aside = edition.beside(".unpacked"), _aside(edition)
    for leftover in (new, aside):
        shutil.rmtree(leftover, ignore_errors=True)
    new.mkdir()
    try:
        files = unpack_into(new, edition)
        record = _Record(edition.url, sha256, edition.part.stat().st_size, files)
        write_json(new / _RECORD, asdict(record))
        if edition.target.exists():
            edition.target.replace(aside)
        new.replace(edition.target)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return record


def _aside(edition: Edition) -> Path:
    """Where the folder that is being replaced waits until the new one is in its place."""
    return edition.beside(".old")


def _read_record(folder: Path) -> _Record | None:
    try:
        told = json.loads((folder / _RECORD).read_bytes())
        told["files"] = tuple(PackedFile(**file) for file in told["files"])
        return _Record(**told)
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None


def _is_whole(edition: Edition, record: _Record) -> bool:
    if record.url != edition.url or not edition.accepts(record.sha256):
        return False
    paths = [(edition.target / file.name, file.sha256) for file in record.files]
    return all(path.is_file() and sha256_of(path) == sha256 for path, sha256 in paths)


def _refuse_loss(edition: Edition, record: _Record | None) -> None:
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
        f"{target} is not what {edition.url} holds, and can't be replaced: {why}.\n"
        "Move that away, and run the same command again."
    )
