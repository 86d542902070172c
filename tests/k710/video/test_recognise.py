"""What a file that is no video seems to be is said, and what to do about it."""

import io
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from k710.video.recognise import what_it_seems
from support.made_videos import FORMATS, make_video


def box(kind: bytes, content: bytes = b"") -> bytes:
    return (8 + len(content)).to_bytes(4, "big") + kind + content


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html>Video unavailable", "a web page"),
        (b"\xef\xbb\xbf\n<?xml version='1.0'?>\n<!-- a --><html>", "a web page"),
        (b"  <HTML><head>", "a web page"),
        (b'{"error": {"code": 403}}', "JSON"),
        (b"[]", "JSON"),
        (b"[\n  [1.5, 2]]", "JSON"),
        (b'[{"error": 403}]', "JSON"),
        (b"[Script Info]\nTitle: a\n", "text, beginning with '[Script Info]'"),
        (b"[00:01.00] la\n", "text, beginning with '[00:01.00] la'"),
        (b"{1}{24} la\n", "text, beginning with '{1}{24} la'"),
        (b"YUV4MPEG2 W8 H8 F25:1\nFRAME\n", "raw pictures (YUV4MPEG2)"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML"),
        (b"<?xml version='1.0'?>\n<MPD xmlns='urn:mpeg:dash'>", "a DASH manifest"),
        (b"#EXTM3U\n#EXTINF:2,\nhttp://a/b.ts\n", "an HLS playlist: it only names other files"),
        (b"ffconcat version 1.0\nfile a\n", "a list for ffmpeg's concat"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("nichts für ungut\n".encode(), "text, beginning with 'nichts für ungut'"),
        (b"a\x1b[31m", None),
        (b"PK\x03\x04" + bytes(99), "a .zip archive: unpack it"),
        (b"\x1f\x8b\x08" + bytes(99), "gzip data"),
        (bytes(257) + b"ustar\x00" + bytes(300), "a .tar archive: give it that ending"),
        (b"\xff\xd8\xff\xe0" + bytes(99), "a JPEG picture"),
        (b"ID3\x04" + bytes(99), "sound alone"),
        (b"\xff\xfb\x90\x64" + bytes(99), "sound alone"),
        (b"RIFF\x00\x01\x00\x00WAVEfmt ", "sound alone"),
        (bytes(5000), "a download that was never finished"),
        ((b"G" + bytes(187)) * 4, "an MPEG transport stream"),
        ((bytes(4) + b"G" + bytes(187)) * 4, "an MPEG transport stream"),
        (b"\x1aE\xdf\xa3" + bytes(99), "Matroska or WebM"),
        (b"FLV\x01" + bytes(99), "a Flash video"),
        (
            box(b"ftyp", b"isom") + box(b"mdat", bytes(50)),
            "an MP4 without its index (the moov box)",
        ),
        (box(b"ftyp") + b"\x00\x00\x00\x01mdat" + (99).to_bytes(8, "big"), "without its index"),
        (box(b"styp") + box(b"moof", bytes(9)) + box(b"mdat"), "a fragment of an MP4"),
        (box(b"ftyp") + box(b"moov", bytes(9)), "an MP4, damaged or cut off"),
        (box(b"free") * 5000, "an MP4 without its index"),
        (b"\x93\x12\x00\x99" * 99, None),
    ],
)
def test_files_that_are_no_video(tmp_path: Path, data: bytes, words: str | None) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    found = what_it_seems(path)
    assert (found is None) if words is None else (words in str(found)), found
    assert found == what_it_seems(data) == what_it_seems(io.BytesIO(data))


def test_a_download_that_broke_off_is_told_from_a_page() -> None:
    data = make_video(io.BytesIO(), range(5), format=FORMATS["mpeg4"]).getvalue()
    assert "without its index" in str(what_it_seems(data[: data.index(b"moov") - 4]))


def test_what_can_not_be_read_is_nothing(tmp_path: Path) -> None:
    assert what_it_seems(tmp_path / "none.mp4") is None
    assert what_it_seems(tmp_path) is None
    assert what_it_seems("a\0b") is None


@given(st.binary(max_size=300))
def test_of_any_bytes_the_words_are_printable(data: bytes) -> None:
    assert (what_it_seems(data) or "").isprintable()
