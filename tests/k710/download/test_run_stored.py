"""Downloads and shards: what goes when it is stored, and what is fetched again."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from k710.download.run import download_videos
from k710.shards.run import make_shards
from support.list_files import vid
from support.loopback import Loopback
from support.small_manifest import clip, manifest_of, paths, sources
from support.small_site import (
    VIEW,
    download,
    fetching,
    files_below,
    good,
    tell,
    without_proxies,
    work_of,
)

WINDOWS = (("yoga", "a", 1, 3), ("zumba", "a", 5, 7))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    without_proxies(monkeypatch)
    with Loopback() as server:
        yield server


def found(work: Path) -> dict[str, str]:
    """name -> status, of clips of one window each."""
    return {clip_id[:11].rstrip("_"): row["status"] for clip_id, row in sources(work).items()}


def shard(work: Path, *views: str) -> None:
    make_shards(views or (VIEW,), work=work, workers=1)


def test_videos_that_need_not_be_kept_go_once_all_they_are_for_is_stored(
    server: Loopback, tmp_path: Path
) -> None:
    work = manifest_of(tmp_path, *WINDOWS, k600_val=[("yoga", "a", 8, 10)])
    tell(server, "a", good(12))
    download(work, fetching(server, keep=False))
    assert len(files_below(work / "downloads")) == 1
    shard(work)
    assert files_below(work / "downloads") == set()
    statuses = {clip_id: row["status"] for clip_id, row in sources(work).items()}
    assert statuses == {
        clip("a", 1, 3): "ok",
        clip("a", 5, 7): "ok",
        clip("a", 8, 10): "missing",
    }
    server.seen.clear()
    download_videos(["k600/val"], work=work, options=fetching(server, keep=False))
    assert len(server.seen) == 2
    assert sources(work)[clip("a", 8, 10)]["status"] == "ok"
    shard(work, VIEW, "k600/val")
    assert files_below(work / "downloads") == set()
    assert {row["status"] for row in sources(work).values()} == {"ok"}


@pytest.mark.slow
def test_a_video_stays_while_a_window_that_it_is_for_is_not_made(
    server: Loopback, tmp_path: Path
) -> None:
    rows = {"k400_val": [("yoga", "a", 5, 7)], "k600_val": [("yoga", "b", 1, 3)]}
    work = manifest_of(tmp_path, ("yoga", "a", 1, 3), ("yoga", "b", 50, 52), **rows)
    tell(server, "a", good(12))
    tell(server, "b", good(13))
    views = [VIEW, "k400/val", "k600/val"]
    download_videos(views, work=work, options=fetching(server, keep=False))
    shard(work, "k400/val", "k600/val")
    names = {Path(name).stem for name in files_below(work / "downloads")}
    assert names == {vid("a"), vid("b")}
    shard(work)
    assert files_below(work / "downloads") == set(), "there is no more to be had of them"
    told = {clip_id: row["status"] for clip_id, row in sources(work).items()}
    assert told.pop(clip("b", 50, 52)) == "empty"
    assert set(told.values()) == {"ok"}
    server.seen.clear()
    download_videos(views, work=work, options=fetching(server))
    assert server.seen == []


@pytest.mark.slow
def test_a_video_that_is_to_be_kept_is(server: Loopback, tmp_path: Path) -> None:
    work = work_of(tmp_path, ["a"])
    tell(server, "a")
    download(work, fetching(server))
    shard(work)
    assert len(files_below(work / "downloads")) == 1


@pytest.mark.slow
def test_a_download_that_is_lost_is_fetched_again_and_counts_as_found(
    server: Loopback, tmp_path: Path
) -> None:
    work = work_of(tmp_path, ["a"])
    tell(server, "a")
    download(work, fetching(server))
    (name,) = files_below(work / "downloads")
    (work / "downloads" / name).unlink()
    shard(work)
    assert found(work) == {"a": "missing"}
    assert download(work, fetching(server)).statuses == {"ok": 1}
    assert found(work) == {"a": "ok"}
    assert paths(work, work)[clip("a", 1, 3)] == f"downloads/{name}"
    shard(work)
    assert found(work) == {"a": "ok"}


def test_a_work_directory_called_otherwise_is_the_same(server: Loopback, tmp_path: Path) -> None:
    work = work_of(tmp_path, ["a"])
    tell(server, "a")
    download(work / ".." / work.name, fetching(server, keep=False))
    shard(work)
    assert found(work) == {"a": "ok"}
    assert files_below(work / "downloads") == set()


def test_a_download_stays_while_a_shard_made_of_it_is_not_whole(
    server: Loopback, tmp_path: Path
) -> None:
    work = manifest_of(tmp_path, WINDOWS[0], k400_val=[("yoga", "a", 8, 10)])
    tell(server, "a", good(12))
    views = ["k400/train", "k400/val"]
    download_videos(views, work=work, options=fetching(server, keep=False))
    shard(work, "k400/train")
    (tar,) = (work / "shards").glob("*.tar")
    tar.unlink()
    shard(work, "k400/val")
    assert len(files_below(work / "downloads")) == 1
    shard(work, "k400/train")
    assert {row["status"] for row in sources(work).values()} == {"ok"}
    assert files_below(work / "downloads") == set()
