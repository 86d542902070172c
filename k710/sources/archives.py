"""The plain files in a .tar or .tar.gz, in one forward pass. The archive is not trusted.

No path is ever made from a member's name, and nothing is written. What an archive says of sizes
is held against what is there, so that no header makes us read or keep more than the file can hold;
a .gz may unpack to `MAX_RATIO` times what was read of it. Damage ends the pass with a SourceError,
but what came before it counts.

k710.unpack takes no archive that has so much as a link in it, and hashes to the end; here one that
is cut short still serves, and a .tar is passed over by seeking: they share no code.

Not covered: bzip2, xz, zstd and zip; global pax headers; damage inside a member of a plain .tar.
"""

import contextlib
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from k710.errors import SourceError, printable

__all__ = ["ENDINGS", "Member", "members", "whole_members"]

ENDINGS = (".tar", ".tar.gz", ".tgz")
"""How the names of archives end, in lower case."""

MAX_MEMBER_BYTES = 64 * 1024**3  # what is larger is no video of a lab's, and passed over
MAX_MEMBERS = 10_000_000
MAX_RATIO = 50  # unpacked to packed; videos don't shrink, but many small headers do
FREE_BYTES = 64 * 1024**2  # unpacked before the ratio counts
MAX_NAME_BYTES = 64 * 1024  # a long name or a pax header, which are kept whole
_BLOCK_BYTES = tarfile.BLOCKSIZE
_PACKED_BYTES = 128 * 1024  # of a .gz, read at once
_CHUNK_BYTES = 512 * 1024  # of a member, given at once
_ZEROS = bytes(_BLOCK_BYTES)
_GZIP_MAGIC = b"\x1f\x8b"
_LONG_NAME = (tarfile.GNUTYPE_LONGNAME,)
_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_EXTENSIONS = (*_LONG_NAME, tarfile.GNUTYPE_LONGLINK, *_PAX, tarfile.XGLTYPE)


@dataclass(frozen=True, slots=True)
class Member:
    """A plain file in an archive. Its bytes can be had until the next member is asked for."""

    name: str  # as the archive has it; bytes that are no UTF-8 as surrogates
    size_bytes: int
    offset: int | None  # of its bytes in the file; None where that is compressed
    _stream: "_Stream" = field(repr=False, compare=False)
    _start: int = field(repr=False, compare=False)  # unpacked

    def chunks(self) -> Iterator[bytes]:
        """All bytes of the member, in pieces. SourceError where the archive is damaged."""
        if self._stream.position != self._start:
            raise ValueError(f"{self.name!r} was read, or passed, before")
        end = self._start + self.size_bytes
        while left := end - self._stream.position:
            chunk = self._stream.read(min(left, _CHUNK_BYTES))
            if not chunk:
                raise self._stream.error("is cut short inside a member")
            yield chunk

    def skip(self) -> None:
        """Pass over the bytes. SourceError where they aren't all there."""
        self._stream.skip(self._start + self.size_bytes - self._stream.position)


def whole_members(
    path: Path, *, on_skipped: Callable[[str], None] = lambda name: None
) -> Iterator[Member]:
    """As `members`, each only when its bytes have been passed and are all there: for listing."""
    for member in members(path, on_skipped=on_skipped):
        member.skip()
        yield member


def members(
    path: Path, *, on_skipped: Callable[[str], None] = lambda name: None
) -> Iterator[Member]:
    """The plain files of the archive at `path`, in its order; two may have the same name.

    `on_skipped` is called with the name of each link, device, sparse file, or file above
    `MAX_MEMBER_BYTES`; folders are no matter. SourceError, which names the archive, where it can't
    be read, and where the damage is, after the members before it.
    """
    with _opened(path) as stream:
        for number, header in enumerate(_headers(stream), start=1):
            if number > MAX_MEMBERS:
                raise stream.error(f"holds more than {MAX_MEMBERS:,} members")
            start = stream.position
            end = start + header.stored_bytes
            if header.is_plain and header.stored_bytes <= MAX_MEMBER_BYTES:
                stream.refuse_beyond(end)
                offset = start if isinstance(stream, _Plain) else None
                yield Member(header.name, header.stored_bytes, offset, stream, start)
            elif not header.is_folder:
                on_skipped(header.name)
            stream.skip(end + -end % _BLOCK_BYTES - stream.position)
        stream.refuse_more()


