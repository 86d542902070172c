"""What a file seems to be that FFmpeg can't decode, and what to do about it.

FFmpeg says "Invalid data" of a web page, an archive and a download that broke off alike, and
"Invalid argument" of what its demuxers recognise and k710 doesn't let them open.
"""

import io
import re
from pathlib import Path
from typing import BinaryIO

from k710.errors import printable

__all__ = ["what_it_seems"]

_HEAD_BYTES = 1 << 12
_AGAIN = "download the video again"
_LIST = "it only names other files, which k710 never opens; download the video itself"

_TEXTS: tuple[tuple[bytes, str], ...] = (  # after spaces and a byte order mark
    (b"#EXTM3U", f"an HLS playlist: {_LIST}"),
    (b"ffconcat", f"a list for ffmpeg's concat: {_LIST}"),
    (b"<MPD", f"a DASH manifest: {_LIST}"),
    (b"[Reference]", f"a list of addresses: {_LIST}"),
    (
        b"version https://git-lfs",
        "a pointer of Git LFS: fetch what it stands for, with git lfs pull",
    ),
)
_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a .zip archive: unpack it"),
    (b"\x1f\x8b", "gzip data: name an archive .tar.gz, or unpack it"),
    (b"BZh", "bzip2 data: unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "a .7z archive: unpack it"),
    (b"Rar!", "a .rar archive: unpack it"),
    (b"\xfd7zXZ", "xz data: unpack it"),
    (b"\x28\xb5\x2f\xfd", "zstandard data: unpack it"),
    (b"\xff\xd8\xff", "a JPEG picture, no video"),
    (b"\x89PNG", "a PNG picture, no video"),
    (b"%PDF", "a PDF, no video"),
    (b"YUV4MPEG2", "raw pictures (YUV4MPEG2): convert it with ffmpeg to .mp4"),
    (b"SQLite format", "a database, no video"),
    (b"\x7fELF", "a program, no video"),
    (b"\x00\x05\x16\x07", "what macOS puts beside a file (._NAME), not the file itself"),
    *((mark, "sound alone (MP3)") for mark in (b"ID3", b"\xff\xfb", b"\xff\xfa", b"\xff\xf3")),
    *((mark, "sound alone (AAC)") for mark in (b"\xff\xf1", b"\xff\xf9")),
    (b"fLaC", "sound alone (FLAC)"),
    (b"\x1aE\xdf\xa3", f"Matroska or WebM, damaged or cut off: {_AGAIN}"),
    (b"FLV", f"a Flash video, damaged or cut off: {_AGAIN}"),
    (b"0&\xb2u\x8ef\xcf\x11", f"Windows Media (ASF), damaged or cut off: {_AGAIN}"),
    (b"\x00\x00\x01\xba", f"an MPEG program stream, damaged or cut off: {_AGAIN}"),
    (b"GIF8", f"a GIF, damaged or cut off: {_AGAIN}"),
    (b"OggS", f"Ogg: sound alone, or damaged: {_AGAIN}"),
)
_RIFF = {
    b"AVI ": f"an AVI, damaged or cut off: {_AGAIN}",
    b"WAVE": "sound alone (WAV)",
    b"WEBP": "a WebP picture, no video",
}
_PROLOG = re.compile(rb"<\?xml[^>]*>\s*", re.IGNORECASE)
_PAGE = re.compile(
    rb"(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)", re.IGNORECASE | re.DOTALL
)
# Not subtitles, which begin with [Script Info], {1}{24} or [00:01].
_JSON = re.compile(
    rb'\{\s*["}]|\[[\s\[]*(?:["\]]|\{\s*["}]|(?:-?\d[\d.eE+-]*|true|false|null)\s*,)'
)
_MOST_BOXES = 1000  # of a file that is made of empty ones
_BOXES = (b"ftyp", b"styp", b"sidx", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"uuid")


def what_it_seems(source: str | Path | bytes | BinaryIO) -> str | None:
    """What the file seems to be, as words after "it seems to be"; None where nothing is known.

    `source` is as for `open_video`. What can't be read is None too.
    """
    try:
        if isinstance(source, bytes):
            return _seems(io.BytesIO(source))
        if isinstance(source, (str, Path)):
            with open(source, "rb") as file:
                return _seems(file)
        return _seems(source)
    except (OSError, ValueError):
        return None


def _seems(file: BinaryIO) -> str | None:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(min(_HEAD_BYTES, size))
    if not head:
        return "an empty file: download the video again"
    start = _PROLOG.sub(b"", head.lstrip(b"\xef\xbb\xbf \t\r\n"))
    for text, marks in ((start, _TEXTS), (head, _STARTS)):
        for mark, words in marks:
            if text.startswith(mark):
                return words
    if head[:4] == b"RIFF" and head[8:12] in _RIFF:
        return _RIFF[head[8:12]]
    if head[257:262] == b"ustar":
        return "a .tar archive: give it that ending"
    if head[4:8] in _BOXES:
        return _mp4_seems(file, size)
    if not head.strip(b"\0"):
        return f"a download that was never finished: it begins with zeros; {_AGAIN}"
    for packet in (188, 192):  # .m2ts has four bytes before each
        if size > 2 * packet and head[packet - 188] == head[2 * packet - 188] == 0x47:
            return f"an MPEG transport stream, damaged or cut off: {_AGAIN}"
    return _text_seems(head, start)


def _mp4_seems(file: BinaryIO, size: int) -> str:
    """What an MP4 lacks, by its outermost boxes."""
    kinds: set[bytes] = set()
    at = 0
    for _ in range(_MOST_BOXES):
        if at + 8 > size:
            break
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        kinds.add(head[4:8])
        if length < 8:
            break
        at += length
    if b"moov" in kinds:
        return f"an MP4, damaged or cut off: {_AGAIN}"
    if b"moof" in kinds or b"styp" in kinds:
        return f"a fragment of an MP4 without its header, as DASH and HLS have them: {_AGAIN}"
    return (
        "an MP4 without its index (the moov box), mostly a download or recording that broke off: "
        f"{_AGAIN}"
    )


def _text_seems(head: bytes, start: bytes) -> str | None:
    if _PAGE.match(start):
        return f"a web page, mostly a site's words of why there is no video: {_AGAIN}"
    if not _is_text(head):
        return None
    if _JSON.match(start):
        return f"JSON, mostly a site's answer instead of the video: {_AGAIN}"
    if start.startswith(b"<") or _PROLOG.match(head):
        return f"XML, mostly a site's answer instead of the video: {_AGAIN}"
    first = printable(start[:60].decode("utf-8", "replace").splitlines()[0]) if start else ""
    return f"text, beginning with {first!r}" if first else "text without a word in it"


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # a character that is cut is no matter
            return False
        text = head[: error.start].decode("utf-8")
    return all(character.isprintable() or character in "\t\r\n\f" for character in text)
