"""The plain files in a .tar or .tar.gz, in one forward pass. The archive is not trusted.

No path is ever made from a member's name, and nothing is written. What an archive says of sizes
is held against what is there, so that no header makes us read or keep more than the file can hold;
a .gz may unpack to `MAX_RATIO` times what was read of it. Damage ends the pass with a SourceError,
but what came before it counts.

`k710.annotations.unpack` refuses an archive with so much as a link in it. Here one that is cut
short still serves, and members of a .tar are passed over by seeking. Headers are not read by
tarfile.TarFile: that of Python 3.11.7 takes damaged pax headers for sound ones.

Not covered: bzip2, xz, zstd and zip; global pax headers; damage inside a member of a plain .tar.
"""

import hashlib
import io
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from k710.errors import SourceError, printable
from k710.statuses import Status
from k710.video.byte_range import ByteRange

__all__ = ["ENDINGS", "LACKING", "Extraction", "Member", "members", "whole_members"]

T = TypeVar("T")

ENDINGS = (".tar", ".tar.gz", ".tgz")
"""How the names of archives end, in lower case."""

LACKING = "it is no longer in the archive"
"""What is said of a member that an archive does not hold, which was read."""

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
        """Yield all bytes of the member, in pieces. SourceError where the archive is damaged."""
        if self._stream.position != self._start:
            raise ValueError(f"{self.name!r} was read, or passed, before")
        end = self._start + self.size_bytes
        while left := end - self._stream.position:
            yield self._stream.read_exactly(min(left, _CHUNK_BYTES))

    def skip(self) -> None:
        """Pass over the bytes. SourceError where they aren't all there."""
        self._stream.skip_to(self._start + self.size_bytes)


def whole_members(
    path: Path, *, on_skipped: Callable[[str], None] = lambda name: None
) -> Iterator[Member]:
    """Yield what `members` yields, each when its bytes are passed and all there: for listing."""
    for member in members(path, on_skipped=on_skipped):
        member.skip()
        yield member


def members(
    path: Path, *, on_skipped: Callable[[str], None] = lambda name: None
) -> Iterator[Member]:
    """Yield the plain files of the archive at `path`, in its order; two may have the same name.

    `on_skipped` is called with the name of each link, device, sparse file, or file above
    `MAX_MEMBER_BYTES`; folders are no matter. SourceError, which names the archive, where it can't
    be read, and where the damage is, after the members before it.
    """
    try:
        # Unbuffered: a buffer would be read anew after every seek.
        with path.open("rb", buffering=0) as file:
            is_packed = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
            file.seek(0)
            stream = _Gunzipped(path, file) if is_packed else _Stream(path, file)
            yield from _members(stream, on_skipped)
    except OSError as error:
        raise _unreadable(path, error) from error


def _members(stream: "_Stream", on_skipped: Callable[[str], None]) -> Iterator[Member]:
    for number, header in enumerate(_headers(stream), start=1):
        if number > MAX_MEMBERS:
            raise stream.error(f"holds more than {MAX_MEMBERS:,} members")
        start = stream.position
        end = start + header.size
        is_plain = header.isreg() and header.type != tarfile.GNUTYPE_SPARSE
        if is_plain and header.size <= MAX_MEMBER_BYTES:
            stream.refuse_beyond(end)
            yield Member(
                header.name, header.size, None if stream.is_packed else start, stream, start
            )
        elif not header.isdir():
            on_skipped(header.name)
        stream.skip_to(end + -end % _BLOCK_BYTES)
    stream.refuse_more()


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
    lost: tuple[Status, str] = (Status.MISSING, LACKING)

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
            is_unread = isinstance(error.__cause__, OSError)
            status = Status.MISSING if is_unread else Status.DAMAGED
            self.lost = status, f"the archive {why}"


def _locate(path: Path, member: Member, target: Path) -> ByteRange:
    if member.offset is not None:
        return ByteRange(str(path), member.offset, member.size_bytes)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        for chunk in member.chunks():
            file.write(chunk)
    return ByteRange(str(target))


# --- headers


def _headers(stream: "_Stream") -> Iterator[tarfile.TarInfo]:
    """Yield each member's header, the stream behind it; the caller passes over its bytes.

    `name` and `size`, the bytes that follow, are as extended headers have them; the type of every
    sparse file is GNUTYPE_SPARSE.
    """
    long_name: bytes | None = None
    pax: dict[bytes, bytes] = {}
    while (block := _read_block(stream)) is not None:
        info = _parse(stream, block)
        if info.type in _EXTENSIONS:
            text = _read_extension(stream, info)
            if info.type in _LONG_NAME:
                long_name = text.partition(b"\0")[0]
            elif info.type in _PAX:
                pax |= _pax_records(stream, text)
            continue
        extended = info.type == tarfile.GNUTYPE_SPARSE and block[482]
        while extended:  # more of the map of a sparse file
            extended = stream.read_exactly(_BLOCK_BYTES)[504]
        size = _size(stream, info, pax)
        # As tarfile: of the known kinds only plain files have bytes, whatever headers say.
        info.size = size if info.isreg() or info.type not in tarfile.SUPPORTED_TYPES else 0
        if info.isreg() and any(key.startswith(b"GNU.sparse.") for key in pax):
            info.type = tarfile.GNUTYPE_SPARSE
        raw = pax.get(b"path", long_name)
        if raw is not None:
            info.name = raw.decode("utf-8", "surrogateescape")
        yield info
        long_name, pax = None, {}


