"""Archives that say one thing to one reader and another to the next, and pickles with code."""

import struct
import zlib
from pathlib import Path
from typing import Any

Members = list[tuple[str, bytes]]


class Evil:
    """What writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def write_two_directories(path: Path, *, last: Members, named: Members) -> None:
    """A zip file with a directory just before its end record, and another that the record names.

    Python's zipfile takes the one that comes `last`, PyTorch's reader the one that is `named`.
    """
    entries, directory = _entries(named, 0)
    entries += bytes(len(_entries(last, 0)[0]))  # so that no offset is below 0
    start = len(entries)
    other_at = start + max(len(directory), len(_entries(last, 0)[1]))
    others, other_directory = _entries(last, other_at)
    num_bytes = max(len(directory), len(other_directory))
    # Python takes what comes before for a program, and adds its length to each offset.
    shift = other_at + len(others) - start
    _, other_directory = _entries(last, other_at - shift)
    record = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, len(named), len(named), num_bytes, start, 0)
    parts = (entries, _padded(directory, num_bytes), others, _padded(other_directory, num_bytes))
    path.write_bytes(b"".join(parts) + record)


def _entries(members: Members, start: int) -> tuple[bytes, bytes]:
    """Members as they lie from `start` on, each stored as it is, and the directory of them."""
    entries, directory = b"", b""
    for name, data in members:
        sizes = (zlib.crc32(data), len(data), len(data), len(name))
        head = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 0, 0, 0, *sizes, 0)
        at = start + len(entries)
        directory += struct.pack(
            "<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 0, 0, 0, *sizes, 0, 0, 0, 0, 0, at
        )
        directory += name.encode()
        entries += head + name.encode() + data
    return entries, directory


def _padded(directory: bytes, num_bytes: int) -> bytes:
    """The directory, its last member with a comment so long that it has as many bytes."""
    at = directory.rindex(b"PK\1\2") + 32
    comment = struct.pack("<H", num_bytes - len(directory))
    return directory[:at] + comment + directory[at + 2 :] + b" " * (num_bytes - len(directory))
