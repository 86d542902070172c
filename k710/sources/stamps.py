"""Whether a file is the one that was looked into before: its size, its time and its inode tell.

A tree that was moved or copied has new stamps. Then what was known of its files is looked at anew;
that the files are copies of clips goes by their names, and is not lost.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from stat import S_ISREG

__all__ = ["Seen", "Stamp", "look", "look_at_all", "stamp_of"]

_AT_ONCE = 16  # on a network disk each look waits for the server
_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Stamp:
    """What changes when a file is written anew or another takes its name."""

    mtime_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is at a path: the file's size and stamp, or `why` there is none to be read."""

    num_bytes: int | None = None
    stamp: Stamp | None = None
    why: str | None = None


def stamp_of(stat: os.stat_result) -> Stamp:
    """Take the stamp out of what os.stat says."""
    return Stamp(stat.st_mtime_ns, stat.st_ino)


def look(path: str, *, is_opened: bool = False) -> Seen:
    """Look at the file at `path`; with `is_opened` it must be readable too, not just be there."""
    try:
        stat = os.stat(path)
        if not S_ISREG(stat.st_mode):
            return Seen(why="is no plain file any more")
        if is_opened:
            with open(path, "rb", buffering=0) as file:
                file.read(1)
    except (OSError, ValueError) as error:  # a name with a NUL in it
        return Seen(why=f"can't be read: {getattr(error, 'strerror', None) or error}")
    return Seen(stat.st_size, stamp_of(stat))


def look_at_all(paths: Sequence[str], *, is_opened: bool = False) -> Iterator[tuple[str, Seen]]:
    """Yield each path with what is there, in their order."""

    def look_at(first: int) -> list[tuple[str, Seen]]:
        some = paths[first : first + _BATCH]
        return [(path, look(path, is_opened=is_opened)) for path in some]

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for found in pool.map(look_at, range(0, len(paths), _BATCH)):
            yield from found