def _read_block(stream: "_Stream") -> bytes | None:
    """Read the next block; None where it is the end mark."""
    block = stream.read(_BLOCK_BYTES)
    if len(block) < _BLOCK_BYTES:
        raise stream.error("is cut short" if stream.position else "is empty")
    return None if block == _ZEROS else block


def _parse(stream: "_Stream", block: bytes) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        at = stream.position - _BLOCK_BYTES
        raise stream.error(f"is damaged at byte {at:,}" if at else "is no tar archive") from error


def _read_extension(stream: "_Stream", info: tarfile.TarInfo) -> bytes:
    if not 0 <= info.size <= MAX_NAME_BYTES:
        raise stream.error(f"has a header of {info.size} bytes")
    text = stream.read_exactly(info.size)
    stream.read_exactly(-info.size % _BLOCK_BYTES)
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


def _unreadable(path: Path, error: OSError) -> SourceError:
    return SourceError(f"{path} can't be read: {error.strerror}.")


class _Stream:
    """The bytes of a plain .tar, read forward only."""

    is_packed = False

    def __init__(self, path: Path, file: io.FileIO) -> None:
        self.position = 0  # behind what was read or passed over
        self._path = path
        self._file = file
        self._num_bytes = os.fstat(file.fileno()).st_size

    def error(self, words: str) -> SourceError:
        """Make the error that says what is wrong with the archive."""
        return SourceError(f"{self._path} {words}.")

    def read(self, size: int) -> bytes:
        """Read `size` bytes, fewer only at the end."""
        data = b"".join(self._pieces(size))
        self.position += len(data)
        return data

    def read_exactly(self, size: int) -> bytes:
        """Read `size` bytes; SourceError where there are fewer."""
        data = self.read(size)
        if len(data) < size:
            raise self.error("is cut short")
        return data

    def skip_to(self, position: int) -> None:
        """Pass over the bytes up to `position`; SourceError where there are fewer."""
        self.refuse_beyond(position)
        self.position = self._file.seek(position)

    def refuse_beyond(self, end: int) -> None:
        """SourceError where it is known that there are no bytes up to `end`."""
        if end > self._num_bytes:
            raise self.error("is cut short")

    def refuse_more(self) -> None:
        """SourceError where something other than padding follows the end mark."""
        if self.read(_CHUNK_BYTES).strip(b"\0"):
            raise self.error("goes on after its end, and what follows is not read")

    def _pieces(self, size: int) -> Iterator[bytes | memoryview]:
        """Yield the next `size` bytes, fewer only at the end."""
        while size and (piece := self._read_file(size)):
            size -= len(piece)
            yield piece

    def _read_file(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except OSError as error:
            raise _unreadable(self._path, error) from error


class _Gunzipped(_Stream):
    """The bytes in a .gz, of one part or of several (pigz, bgzip)."""

    # gzip.GzipFile unpacks 8 kB at a time before Python 3.12: half as fast in several threads.
    is_packed = True

    def __init__(self, path: Path, file: io.FileIO) -> None:
        super().__init__(path, file)
        self._zlib = zlib.decompressobj(wbits=31)
        self._packed = b""  # that was read from the file and not used yet
        self._chunk = memoryview(b"")  # unpacked, and not read yet
        self._num_unpacked = 0

    def skip_to(self, position: int) -> None:
        self.position += sum(map(len, self._pieces(position - self.position)))
        if self.position < position:
            raise self.error("is cut short")

    def refuse_beyond(self, end: int) -> None:
        pass

    def refuse_more(self) -> None:
        while self._chunk or self._unpack_more():  # to the end, where the checksum is
            super().refuse_more()

    def _pieces(self, size: int) -> Iterator[bytes | memoryview]:
        while size and (self._chunk or self._unpack_more()):
            piece, self._chunk = self._chunk[:size], self._chunk[size:]
            size -= len(piece)
            yield piece

    def _unpack_more(self) -> bool:
        """Fill the empty `_chunk`; False at the end."""
        data = b""
        while not data:
            packed = self._packed or self._read_file(_PACKED_BYTES)
            if self._zlib.eof:  # what follows may be another part, or padding
                if not packed:
                    return False
                self._packed = packed = packed.lstrip(b"\0")
                if not packed:
                    continue
                self._zlib = zlib.decompressobj(wbits=31)
            data = self._unpack(packed, _CHUNK_BYTES)
            if not (data or packed or self._zlib.eof):
                raise self.error("is cut short")
            self._packed = self._zlib.unconsumed_tail or self._zlib.unused_data
        self._chunk = memoryview(data)
        self._num_unpacked += len(data)
        if self._num_unpacked > FREE_BYTES + MAX_RATIO * self._file.tell():
            raise self.error(f"unpacks to more than {MAX_RATIO} times its size, as no video does")
        return True

    def _unpack(self, packed: bytes, size: int) -> bytes:
        before = self._zlib.copy()
        try:
            return self._zlib.decompress(packed, size)
        except zlib.error as error:
            if size == _BLOCK_BYTES:
                raise self.error(f"is damaged: {printable(str(error))}") from error
            self._zlib = before  # again in small steps, for what comes out before the damage
            return self._unpack(packed, _BLOCK_BYTES)
