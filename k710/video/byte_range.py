"""Where a video's bytes lie: in a file of their own, or inside a .tar that stays packed."""

import contextlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from k710.errors import MediaError

__all__ = ["ByteRange"]


@dataclass(frozen=True, slots=True)
class ByteRange:
    """`num_bytes` bytes of the file at `path`, from `offset` on; both None: the whole file."""

    path: str
    offset: int | None = None
    num_bytes: int | None = None

    def __post_init__(self) -> None:
        if (self.offset is None) != (self.num_bytes is None):
            raise ValueError(f"offset {self.offset} and num_bytes {self.num_bytes} go together")

    @contextlib.contextmanager
    def opened(self) -> Iterator[str | BinaryIO]:
        """What `k710.video.frames.open_video` takes: a path, or a file of just these bytes."""
        if self.offset is None:
            yield self.path
            return
        with open(self.path, "rb", buffering=0) as file:
            yield cast(BinaryIO, _Part(file, self.offset, self.num_bytes or 0))

    def chunks(self, size: int = 1 << 20) -> Iterator[bytes]:
        """All the bytes in pieces. OSError where the file can't be read."""
        with open(self.path, "rb", buffering=0) as file:
            file.seek(self.offset or 0)
            left = self.num_bytes if self.offset is not None else None
            while chunk := file.read(size if left is None else min(size, left)):
                if left is not None:
                    left -= len(chunk)
                yield chunk

    def size_bytes(self) -> int:
        """How many bytes are there now. OSError where the file is not."""
        size = Path(self.path).stat().st_size
        if self.offset is None:
            return size
        return max(0, min(self.num_bytes or 0, size - self.offset))


class _Part(io.RawIOBase):
    """Some bytes of an open file as a file of their own, which PyAV can seek in."""

    def __init__(self, file: io.FileIO, offset: int, num_bytes: int) -> None:
        self._fd: int = file.fileno()
        self._offset = offset
        self._num_bytes = num_bytes
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        left = self._num_bytes - self._at
        wanted = left if size is None or size < 0 else min(size, left)
        if wanted <= 0:
            return b""
        try:
            data = os.pread(self._fd, wanted, self._offset + self._at)
        except OSError as error:
            raise MediaError(f"the archive can't be read: {error.strerror}.") from error
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._num_bytes}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at
