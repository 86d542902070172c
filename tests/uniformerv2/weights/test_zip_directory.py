"""Where members lie: in archives of PyTorch's, small and large, and of nobody else's."""

import io
import struct
import zipfile
from mmap import ACCESS_READ, mmap
from pathlib import Path

import pytest

from uniformerv2.weights.zip_directory import read_directory

HOLE = (1 << 32) + 12_345  # bytes that are on no disk


def mapped(path: Path) -> mmap:
    with path.open("rb") as file:
        return mmap(file.fileno(), 0, access=ACCESS_READ)


def test_members_are_where_zipfile_finds_them(tmp_path: Path) -> None:
    contents = {"a/data.pkl": b"abc", "a/data/0": b"", "a/ü": b"d" * 1000}
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    data = mapped(tmp_path / "a.zip")
    found = {name: data[slice(*each.span(data))] for name, each in read_directory(data).items()}
    assert found == contents


def test_an_archive_of_more_than_4_gb_has_long_numbers(tmp_path: Path) -> None:
    """As PyTorch's writer makes them: offsets and sizes beside the short ones."""
    sizes = (0, 3, 3, 1)
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 0, 0, 0, 0, 0, *sizes, 0) + b"x" + b"abc"
    short = (0, 0xFFFFFFFF, 0xFFFFFFFF, 1, 28, 0, 0, 0, 0, 0xFFFFFFFF)
    entry = struct.pack("<4s6H3L5H2L", b"PK\1\2", 0, 0, 0, 0, 0, 0, *short)
    entry += b"x" + struct.pack("<2H3Q", 1, 24, 3, 3, HOLE)
    start = HOLE + len(local)
    end = struct.pack(
        "<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, len(entry), start
    ) + struct.pack("<4sLQL", b"PK\6\7", 0, start + len(entry), 1)
    for offset, is_sound in ((0xFFFFFFFF, True), (7, False)):
        record = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(entry), offset, 0)
        with (tmp_path / "a.zip").open("wb") as file:
            file.seek(HOLE)
            file.write(local + entry + end + record)
        data = mapped(tmp_path / "a.zip")
        if is_sound:
            assert data[slice(*read_directory(data)["x"].span(data))] == b"abc"
        else:
            with pytest.raises(ValueError, match="two end records say different things"):
                read_directory(data)


def test_what_comes_before_or_after_is_no_archive(tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", b"abc")
    with_comment = io.BytesIO(file.getvalue())
    with zipfile.ZipFile(with_comment, "a") as archive:
        archive.comment = b"a comment"
    sound = file.getvalue()
    for content in (b"before" + sound, sound + b"after", with_comment.getvalue(), sound[:-1]):
        (tmp_path / "a.zip").write_bytes(content)
        with pytest.raises(ValueError, match="end"):
            read_directory(mapped(tmp_path / "a.zip"))
