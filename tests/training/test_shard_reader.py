"""Bytes of clips out of shards on a disk and below a URL."""

import os
import pickle
from pathlib import Path

import fsspec
import pytest
from sharding import all_made

from k710.errors import StageError
from uniformerv2 import shard_reader
from uniformerv2.shard_reader import ShardReader
from uniformerv2.view import View, read_view


@pytest.fixture(scope="module")
def view() -> View:
    return read_view(all_made(), "k400/train")


def read_all(reader: ShardReader, view: View) -> list[bytes]:
    places = zip(view.shards.tolist(), view.offsets.tolist(), view.num_bytes.tolist(), strict=True)
    return [reader.read(*place) for place in places]


def test_a_disk_and_a_url_give_the_same(view: View) -> None:
    folder = all_made() / "shards"
    expected = [
        (folder / f"{shard:06d}.tar").read_bytes()[offset : offset + num]
        for shard, offset, num in zip(view.shards, view.offsets, view.num_bytes, strict=True)
    ]
    memory = fsspec.filesystem("memory")
    for tar in folder.glob("*.tar"):
        memory.pipe(f"/shards/{tar.name}", tar.read_bytes())
    for where in (folder, f"{folder}/", "memory://shards", f"file://{folder}"):
        assert read_all(ShardReader(where), view) == expected


def test_few_files_are_open_and_none_in_the_end(
    view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_reader, "_MOST_OPEN", 2)
    before = len(os.listdir("/proc/self/fd"))
    reader = ShardReader(all_made() / "shards")
    assert len(set(view.shards.tolist())) > 2
    for _ in range(3):
        read_all(reader, view)
        assert len(os.listdir("/proc/self/fd")) <= before + 2
    other = pickle.loads(pickle.dumps(reader))
    assert read_all(other, view) == read_all(reader, view)
    other.close()
    del reader
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"000003.tar'? can't be read: No such file"):
        ShardReader(tmp_path).read(3, 0, 10)
    (tmp_path / "000003.tar").write_bytes(b"12345")
    with pytest.raises(StageError, match="ends 7 bytes early: it is not the shard"):
        ShardReader(tmp_path).read(3, 2, 10)
    assert ShardReader(tmp_path).read(3, 2, 3) == b"345"
    with pytest.raises(StageError, match=r"(?i)protocol"):
        ShardReader("nothing://a").read(0, 0, 1)
    with pytest.raises(StageError, match="can't be read"):
        ShardReader("memory://none").read(0, 0, 1)
