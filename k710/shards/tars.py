"""Tar archives with the same bytes for the same members: no times, owners, or padding of chance."""

import hashlib
import tarfile
from types import TracebackType
from typing import IO, Self

__all__ = ["TarWriter"]


class TarWriter:
    """Writes plain files to a .tar one after the other, and hashes it on the way.

    After the `with` block `num_bytes` and `sha256` are those of the whole archive.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.num_bytes = 0

    @property
    def sha256(self) -> str:
        """Of all that was written so far, in hex."""
        return self._digest.hexdigest()

    def add(self, name: str, data: bytes) -> int:
        """Append a file; returns the offset of its bytes in the archive."""
        header = tarfile.TarInfo(name)
        header.size = len(data)
        header.mode = 0o644
        self._write(header.tobuf(tarfile.USTAR_FORMAT))
        offset = self.num_bytes
        self._write(data)
        self._write(bytes(-len(data) % tarfile.BLOCKSIZE))
        return offset

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            end = self.num_bytes + 2 * tarfile.BLOCKSIZE
            self._write(bytes(end + -end % tarfile.RECORDSIZE - self.num_bytes))

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self.num_bytes += len(data)
