"""The bytes of clips out of shards: on any disk, or below any URL that fsspec knows."""

import contextlib
import hashlib
import os
import time
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from k710.errors import MissingExtra, StageError, printable, shown
from k710.files import is_url
from k710.sources.outcomes import HEADER_BYTES, is_header_of, shard_name

__all__ = ["ByteSpan", "ShardReader"]

_MOST_OPEN = 64  # files: more than the shards of a window
_PAUSES_S = (1.0, 5.0)  # before a request over the network is made again


class ByteSpan(NamedTuple):
    """Where the bytes of a clip lie in a shard, and their SHA-256 in hexadecimal."""

    clip_id: str
    shard: int
    offset: int
    num_bytes: int
    digest: str


class ShardReader:
    """Reads spans of shards, each by one `pread`, or one ranged request.

    `folder` holds the tars. No clip is taken for another: the tar's own header before it must have
    its name. What comes over a network must have its hash too, and is kept under that in the folder
    `cache`, if there is one; nothing is thrown away there. A reader can be sent to another process,
    which opens files of its own.
    """

    def __init__(self, folder: str | Path, cache: Path | None = None) -> None:
        self.folder = str(folder).rstrip("/") if is_url(str(folder)) else str(folder)
        self.cache = cache
        self._files: OrderedDict[int, int] = OrderedDict()  # shard -> descriptor, latest last
        self._remote: Any = None

    def read(self, spans: Sequence[ByteSpan]) -> list[bytes]:
        """The bytes of each clip; over a network all are asked for at once.

        StageError where they can't be had.
        """
        if not is_url(self.folder):
            return [_check_clip(self._path(span), span, self._pread(span)) for span in spans]
        found = {span: data for span in spans if (data := self._read_cached(span)) is not None}
        missing = [span for span in dict.fromkeys(spans) if span not in found]
        for span, data in zip(missing, self._fetch(missing), strict=True):
            found[span] = _check_clip(self._path(span), span, data)
            if hashlib.sha256(found[span]).hexdigest() != span.digest:
                raise StageError(
                    f"{span.clip_id} in {printable(self._path(span))} has other bytes than the "
                    "index says: the shard is another one, or was damaged on the way."
                )
            self._keep(span, found[span])
        return [found[span] for span in spans]

    def _path(self, span: ByteSpan) -> str:
        return f"{self.folder}/{shard_name(span.shard)}.tar"

    def _pread(self, span: ByteSpan) -> bytes:
        path = self._path(span)
        try:
            descriptor = self._files.pop(span.shard, None)
            if descriptor is None:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._files[span.shard] = descriptor
            if len(self._files) > _MOST_OPEN:
                os.close(self._files.popitem(last=False)[1])
            return _pread(descriptor, span.offset - HEADER_BYTES, HEADER_BYTES + span.num_bytes)
        except OSError as error:
            words = printable(error.strerror or str(error))
            raise StageError(f"{printable(path)} can't be read: {words}.") from error

    def _fetch(self, spans: Sequence[ByteSpan]) -> list[bytes]:
        if not spans:
            return []
        paths = [self._path(span) for span in spans]
        starts = [span.offset - HEADER_BYTES for span in spans]
        ends = [span.offset + span.num_bytes for span in spans]
        for pause_s in (*_PAUSES_S, None):
            try:
                data: list[bytes] = self._open_remote().cat_ranges(
                    paths, starts, ends, on_error="raise"
                )
                return data
            except (MissingExtra, StageError):
                raise
            except Exception as error:  # backends raise what they like
                if pause_s is None or isinstance(error, FileNotFoundError):
                    words = printable(str(error) or type(error).__name__)
                    raise StageError(
                        f"{printable(paths[0])} can't be read, or a shard after it: {words}."
                    ) from error
                time.sleep(pause_s)
        raise AssertionError("the last try returns or raises")

    def _open_remote(self) -> Any:
        if self._remote is None:
            try:
                from fsspec.core import url_to_fs

                self._remote = url_to_fs(self.folder)[0]
            except ImportError as error:  # of fsspec, or of what it needs for this URL
                raise MissingExtra(f"{shown(self.folder)}: {printable(str(error))}") from error
            except ValueError as error:  # no such protocol
                raise StageError(f"{shown(self.folder)}: {printable(str(error))}") from error
        return self._remote

    def _read_cached(self, span: ByteSpan) -> bytes | None:
        if self.cache is None:
            return None
        try:
            data = _place(self.cache, span).read_bytes()
        except OSError:
            return None
        # A machine that stopped may have left a file without its bytes.
        return data if hashlib.sha256(data).hexdigest() == span.digest else None

    def _keep(self, span: ByteSpan, data: bytes) -> None:
        if self.cache is None:
            return
        path = _place(self.cache, span)
        partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(data)
            partial.replace(path)
        except OSError as error:
            words = printable(error.strerror or str(error))
            raise StageError(f"{printable(str(self.cache))} can't be written: {words}.") from error
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)

    def close(self) -> None:
        """Close all files; they are opened again if need be."""
        while self._files:
            os.close(self._files.popitem()[1])

    def __del__(self) -> None:
        self.close()

    def __reduce__(self) -> tuple[type["ShardReader"], tuple[str, Path | None]]:
        return ShardReader, (self.folder, self.cache)


def _place(cache: Path, span: ByteSpan) -> Path:
    name = bytes.fromhex(span.digest).hex()  # a hash and nothing else, whatever a table says
    return cache / name[:2] / f"{name}.mp4"


def _check_clip(path: str, span: ByteSpan, data: bytes) -> bytes:
    """The clip's bytes of those with the header before them."""
    missing = HEADER_BYTES + span.num_bytes - len(data)
    if missing:
        raise StageError(
            f"{printable(path)} ends {missing:,} bytes early: it is not the shard that the index "
            "is of. k710 verify tells more."
        )
    if not is_header_of(data, span.clip_id):
        raise StageError(
            f"{printable(path)} has no {shown(span.clip_id)} at byte {span.offset:,}: it is not "
            "the shard that the index is of. k710 verify tells more."
        )
    return data[HEADER_BYTES:]


def _pread(descriptor: int, offset: int, num_bytes: int) -> bytes:
    data = os.pread(descriptor, num_bytes, offset)
    while len(data) < num_bytes:  # 2 GiB at most at once, and less where a signal comes
        more = os.pread(descriptor, num_bytes - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data
