"""The tar of a shard: the same bytes for the same members, on any machine and at any time."""

import hashlib
import io
import tarfile
from dataclasses import fields
from pathlib import Path

from k710.shards.clip import StoredClip
from k710.shards.write import add_member
from k710.tables.schemas import INDEX
from support.small_shards import all_made

MEMBERS = {
    "a.mp4": bytes(range(256)) * 5,
    "a.json": b'{"clip_id":"a"}',
    "b.mp4": bytes(512),
    "b.json": b"",
}


def write_tar(path: Path) -> dict[str, int]:
    """Write the members; returns the offset of each."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        return {name: add_member(tar, name, data) for name, data in MEMBERS.items()}


def test_offsets_point_at_the_bytes(tmp_path: Path) -> None:
    offsets = write_tar(tmp_path / "a.tar")
    data = (tmp_path / "a.tar").read_bytes()
    for name, content in MEMBERS.items():
        assert data[offsets[name] : offsets[name] + len(content)] == content
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert {member.name: member.offset_data for member in tar} == offsets


def test_nothing_of_time_or_owner_is_in_it(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar")
    with tarfile.open(tmp_path / "a.tar") as tar:
        for member in tar:
            assert (member.mtime, member.uid, member.gid) == (0, 0, 0)
            assert (member.uname, member.gname, member.mode) == ("", "", 0o644)
            assert member.isreg() and not member.pax_headers


def test_the_bytes_are_fixed(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar")
    data = (tmp_path / "a.tar").read_bytes()
    assert len(data) == tarfile.RECORDSIZE
    assert (
        hashlib.sha256(data).hexdigest()
        == "ffbf1a76518781d95d4f2a105094bbe78779d2e11916dda2d4107efd5addf91c"
    )


def test_a_stream_of_it_gives_each_clip_with_its_json() -> None:
    """As WebDataset reads: forward only, the members of one name in succession."""
    for path in (all_made() / "shards").glob("*.tar"):
        with tarfile.open(fileobj=io.BytesIO(path.read_bytes()), mode="r|") as stream:
            names = [member.name for member in stream]
        assert names[::2] == [f"{name[:-5]}.mp4" for name in names[1::2]]
        assert all(name.endswith(".json") for name in names[1::2])


def test_a_stored_clip_has_the_columns_of_the_index() -> None:
    names = [field.name.replace("num_bytes", "bytes") for field in fields(StoredClip)]
    assert ["clip_id", "shard", "offset", *names] == list(INDEX.columns)
