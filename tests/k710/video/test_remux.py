"""A transport stream becomes an MP4 of the same pictures; anything else stays as it is."""

from pathlib import Path

import pytest

from k710.errors import MediaError
from k710.video.remux import out_of_transport
from support.made_videos import FORMATS, make_video, numbers_in

TRANSPORT = FORMATS["short groups"].but(container="mpegts")


def test_a_transport_stream_is_replaced_by_its_packets(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", range(50), format=TRANSPORT)
    moved = out_of_transport(path, audio=False)
    assert not path.exists() and moved.parent == tmp_path
    assert moved.read_bytes()[4:8] == b"ftyp"
    assert numbers_in(moved) == list(range(50))


def test_what_is_none_is_left_alone(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", range(10))
    before = path.read_bytes()
    assert out_of_transport(path, audio=True) == path and path.read_bytes() == before
    path.write_bytes(b"G")
    assert out_of_transport(path, audio=True) == path


def test_one_that_can_not_be_read_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes((b"G" + bytes(187)) * 20)
    with pytest.raises(MediaError, match=r"a\.mp4 can't be decoded"):
        out_of_transport(path, audio=False)
