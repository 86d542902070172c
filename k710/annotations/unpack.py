"""A downloaded .tar.gz, unpacked: plain files only, in the edition's folder only, within limits.

The archive is not trusted. Modes, owners, times, hidden files and empty folders are not taken.
"""

import gzip
import hashlib
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from k710.errors import printable, shown

__all__ = ["BadArchive", "PackedFile", "unpack_into"]

MAX_MEMBERS = 1000
MAX_UNPACKED_BYTES = 2 * 1024**3
MAX_RATIO = 200  # unpacked to packed; lists of text stay far below
MAX_READ_BYTES = 64 * 1024  # at once: tarfile reads a long name whole, as long as it says it is
_TAR_ERRORS = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError, RecursionError)


class BadArchive(Exception):
    """Why an archive isn't taken, worded to go on after its name."""


@dataclass(frozen=True, slots=True)
class PackedFile:
    """A file that was unpacked. `name` is its path below the edition's folder, with slashes."""

    name: str
    bytes: int
    sha256: str


def unpack_into(folder: Path, archive: Path, *, top: str) -> tuple[PackedFile, ...]:
    """Unpack `archive` into `folder`, which is there and empty; returns the files by name.

    Its files may lie in a folder `top`, which is left out.

    BadArchive: damaged, a trap, or without lists; some of its files may lie in `folder` then.
    """
    files: dict[str, PackedFile] = {}  # by folded name: some disks take A.csv and a.csv for one
    try:
        with (
            _Gunzip(archive) as unzipped,
            tarfile.open(fileobj=unzipped, mode="r:", encoding="utf-8") as tar,
        ):
            for number, member in enumerate(tar, start=1):
                if number > MAX_MEMBERS:
                    raise BadArchive(f"holds more than {MAX_MEMBERS:,} members")
                name = _place(member, top)
                if name is None:
                    continue
                if name.casefold() in files:
                    raise BadArchive(f"holds {shown(member.name)} twice")
                files[name.casefold()] = _write(tar.extractfile(member), folder, name)
            _refuse_more(unzipped)
    except _TAR_ERRORS as error:
        raise BadArchive(f"is damaged or cut short: {printable(str(error))}") from error
    if not any(folded.endswith(".csv") for folded in files):
        raise BadArchive("holds no .csv file")
    return tuple(sorted(files.values(), key=lambda file: file.name))


class _Gunzip(gzip.GzipFile):
    """A .gz that gives no more than lists can be, and no more at once than a tar header can be."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "rb")
        self.max_bytes = min(MAX_UNPACKED_BYTES, MAX_RATIO * path.stat().st_size)

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= MAX_READ_BYTES:
            raise BadArchive(f"has a header of {size} bytes")
        data = super().read(size)
        if self.tell() > self.max_bytes:
            raise BadArchive(
                f"unpacks to more than {self.max_bytes:,} bytes, too much for its size"
            )
        return data


def _refuse_more(unzipped: _Gunzip) -> None:
    """Read on to the end of the .gz. BadArchive if the tar was not all of it, and padding."""
    # tarfile takes a header that it can't read for the end, and leaves gzip's CRC unread.
    while rest := unzipped.read(MAX_READ_BYTES):
        if rest.strip(b"\0"):
            raise BadArchive("is damaged: it goes on after its end")
    if unzipped.tell() % tarfile.BLOCKSIZE:
        raise BadArchive("is damaged or cut short: its last block is not whole")


def _place(member: tarfile.TarInfo, top: str) -> str | None:
    """Where the member goes below its edition's folder; None for what is passed over."""
    name = member.name
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if member.isdir():
        return None
    if not member.isreg() or member.issparse() or member.size < 0:
        raise BadArchive(f"holds {shown(name)}, which is no plain file")
    if name.startswith("/") or ".." in parts or "\\" in name or not name.isprintable():
        raise BadArchive(f"holds {shown(name)}, a name that is not safe to write")
    if not parts or len(name.encode()) > 255:
        raise BadArchive(f"holds {shown(name)}, which is no file name")
    if any(part.startswith(".") for part in parts):  # what macOS puts beside each file
        return None
    if len(parts) == 1:
        return parts[0]
    if parts[0] != top:
        raise BadArchive(f"holds {shown(name)}, which is not in its folder, {top}")
    return "/".join(parts[1:])


def _write(member: IO[bytes] | None, folder: Path, name: str) -> PackedFile:
    assert member is not None  # _place lets only plain files pass
    path = folder / name
    digest = hashlib.sha256()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("xb")
    except (FileExistsError, NotADirectoryError) as error:
        raise BadArchive(f"holds {shown(name)} both as a file and as a folder") from error
    with file:
        while chunk := member.read(MAX_READ_BYTES):
            digest.update(chunk)
            file.write(chunk)
    return PackedFile(name, path.stat().st_size, digest.hexdigest())
