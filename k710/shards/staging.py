"""Where staged clips wait to be packed: a folder, or a URL of fsspec's, such as s3://bucket/dir.

Places are strings: a folder's, and `<folder>/<name>` of what lies in it. In a folder a file is
there whole or not at all. A URL's backend may do otherwise: what is read must be checked.

A folder in which k710 stages is called `staging`, `k710-` and twelve hexadecimal digits, or, in one
of these, as a part is; and it holds a marker. No other is ever removed, whatever a file says.
"""

import contextlib
import re
import shutil
import uuid
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from k710.errors import K710Error, MissingExtra, StageError, printable, shown
from k710.files import is_url

__all__ = ["MARKER", "clear", "names", "prepare", "read", "read_all", "remove", "write"]

MARKER = ".k710-staging"
_NAME = re.compile(r"(?:.*/)?(staging|k710-[0-9a-f]{12})(/[0-9]+_of_[0-9]+)?")
_AT_ONCE = 16  # requests: one takes 20 to 100 ms on an object store, whatever its size


def prepare(folder: str) -> None:
    """Make the folder, of a part also that of all parts, and mark them as k710's own.

    StageError where that can't be.
    """
    parts = _NAME.fullmatch(folder)
    whole = folder.rpartition("/")[0] if parts and parts[2] else folder
    for place in dict.fromkeys((whole, folder)):
        with _word_errors(place):
            if is_url(place):
                files, path = _open_url(place)
                files.makedirs(path, exist_ok=True)
            else:
                Path(place).mkdir(parents=True, exist_ok=True)
        write(f"{place}/{MARKER}", b"k710 stages clips here, and removes this folder when done\n")


def names(folder: str) -> set[str]:
    """The names of the files in the folder; none where it is not there."""
    if not is_url(folder):
        with contextlib.suppress(FileNotFoundError):
            return {path.name for path in Path(folder).iterdir()} - {MARKER}
        return set()
    with _word_errors(folder):
        files, path = _open_url(folder)
        files.invalidate_cache()
        try:
            found = {place.rpartition("/")[2] for place in files.ls(path, detail=False)}
            return found - {MARKER}
        except FileNotFoundError:
            return set()


def read(place: str) -> bytes | None:
    """The bytes at `place`; None where they can't be had."""
    if not is_url(place):
        try:
            return Path(place).read_bytes()
        except OSError:
            return None
    return _read_url(_open_url(place))


def read_all(places: Sequence[str]) -> Generator[bytes | None, None, None]:
    """What `read` says of each place, in turn; of URLs some at a time."""
    if not any(map(is_url, places)):
        yield from map(read, places)
        return
    # Opened here: fsspec would keep a connection for each thread that opens one.
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for first in range(0, len(places), _AT_ONCE):
            some = places[first : first + _AT_ONCE]
            opened = [_open_url(place) if is_url(place) else place for place in some]
            yield from threads.map(
                lambda o: read(o) if isinstance(o, str) else _read_url(o), opened
            )


def write(place: str, data: bytes) -> None:
    """Put `data` at `place`. StageError where that can't be."""
    folder = place.rpartition("/")[0]
    with _word_errors(folder):
        if is_url(place):
            files, path = _open_url(place)
            files.pipe_file(path, data)
            return
        # A name of its own: another machine may be at work on the same clip.
        partial = Path(f"{place}.{uuid.uuid4().hex}.tmp")
        try:
            partial.write_bytes(data)
            partial.replace(place)
        finally:
            partial.unlink(missing_ok=True)


def remove(places: Sequence[str]) -> None:
    """Remove what is at these places, in their order as far as one place follows another."""
    if not any(map(is_url, places)):
        for place in places:
            Path(place).unlink(missing_ok=True)
        return
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        list(threads.map(_remove_url, [_open_url(place) for place in places]))


def clear(folder: str) -> None:
    """Remove a folder that `prepare` made and what is in it, as far as that can be."""
    if not _NAME.fullmatch(folder) or read(f"{folder}/{MARKER}") is None:
        return
    if not is_url(folder):
        shutil.rmtree(folder, ignore_errors=True)
        return
    with contextlib.suppress(Exception):  # an object store has no folders to remove
        files, path = _open_url(folder)
        files.rm(path, recursive=True)


def _read_url(opened: tuple[Any, str]) -> bytes | None:
    files, path = opened
    try:
        data: bytes = files.cat_file(path)
    except Exception:  # backends raise what they like
        return None
    return data


def _remove_url(opened: tuple[Any, str]) -> None:
    files, path = opened
    with _word_errors(path), contextlib.suppress(FileNotFoundError):
        files.rm_file(path)


def _open_url(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it."""
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        words = f"Staging at {shown(url)} needs fsspec: pip install 'k710[ray]'"
        raise MissingExtra(words) from error
    try:
        files, path = url_to_fs(url)
    except ImportError as error:
        words = f"Staging at {shown(url)} needs another package, on every machine: {error}"
        raise MissingExtra(printable(words)) from error
    except Exception as error:  # backends raise what they like
        what = printable(str(error))[:200]
        words = f"{shown(url)} can't be staged at: {what}.\nGive a folder, or another URL."
        raise StageError(words) from error
    return files, path


@contextlib.contextmanager
def _word_errors(folder: str) -> Iterator[None]:
    try:
        yield
    except K710Error:
        raise
    except Exception as error:  # backends raise what they like
        what = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise StageError(
            f"{printable(folder)} can't be staged at: {printable(str(what))[:300]}.\n"
            "Mend that, and run the same command again: what is staged stays."
        ) from error