# --- headers


@dataclass(frozen=True, slots=True)
class _Header:
    name: str
    stored_bytes: int  # that follow in the archive, without the padding to whole blocks
    is_plain: bool
    is_folder: bool


def _headers(stream: "_Stream") -> Iterator[_Header]:
    """Each member's header, the stream behind it; the caller passes over its bytes."""
    long_name: bytes | None = None
    pax: dict[bytes, bytes] = {}
    while (block := _block(stream)) is not None:
        info = _parsed(stream, block)
        if info.type in _EXTENSIONS:
            text = _extension(stream, info)
            if info.type in _LONG_NAME:
                long_name = text.partition(b"\0")[0]
            elif info.type in _PAX:
                pax |= _pax_records(stream, text)
            continue
        is_sparse = info.type == tarfile.GNUTYPE_SPARSE
        extended = is_sparse and block[482]
        while extended:  # more of the map of a sparse file
            extended = _exactly(stream, _BLOCK_BYTES)[504]
        is_sparse = is_sparse or any(key.startswith(b"GNU.sparse.") for key in pax)
        size = _size(stream, info, pax)
        raw = pax.get(b"path", long_name)
        yield _Header(
            name=info.name if raw is None else raw.decode("utf-8", "surrogateescape"),
            # As tarfile: of the known kinds only plain files have bytes, whatever headers say.
            stored_bytes=size if info.isreg() or info.type not in tarfile.SUPPORTED_TYPES else 0,
            is_plain=info.isreg() and not is_sparse,
            is_folder=info.isdir(),
        )
        long_name, pax = None, {}


def _block(stream: "_Stream") -> bytes | None:
    """The next block; None where it is the end mark."""
    block = stream.read(_BLOCK_BYTES)
    while 0 < len(block) < _BLOCK_BYTES and (more := stream.read(_BLOCK_BYTES - len(block))):
        block += more
    if len(block) < _BLOCK_BYTES:
        raise stream.error("is cut short" if stream.position else "is empty")
    return None if block == _ZEROS else block


def _parsed(stream: "_Stream", block: bytes) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        at = stream.position - _BLOCK_BYTES
        raise stream.error(f"is damaged at byte {at:,}" if at else "is no tar archive") from error


