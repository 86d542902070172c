"""The task of a clip: what it stages, and what it leaves to others to judge."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from k710.shards.clip import EncodedClip
from k710.shards.encode_clip import read_staged, stage_clip
from k710.video.cut import Window
from support.small_shards import clip_task, write_video


def staged(source: Path, folder: Path) -> EncodedClip:
    """What becomes of two seconds of a file."""
    folder.mkdir(exist_ok=True)
    return stage_clip(clip_task(source, Window(0, 2), folder, trimmed=True))


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
    assert found.seen.status != "damaged"
    assert not list((open_folder / "staged").iterdir())
    source.chmod(0o644)
    assert staged(source, open_folder / "staged").seen.status == "ok"


def test_a_staged_row_counts_for_its_own_key_alone(tmp_path: Path) -> None:
    task = clip_task(write_video(tmp_path / "a.mp4"), Window(0, 2), tmp_path, trimmed=True)
    encoded = stage_clip(task)
    row = (tmp_path / "clip.json").read_bytes()
    key = task.settings.key(task.clip)
    assert read_staged(key, row) == encoded
    assert encoded.stored is not None and encoded.stored.num_frames == 20
    for other_key, other_row in [
        ("", row),
        (key, None),
        (key, row[:-1]),
        (key, b"{}"),
        (key, b'"\xff"'),
    ]:
        assert read_staged(other_key, other_row) is None
    of_string = row.replace(b'"num_frames":20', b'"num_frames":"20"')
    assert of_string != row and read_staged(key, of_string) is None
