"""A part of an archive reads as the file that it is."""

import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from k710.video.byte_range import ByteRange
from k710.video.container import open_video
from k710.video.cut import Window
from k710.video.decoding import decoder_log
from k710.video.encode import Encoding, encode_window
from k710.video.probe import probe_clip
from support.made_videos import FORMATS, make_video


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video on its own, and in two archives: between others, and cut off."""
    folder = tmp_path_factory.mktemp("located")
    for name, kind in (
        ("a.mp4", "open groups"),
        ("b.mkv", "open in mkv"),
        ("c.avi", "h264 in avi"),
    ):
        make_video(folder / name, range(50), format=FORMATS[kind])
    with tarfile.open(folder / "all.tar", "w") as tar:
        for name in ("a.mp4", "b.mkv", "c.avi"):
            tar.add(folder / name, name)
    return folder


def part_of(folder: Path, name: str) -> ByteRange:
    with tarfile.open(folder / "all.tar") as tar:
        member = tar.getmember(name)
    return ByteRange(str(folder / "all.tar"), member.offset_data, member.size)


@pytest.mark.parametrize("name", ["a.mp4", "b.mkv", "c.avi"])
def test_a_part_is_probed_and_encoded_as_its_file(folder: Path, name: str) -> None:
    part, file = part_of(folder, name), ByteRange(str(folder / name))
    for window, trimmed in ((Window(0, 2), True), (Window(1, 2), False), (Window(5, 7), None)):
        assert probe_clip(part, window, trimmed=trimmed) == probe_clip(
            file, window, trimmed=trimmed
        )
    assert encoded(part) == encoded(file)


def encoded(source: ByteRange) -> bytes:
    with decoder_log() as log, source.opened() as file, open_video(file) as video:
        clip = encode_window(video[1], log, Window(1, 2), Encoding(audio=True), from_s=1)[1]
    assert clip is not None
    return clip.data


@pytest.mark.parametrize("name", ["a.mp4", "b.mkv", "c.avi"])
def test_a_part_has_the_bytes_of_its_file(folder: Path, name: str) -> None:
    part, data = part_of(folder, name), (folder / name).read_bytes()
    assert b"".join(part.chunks()) == data
    assert b"".join(part.chunks(size=7)) == data
    assert part.size_bytes() == len(data)


@settings(max_examples=100)
@given(
    offset=st.integers(0, 300),
    num_bytes=st.integers(0, 300),
    steps=st.lists(st.tuples(st.sampled_from("rse"), st.integers(-50, 350)), max_size=12),
)
def test_a_part_moves_like_bytes_in_memory(
    tmp_path_factory: pytest.TempPathFactory,
    offset: int,
    num_bytes: int,
    steps: list[tuple[str, int]],
) -> None:
    data = bytes(range(250))
    path = tmp_path_factory.getbasetemp() / "part.bin"
    path.write_bytes(data)
    memory = io.BytesIO(data[offset : offset + num_bytes])
    short = len(memory.getvalue()) < num_bytes  # then the end is not where the archive says
    with ByteRange(str(path), offset, num_bytes).opened() as part:
        assert not isinstance(part, str)
        assert part.seekable()
        assert part.readable()
        for step, number in steps:
            if step == "r":
                assert part.read(number) == memory.read(number)
            elif step == "s" and number >= 0:
                assert part.seek(number) == memory.seek(number)
            elif step == "e" and number <= 0 and not short:
                assert part.seek(number, io.SEEK_END) == memory.seek(number, io.SEEK_END)
            assert part.tell() == memory.tell()


def test_what_is_cut_off_is_less(folder: Path, tmp_path: Path) -> None:
    part = part_of(folder, "c.avi")
    data = (folder / "all.tar").read_bytes()
    assert part.offset is not None
    (tmp_path / "short.tar").write_bytes(data[: part.offset + 1000])
    short = ByteRange(str(tmp_path / "short.tar"), part.offset, part.num_bytes)
    assert short.size_bytes() == 1000
    assert b"".join(short.chunks()) == data[part.offset : part.offset + 1000]
    assert probe_clip(short, Window(0, 2), trimmed=True).status == "damaged"
    gone = ByteRange(str(tmp_path / "short.tar"), len(data) + 5, 10)
    assert gone.size_bytes() == 0
    assert probe_clip(gone, Window(0, 2), trimmed=True).status == "empty"


def test_what_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    for missing in (ByteRange(str(tmp_path / "a")), ByteRange(str(tmp_path / "a"), 5, 5)):
        with pytest.raises(OSError, match="No such file"):
            missing.size_bytes()
        with pytest.raises(OSError, match="No such file"):
            list(missing.chunks())


def test_an_offset_needs_a_length(tmp_path: Path) -> None:
    for offset, num_bytes in ((3, None), (None, 3)):
        with pytest.raises(ValueError, match="go together"):
            ByteRange(str(tmp_path), offset, num_bytes)
