"""The bytes of clips out of shards: on any disk, or below any URL that fsspec knows."""

import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

from k710.errors import MissingExtra, StageError, printable, shown
from k710.shard_files import shard_name

__all__ = ["ShardReader"]

_MOST_OPEN = 64  # files: more than the shards of a window


class ShardReader:
    """Reads what lies at a place of a shard, by one `pread`, or one ranged request.

    `folder` holds the tars. It can be sent to another process, which opens files of its own.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = str(folder)
        self._files: OrderedDict[int, int] = OrderedDict()  # shard -> descriptor, latest last
        self._remote: Any = None

    def read(self, shard: int, offset: int, num_bytes: int) -> bytes:
        """`num_bytes` bytes from `offset` on. StageError where they can't be had."""
        name = f"{self.folder.rstrip('/')}/{shard_name(shard)}.tar"
        try:
            if "://" in self.folder:
                data = self._over_network(name, offset, num_bytes)
            else:
                data = _pread(self._opened(shard, name), offset, num_bytes)
        except OSError as error:
            words = error.strerror or str(error)
            raise StageError(f"{printable(name)} can't be read: {printable(words)}.") from error
        if len(data) != num_bytes:
            raise StageError(
                f"{printable(name)} ends {num_bytes - len(data):,} bytes early: it is not "
                "the shard that the index is of. k710 verify tells more."
            )
        return data

    def _opened(self, shard: int, name: str) -> int:
        descriptor = self._files.pop(shard, None)
        if descriptor is None:
            descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        self._files[shard] = descriptor
        if len(self._files) > _MOST_OPEN:
            os.close(self._files.popitem(last=False)[1])
        return descriptor

    def _over_network(self, name: str, offset: int, num_bytes: int) -> bytes:
        if self._remote is None:
            try:
                from fsspec.core import url_to_fs

                self._remote = url_to_fs(self.folder)[0]
            except ImportError as error:  # of fsspec, or of what it needs for this URL
                raise MissingExtra(f"{shown(self.folder)}: {printable(str(error))}") from error
            except ValueError as error:  # no such protocol
                raise StageError(f"{shown(self.folder)}: {printable(str(error))}") from error
        data: bytes = self._remote.cat_file(name, start=offset, end=offset + num_bytes)
        return data

    def close(self) -> None:
        """Close all files; they are opened again if need be."""
        while self._files:
            os.close(self._files.popitem()[1])

    def __del__(self) -> None:
        self.close()

    def __reduce__(self) -> tuple[type["ShardReader"], tuple[str]]:
        return ShardReader, (self.folder,)


def _pread(descriptor: int, offset: int, num_bytes: int) -> bytes:
    data = os.pread(descriptor, num_bytes, offset)
    while len(data) < num_bytes:  # 2 GiB at most at once, and less where a signal comes
        more = os.pread(descriptor, num_bytes - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data
