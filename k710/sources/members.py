"""Chosen members of an archive, each at hand for as long as it is needed."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from k710.errors import SourceError
from k710.sources.archives import Member, members
from k710.statuses import Status
from k710.video.byte_range import ByteRange

__all__ = ["Extraction"]

T = TypeVar("T")


@dataclass(slots=True)
class Extraction(Generic[T]):
    """The members `wanted` of an archive, by (name, size), each at hand while it is needed.

    Iterate once, for one pass: (what, where, is_unpacked) for each. A member of a .tar is read
    where it lies; one of a .tar.gz is unpacked to a file in `scratch`, which the caller removes
    when it is done with it. What was found goes out of `wanted`; of what is left there at the end,
    `lost` says the status and why.
    """

    path: Path
    wanted: dict[tuple[str, int | None], T]
    scratch: Path
    lost: tuple[Status, str] = (Status.MISSING, "it is no longer in the archive")

    def __iter__(self) -> Iterator[tuple[T, ByteRange, bool]]:
        # By the whole path: archives in several folders may have one name.
        name = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]
        try:
            for number, member in enumerate(members(self.path)):
                key = member.name, member.size_bytes
                if key in self.wanted:
                    source = _locate(self.path, member, self.scratch / f"{name}.{number}")
                    yield self.wanted.pop(key), source, member.offset is None
                if not self.wanted:
                    break
        except SourceError as error:
            why = str(error).removeprefix(str(self.path)).strip(" .")
            self.lost = (
                Status.DAMAGED if self.path.is_file() else Status.MISSING,
                f"the archive {why}",
            )


def _locate(path: Path, member: Member, target: Path) -> ByteRange:
    if member.offset is not None:
        return ByteRange(str(path), member.offset, member.size_bytes)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        for chunk in member.chunks():
            file.write(chunk)
    return ByteRange(str(target))
