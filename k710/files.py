"""Files on disk: hashes, atomic writes, the lock of a folder, and where the class lists lie."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from k710.errors import StageError, printable, without_secrets

__all__ = [
    "disk_full",
    "flocked",
    "is_url",
    "locked",
    "manifests_dir",
    "replacing",
    "sha256_of",
    "word_os_errors",
    "write_json",
]

_LOOK_S = 0.2
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def manifests_dir() -> Path:
    """The folder of labels.csv, aliases.csv and sources.toml: packaged, or beside k710/."""
    here = Path(__file__).resolve().parent
    installed = here / "_manifests"
    return installed if installed.is_dir() else here.parent / "manifests"


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_url(place: str) -> bool:
    """Whether a place is a URL, as s3://bucket/dir, and not a path."""
    return re.match(r"[a-z][a-z0-9+.-]*://", place, re.IGNORECASE) is not None


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name to write to. When the block ends well, that file is flushed and replaces `path`.

    Otherwise `path` stays as it was. A leftover of a killed process is overwritten by the next.
    """
    partial = path.with_name(path.name + ".tmp")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Write `value` to `path`, whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


@contextlib.contextmanager
def word_os_errors(folder: Path) -> Iterator[None]:
    """Word what the operating system says of files inside the block, as a StageError."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise disk_full(folder, error) from error
        if error.filename is None:  # of no file: a callback's, a pipe's
            raise
        raise StageError(
            f"{error.filename} can't be used: {error.strerror}.\nMend it, or choose another folder."
        ) from error


def flocked(file: IO[Any], kind: int, *, wait_s: float = 0.0) -> bool:
    """Whether the lock of an open file could be had within `wait_s` seconds.

    `kind` is fcntl.LOCK_EX or LOCK_SH; it is freed when the file is closed. StageError where the
    disk has no locks.
    """
    until = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise StageError(
                    f"{file.name} can't be locked: {error.strerror}.\n"
                    "Several machines need a disk with locks that all see: NFS 4 has them, Lustre "
                    "if it is mounted with -o flock."
                ) from error
        if time.monotonic() >= until:
            return False
        time.sleep(_LOOK_S)


def disk_full(folder: Path, cause: object) -> StageError:
    """The error for a disk (or quota, or file-size limit) that is full."""
    return StageError(
        f"No room left to write in {folder} ({cause}).\n"
        f"Nothing was half-written. Free some space, or choose a folder on another disk, "
        f"and run the same command again."
    )


@contextlib.contextmanager
def locked(work: Path) -> Iterator[None]:
    """Hold the one lock of a work directory (made if missing); StageError names who holds it.

    The kernel frees the lock when its process ends, however it ends.
    """
    try:
        work.mkdir(parents=True, exist_ok=True)
        file = (work / ".lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise StageError(
            f"{work} can't be worked in: {error.strerror}.\nChoose another folder."
        ) from error
    with file:
        if not flocked(file, fcntl.LOCK_EX):
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise StageError(
                f"{work} is in use by {holder}.\nWait until it has ended, or choose another folder."
            )
        file.truncate(0)
        words = (Path(sys.argv[0]).name, *map(without_secrets, sys.argv[1:]))
        command = printable(shlex.join(words))
        line = f"process {os.getpid()} on {socket.gethostname()}: {command}\n"
        with word_os_errors(work):  # past the file's buffer, which close() would write again
            os.write(file.fileno(), line.encode())
        try:
            yield
        finally:
            file.truncate(0)
