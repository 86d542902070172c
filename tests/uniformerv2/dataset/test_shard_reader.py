"""Bytes of clips out of shards on a disk and below a URL."""

import hashlib
import os
import pickle
import tarfile
from pathlib import Path

import fsspec
import pytest

from k710.errors import MissingExtra, StageError
from k710.shards.write import add_member
from support.small_shards import all_made
from uniformerv2.dataset import shard_reader
from uniformerv2.dataset.clips import ViewIndex, read_view
from uniformerv2.dataset.shard_reader import ByteSpan, ShardReader


@pytest.fixture(scope="module")
def view() -> ViewIndex:
    return read_view(all_made(), "k400/train")


def parts(view: ViewIndex) -> list[ByteSpan]:
    return [
        ByteSpan(clip_id, int(shard), int(offset), int(num_bytes), digest.decode())
        for clip_id, shard, offset, num_bytes, digest in zip(
            view.clip_ids, view.shards, view.offsets, view.num_bytes, view.digests, strict=True
        )
    ]


def read_all(reader: ShardReader, view: ViewIndex) -> list[bytes]:
    return reader.read(parts(view))


def in_memory(name: str) -> str:
    """The URL of a copy of the shards in fsspec's memory."""
    memory = fsspec.filesystem("memory")
    for tar in (all_made() / "shards").glob("*.tar"):
        memory.pipe(f"/{name}/{tar.name}", tar.read_bytes())
    return f"memory://{name}"


def test_a_disk_and_a_url_give_the_same(view: ViewIndex) -> None:
    folder = all_made() / "shards"
    expected = [
        (folder / f"{shard:06d}.tar").read_bytes()[offset : offset + num]
        for shard, offset, num in zip(view.shards, view.offsets, view.num_bytes, strict=True)
    ]
    for where in (folder, f"{folder}/", in_memory("shards"), f"file://{folder}/"):
        assert read_all(ShardReader(where), view) == expected
    twice = [parts(view)[3], parts(view)[0], parts(view)[3]]
    assert ShardReader(in_memory("shards")).read(twice) == [expected[3], expected[0], expected[3]]
    assert ShardReader(in_memory("shards")).read([]) == []


def test_few_files_are_open_and_none_in_the_end(
    view: ViewIndex, monkeypatch: pytest.MonkeyPatch
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


def test_what_came_over_the_network_is_kept_under_its_hash(view: ViewIndex, tmp_path: Path) -> None:
    url, cache = in_memory("cached"), tmp_path / "cache"
    expected = read_all(ShardReader(url), view)
    assert read_all(ShardReader(url, cache), view) == expected
    kept = sorted(cache.rglob("*.mp4"))
    assert [path.stem for path in kept] == sorted({d.decode() for d in view.digests})
    assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in kept] == [
        path.stem for path in kept
    ]
    fsspec.filesystem("memory").rm("/cached", recursive=True)
    reader = pickle.loads(pickle.dumps(ShardReader(url, cache)))
    assert read_all(reader, view) == expected
    kept[0].write_bytes(b"")  # as a crash may leave it
    with pytest.raises(StageError, match="can't be read"):
        read_all(reader, view)
    in_memory("cached")
    assert read_all(reader, view) == expected
    assert kept[0].stat().st_size > 0


def test_what_came_damaged_over_the_network_is_not_kept(view: ViewIndex, tmp_path: Path) -> None:
    url = in_memory("damaged")
    tar = f"/damaged/{view.shards[0]:06d}.tar"
    data = bytearray(fsspec.filesystem("memory").cat_file(tar))
    data[view.offsets[0] + 100] ^= 1
    fsspec.filesystem("memory").pipe(tar, bytes(data))
    with pytest.raises(StageError, match=f"{view.clip_ids[0]} in .* has other bytes than"):
        read_all(ShardReader(url, tmp_path / "cache"), view)
    kept = {path.stem for path in (tmp_path / "cache").rglob("*.mp4")}
    assert view.digests[0].decode() not in kept
    (tmp_path / "file").touch()
    with pytest.raises(StageError, match="can't be written"):
        read_all(ShardReader(in_memory("shards"), tmp_path / "file"), view)


def test_a_cache_is_never_left(view: ViewIndex, tmp_path: Path) -> None:
    hostile = parts(view)[0]._replace(digest="../" * 20 + "ab")
    with pytest.raises(ValueError):
        ShardReader(in_memory("shards"), tmp_path / "cache").read([hostile])
    assert not (tmp_path / "cache").exists()


def part(shard: int, offset: int, num_bytes: int) -> ByteSpan:
    return ByteSpan("clip", shard, offset, num_bytes, "00")


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"000003.tar'? can't be read: No such file"):
        ShardReader(tmp_path).read([part(3, 512, 10)])
    tar = tmp_path / "000003.tar"
    with tarfile.open(tar, "w") as archive:
        at = add_member(archive, "clip.mp4", b"12345")
        other = add_member(archive, "other.mp4", b"12345")
    assert ShardReader(tmp_path).read([part(3, at, 5)]) == [b"12345"]
    with pytest.raises(StageError, match=r"ends .* bytes early: it is not the shard"):
        ShardReader(tmp_path).read([part(3, at, 1 << 20)])
    with pytest.raises(StageError, match=f"has no 'clip' at byte {other:,}: it is not the shard"):
        ShardReader(tmp_path).read([part(3, other, 5)])
    with pytest.raises(StageError, match=r"(?i)protocol"):
        ShardReader("nothing://a").read([part(0, 512, 1)])
    with pytest.raises(StageError, match="can't be read"):
        ShardReader("memory://none").read([part(0, 512, 1)])


@pytest.mark.parametrize("url", ["http://me:hush@127.0.0.1:1/a?t=hush", "http://me:hush@[::1/"])
def test_no_secret_of_a_url_is_said(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(shard_reader, "_PAUSES_S", ())
    with pytest.raises((StageError, MissingExtra)) as error:
        ShardReader(url).read([part(0, 512, 1)])
    assert "http" in str(error.value) and "hush" not in str(error.value)
