"""Shards in a bucket: a real S3 server on the loopback, by the same calls as any other."""

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from k710.errors import StageError
from support.small_batches import reading, said
from support.small_shards import all_made
from uniformerv2.data import Loader
from uniformerv2.dataset import shard_reader
from uniformerv2.dataset.clips import read_view
from uniformerv2.dataset.decode import Reading
from uniformerv2.dataset.shard_reader import ShardReader

moto = pytest.importorskip("moto.server", reason="needs moto[server]: scripts/install dev")
s3fs = pytest.importorskip("s3fs", reason="needs s3fs: scripts/install dev")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a copy of the shards."""
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    files = s3fs.S3FileSystem(skip_instance_cache=True)
    files.mkdir("clips")
    for tar in (all_made() / "shards").glob("*.tar"):
        files.pipe_file(f"clips/shards/{tar.name}", tar.read_bytes())
    yield "s3://clips/shards/"
    server.stop()


def test_shards_in_a_bucket_give_the_same_batches(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = read_view(all_made(), "k400/train")

    def taken(own: Reading, workers: int) -> list[object]:
        with Loader(view, own, batch=4, workers=workers) as loader:
            return [said(batch) for batch in itertools.islice(loader.batches(), 4)]

    def of(where: str | Path, cache: Path | None = None) -> Reading:
        return dataclasses.replace(reading(), reader=ShardReader(where, cache))

    expected = taken(of(all_made() / "shards"), 0)
    assert taken(of(bucket), 2) == expected
    assert taken(of(bucket, tmp_path / "cache"), 2) == expected
    assert len(list((tmp_path / "cache").rglob("*.mp4"))) == len(view.clip_ids)
    monkeypatch.setattr(shard_reader, "_PAUSES_S", (0.01,))
    with pytest.raises(StageError, match="can't be read"):
        taken(of("s3://clips/elsewhere"), 0)
    # All is there now: nothing is asked for any more.
    assert taken(of("s3://clips/elsewhere", tmp_path / "cache"), 0) == expected