def _exactly(stream: "_Stream", size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = stream.read(size - len(data))
        if not more:
            raise stream.error("is cut short")
        data += more
    return data


def _extension(stream: "_Stream", info: tarfile.TarInfo) -> bytes:
    if not 0 <= info.size <= MAX_NAME_BYTES:
        raise stream.error(f"has a header of {info.size} bytes")
    text = _exactly(stream, info.size)
    stream.skip(-info.size % _BLOCK_BYTES)
    return text


def _pax_records(stream: "_Stream", text: bytes) -> dict[bytes, bytes]:
    """Lines like `25 path=a/long/name.mp4`, which begin with their own length."""
    records = {}
    at = 0
    while at < len(text) and text[at]:
        digits, _, _ = text[at : at + 8].partition(b" ")
        length = int(digits) if digits.isdigit() else 0
        record = text[at + len(digits) + 1 : at + length]
        key, equals, value = record[:-1].partition(b"=")
        if at + length > len(text) or not record.endswith(b"\n") or not equals:
            raise stream.error("has a damaged header")
        records[key] = value
        at += length
    return records


def _size(stream: "_Stream", info: tarfile.TarInfo, pax: dict[bytes, bytes]) -> int:
    digits = pax.get(b"size")
    if digits is not None and not (digits.isdigit() and len(digits) < 20):
        raise stream.error("has a damaged header")
    size = info.size if digits is None else int(digits)
    if size < 0:
        raise stream.error(f"has a member of {size} bytes")
    return size


# --- bytes


@contextlib.contextmanager
def _opened(path: Path) -> Iterator["_Stream"]:
    try:
        # Unbuffered: a buffer would be read anew after every seek.
        file = path.open("rb", buffering=0)
    except OSError as error:
        raise _unreadable(path, error) from error
    with file:
        try:
            magic = file.read(len(_GZIP_MAGIC))
            file.seek(0)
        except OSError as error:
            raise _unreadable(path, error) from error
        yield (_Gunzipped if magic == _GZIP_MAGIC else _Plain)(path, file)


def _unreadable(path: Path, error: OSError) -> SourceError:
    return SourceError(f"{path} can't be read: {error.strerror}.")


class _Stream:
    """Bytes that are read forward only; `position` counts those that were read or passed over."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.position = 0
        self._path = path
        self._file = file

    def error(self, words: str) -> SourceError:
        """The error that says what is wrong with the archive."""
        return SourceError(f"{self._path} {words}.")

    def read(self, size: int) -> bytes:
        """At most `size` bytes, none only at the end."""
        raise NotImplementedError

    def skip(self, size: int) -> None:
        """Pass over `size` bytes; SourceError where there are fewer."""
        raise NotImplementedError

    def refuse_beyond(self, end: int) -> None:
        """SourceError where it is known that there are no bytes up to `end`."""

    def _from_file(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except OSError as error:
            raise _unreadable(self._path, error) from error

    def refuse_more(self) -> None:
        """SourceError where something other than padding follows the end mark."""
        if self.read(_CHUNK_BYTES).strip(b"\0"):
            raise self.error("goes on after its end, and what follows is not read")


class _Plain(_Stream):
    def __init__(self, path: Path, file: IO[bytes]) -> None:
        super().__init__(path, file)
        self._num_bytes = os.fstat(file.fileno()).st_size

    def read(self, size: int) -> bytes:
        data = self._from_file(size)
        self.position += len(data)
        return data

    def skip(self, size: int) -> None:
        self.refuse_beyond(self.position + size)
        self.position += size
        self._file.seek(self.position)

    def refuse_beyond(self, end: int) -> None:
        if end > self._num_bytes:
            raise self.error("is cut short")


class _Gunzipped(_Stream):
    # gzip.GzipFile gives 8 kB at a time before Python 3.12, and takes 1.8 times as long.
    def __init__(self, path: Path, file: IO[bytes]) -> None:
        super().__init__(path, file)
        self._zlib = zlib.decompressobj(wbits=31)
        self._left = b""  # packed bytes that were read from the file and not used yet
        self._packed = self._unpacked = 0
        self._chunk = b""
        self._chunk_bytes = _CHUNK_BYTES
        self._at = 0  # of `_chunk`, what was read

    def read(self, size: int) -> bytes:
        if self._at == len(self._chunk):
            self._chunk, self._at = self._next_chunk(), 0
        data = self._chunk[self._at : self._at + size]
        self._at += len(data)
        self.position += len(data)
        return data

    def skip(self, size: int) -> None:
        while size:
            if self._at == len(self._chunk):
                self._chunk, self._at = self._next_chunk(), 0
                if not self._chunk:
                    raise self.error("is cut short")
            passed = min(size, len(self._chunk) - self._at)
            self._at += passed
            self.position += passed
            size -= passed

    def refuse_more(self) -> None:
        # To the end, where the checksum is.
        while chunk := self.read(_CHUNK_BYTES):
            if chunk.strip(b"\0"):
                raise self.error("goes on after its end, and what follows is not read")

    def _next_chunk(self) -> bytes:
        """More of the unpacked bytes; none at the end."""
        chunk = b""
        while not chunk:
            packed = self._left or self._from_file(_PACKED_BYTES)
            self._packed += 0 if self._left else len(packed)
            if self._zlib.eof:  # what follows may be another .gz (pigz, bgzip), or padding
                if not packed:
                    return b""
                packed = self._left = packed.lstrip(b"\0")
                if not packed:
                    continue
                self._zlib = zlib.decompressobj(wbits=31)
            chunk = self._unzip(packed)
        self._unpacked += len(chunk)
        if self._unpacked > FREE_BYTES + MAX_RATIO * self._packed:
            raise self.error(f"unpacks to more than {MAX_RATIO} times its size, as no video does")
        return chunk

    def _unzip(self, packed: bytes) -> bytes:
        before = self._zlib.copy()
        try:
            chunk = self._zlib.decompress(packed, self._chunk_bytes)
        except zlib.error as error:
            if self._chunk_bytes == _BLOCK_BYTES:
                raise self.error(f"is damaged: {printable(str(error))}") from error
            # Again in small steps, for what comes out before the damage.
            self._zlib, self._chunk_bytes = before, _BLOCK_BYTES
            return self._unzip(packed)
        if not (chunk or packed or self._zlib.eof):
            raise self.error("is cut short")
        self._left = self._zlib.unconsumed_tail or self._zlib.unused_data
        return chunk
