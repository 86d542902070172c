"""The task of a clip: what it stages, and what it leaves to others to judge."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from k710.shards.encode_clip import ClipTask, Staged, stage_clip
from k710.video.byte_range import ByteRange
from k710.video.cut import Window
from k710.video.encode import Encoding, encoder_versions
from support.small_shards import write_video


def staged(source: Path, folder: Path) -> Staged:
    """What becomes of two seconds of a file."""
    folder.mkdir(exist_ok=True)
    return stage_clip(
        ClipTask(
            clip_id="clip",
            window=Window(0, 2),
            source=ByteRange(str(source)),
            source_key="key",
            trimmed=True,
            starts_at_s=None,
            rivals=0,
            encoding=Encoding(),
            versions=tuple(sorted(encoder_versions().items())),
            folder=str(folder),
        )
    )


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may enter, and write to: pytest's own are closed to them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        yield folder


def test_a_file_that_may_not_be_read_is_not_damaged(open_folder: Path) -> None:
    source = write_video(open_folder / "a.mp4")
    source.chmod(0)
    (open_folder / "staged").mkdir()
    (open_folder / "staged").chmod(0o777)
    me = os.geteuid()
    if me == 0:
        os.seteuid(65534)  # root may read all
    try:
        found = staged(source, open_folder / "staged")
    finally:
        os.seteuid(me)
    assert found.unread_on is not None
    assert found.status != "damaged"
    assert not list((open_folder / "staged").iterdir())
    source.chmod(0o644)
    assert staged(source, open_folder / "staged").status == "ok"
