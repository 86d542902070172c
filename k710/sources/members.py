"""Chosen members of an archive, each at hand for as long as it is needed."""

import hashlib
import os
from collections.abc import Generator, MutableMapping
from pathlib import Path
from typing import TypeVar

from k710.errors import SourceError
from k710.sources.archives import Member, members
from k710.video.byte_range import ByteRange

__all__ = ["take_members"]

T = TypeVar("T")


def take_members(
    path: Path, wanted: MutableMapping[tuple[str, int | None], T], scratch: Path
) -> Generator[tuple[T, ByteRange, bool], None, tuple[str, str]]:
    """What is `wanted` of the archive at `path`, by (name, size), with its bytes, in one pass.

    Yields (what, where, is_unpacked). A member of a .tar is read where it lies; one of a .tar.gz is
    unpacked to a file in `scratch`, which the caller removes when it is done with it. What was had
    goes out of `wanted`; of what is left the return value says the status and why.
    """
    # By the whole path: archives in several folders may have one name.
    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    try:
        for number, member in enumerate(members(path)):
            key = member.name, member.size_bytes
            if key in wanted:
                source = _located(path, member, scratch / f"{name}.{number}")
                yield wanted.pop(key), source, member.offset is None
            if not wanted:
                break
    except SourceError as error:
        why = str(error).removeprefix(str(path)).strip(" .")
        return "damaged" if path.is_file() else "missing", f"the archive {why}"
    return "missing", "it is no longer in the archive"


def _located(path: Path, member: Member, target: Path) -> ByteRange:
    if member.offset is not None:
        return ByteRange(str(path), member.offset, member.size_bytes)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        for chunk in member.chunks():
            file.write(chunk)
    return ByteRange(str(target))
