"""Where the members of a zip archive lie, for archives that say one thing to every reader.

A zip file has its directory at its end, found from a record that comes last. Readers differ in
where they look: with something before or after what the record says, one file shows other members
to Python than to PyTorch. PyTorch writes none of that, and what it did not write is refused here:
a comment, bytes between directory and record, names that are the same but for their case.

Nothing is unpacked. Tensors are stored as they are, so a member can be no larger than the file.
"""

import struct
from dataclasses import dataclass
from mmap import mmap

__all__ = ["Member", "read_directory"]

_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_IN_64 = 0xFFFFFFFF  # a number that stands elsewhere, as one of 64 bits
_ENCRYPTED = 1
_MOST_MEMBERS = 200_000  # a checkpoint has one for each tensor, those of its optimizer too


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive."""

    name: str
    offset: int  # of its header
    num_bytes: int
    is_stored: bool  # as it is, neither packed nor encrypted

    def span(self, data: mmap) -> tuple[int, int]:
        """Where its bytes begin and end in the archive. ValueError if it has none there."""
        if not self.is_stored:
            raise ValueError(f"{self.name!r} in it is packed or encrypted, as PyTorch writes none")
        header = _LOCAL.unpack_from(data, self.offset)
        name_bytes, more_bytes = header[-2:]
        name_at = self.offset + _LOCAL.size
        name = data[name_at : name_at + name_bytes]
        start = name_at + name_bytes + more_bytes
        is_same = header[0] == b"PK\x03\x04" and header[3] == 0 and name == self.name.encode()
        if not is_same or start + self.num_bytes > len(data):
            raise ValueError(f"{self.name!r} in it is not where its directory says")
        return start, start + self.num_bytes


def read_directory(data: mmap) -> dict[str, Member]:
    """The members by name. ValueError for what is no zip, or not as PyTorch writes them."""
    start, end, num = _find_directory(data)
    members: dict[str, Member] = {}
    folded: set[str] = set()
    at = start
    for _ in range(num):
        member, at = _read_entry(data, at, end)
        if member.name.lower() in folded:
            raise ValueError(f"it has {member.name!r} twice")
        folded.add(member.name.lower())
        members[member.name] = member
    if at != end:
        raise ValueError("its directory is longer than its members")
    return members


def _find_directory(data: mmap) -> tuple[int, int, int]:
    """Where the directory begins and ends, and how many members it has."""
    last = len(data) - _END.size
    if last < 0 or data[last : last + 4] != b"PK\x05\x06":
        raise ValueError("it does not end with the record of a zip archive: it is cut off, or more")
    _, *disks, here, num, size, start, comment = _END.unpack_from(data, last)
    said, end = (here, num, size, start), last
    if last >= _LOCATOR.size and data[last - _LOCATOR.size :][:4] == b"PK\x06\x07":
        _, _, end, _ = _LOCATOR.unpack_from(data, last - _LOCATOR.size)
        kind, length, _, _, *disks, here, num, size, start = _END_64.unpack_from(data, end)
        is_whole = kind == b"PK\x06\x06" and end + 12 + length == last - _LOCATOR.size
        both = zip(said, (here, num, size, start), (0xFFFF, 0xFFFF, _IN_64, _IN_64), strict=True)
        if not is_whole or any(short not in (long, unsaid) for short, long, unsaid in both):
            raise ValueError("its two end records say different things")
    if start + size != end or comment or here != num or any(disks):
        raise ValueError("its directory is not where its end record says")
    if num > _MOST_MEMBERS:
        raise ValueError(f"it has {num:,} members, and no checkpoint has so many")
    return start, end, num


def _read_entry(data: mmap, at: int, end: int) -> tuple[Member, int]:
    """A member, and where the next one begins."""
    if at + _ENTRY.size > end:
        raise ValueError("its directory is cut off")
    kind, _, _, flags, method, _, _, _, packed, size, *lengths, _, _, _, offset = (
        _ENTRY.unpack_from(data, at)
    )
    name_bytes, more_bytes, comment_bytes = lengths
    name_at = at + _ENTRY.size
    more_at = name_at + name_bytes
    following = more_at + more_bytes + comment_bytes
    if kind != b"PK\x01\x02" or following > end:
        raise ValueError("its directory is damaged")
    long = iter(_long_numbers(data[more_at : more_at + more_bytes]))
    size, packed, offset = (
        next(long, _IN_64) if number == _IN_64 else number for number in (size, packed, offset)
    )
    is_stored = method == 0 and not flags & _ENCRYPTED and size == packed
    return Member(data[name_at:more_at].decode(), offset, size, is_stored), following


def _long_numbers(more: bytes) -> tuple[int, ...]:
    """Of an entry's extra fields the one with numbers of 64 bits, or nothing."""
    at = 0
    while at + 4 <= len(more):
        kind, length = struct.unpack_from("<2H", more, at)
        if kind == 1:
            count = min(length, len(more) - at - 4) // 8
            return struct.unpack_from(f"<{count}Q", more, at + 4)
        at += 4 + length
    return ()
