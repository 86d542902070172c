"""Staged files in a folder and at a URL: the same, as far as a run can see."""

import sys
from pathlib import Path
from typing import Any

import pytest

from k710.engines.local import Local
from k710.errors import MissingExtra, StageError
from k710.files import is_url
from k710.shards.staging import clear, names, prepare, read, read_all, remove, write
from support.small_shards import FEW, copy_of, ready, shard, statuses, tars


@pytest.fixture(params=["path", "url"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    where = tmp_path / "deep [x]" / "staging"
    return str(where) if request.param == "path" else f"file://{where}"


def test_what_is_a_url() -> None:
    assert is_url("s3://bucket/dir") and is_url("file:///x") and is_url("gcs+x://y")
    assert not is_url("/data/s3://x") and not is_url("work/staging") and not is_url("C:/x")


def test_what_is_written_is_read_and_removed(folder: str) -> None:
    prepare(folder)
    prepare(folder)
    assert names(folder) == set()
    for number in range(40):
        write(f"{folder}/{number}.json", str(number).encode())
    write(f"{folder}/0.json", b"again")
    assert read(f"{folder}/0.json") == b"again"
    assert len(names(folder)) == 40
    places = [f"{folder}/{number}.json" for number in (*range(1, 40), 77)]
    assert list(read_all(places)) == [*(str(n).encode() for n in range(1, 40)), None]
    remove(places)
    assert names(folder) == {"0.json"}
    clear(folder)
    assert names(folder) == set()
    assert not Path(folder.removeprefix("file://")).exists()


def test_nothing_is_there_before_it_is_made(folder: str) -> None:
    assert names(folder) == set()
    assert read(f"{folder}/x") is None
    clear(folder)


def test_a_folder_that_cannot_be_made_is_said(folder: str, tmp_path: Path) -> None:
    (tmp_path / "deep [x]").write_text("a file")
    with pytest.raises(StageError, match=r"can't be staged at: [\s\S]*run the same command again"):
        prepare(folder)
    with pytest.raises(StageError, match="can't be staged at"):
        write(f"{folder}/x", b"")


def test_a_url_of_no_known_kind_is_said() -> None:
    with pytest.raises(StageError, match="'nothing://x' can't be staged at: "):
        prepare("nothing://x")


def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(MissingExtra, match=r"'s3://bucket/x' needs another package, on every mach"):
        prepare("s3://bucket/x")
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(MissingExtra, match=r"pip install 'k710\[ray\]'"):
        prepare("file:///x")


# --- in a run


class Stopped(Exception):
    pass


def stopped_half_way(work: Path, **options: Any) -> None:
    """A run that ends when some clips are staged and no shard is packed."""

    def stop(progress: Any) -> None:
        if progress.clips == 3:
            raise Stopped

    with pytest.raises(Stopped):
        shard(work, on_progress=stop, shard_bytes=10_000_000, **options)


@pytest.mark.parametrize("kind", [pytest.param("path", marks=pytest.mark.slow), "url"])
def test_staged_elsewhere_goes_on_and_leaves_what_is_others(tmp_path: Path, kind: str) -> None:
    work = ready(tmp_path, **FEW)
    plain = copy_of(work, tmp_path / "plain")
    shard(plain, shard_bytes=10_000_000)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.txt").write_text("mine")
    options = {"staging": elsewhere if kind == "path" else elsewhere.as_uri()}
    stopped_half_way(work, **options)
    (own,) = elsewhere.glob("k710-*")
    rows = {path.name: path.stat().st_mtime_ns for path in own.glob("*.json")}
    assert len(rows) >= 3
    video = min(own.glob("*.mp4"))
    video.write_bytes(video.read_bytes()[:-100])  # its row is there, and right
    (own / "x.mp4.tmp").write_text("of a worker that was killed")
    stopped_half_way(work, **options)
    for name, at in rows.items():
        assert (own / name).stat().st_mtime_ns == at, "staged again"
    shard(work, shard_bytes=10_000_000, **options)
    assert tars(work) == tars(plain)
    assert set(statuses(work).values()) == {"ok"}
    assert [path.name for path in elsewhere.iterdir()] == ["mine.txt"]


def test_two_works_may_stage_in_one_folder(tmp_path: Path) -> None:
    first = ready(tmp_path / "a", **FEW)
    works = [copy_of(first, tmp_path / name) for name in ("b", "c")]
    for work in works:
        stopped_half_way(work, staging=tmp_path / "both")
    assert len(list((tmp_path / "both").iterdir())) == 2
    shard(
        works[0], shard_bytes=10_000_000, staging=tmp_path / "both", engine=Local(1), workers=None
    )
    assert len(list((tmp_path / "both").iterdir())) == 1


def test_a_staging_that_workers_do_not_share_is_no_fault_of_clips(tmp_path: Path) -> None:
    work = ready(tmp_path, **FEW)
    with pytest.raises(StageError, match=r"was staged in 'memory://x/.*' twice, and is not there"):
        shard(work, staging="memory://x")
    shard(work)
    assert set(statuses(work).values()) == {"ok"}


def test_the_engine_brings_its_workers(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="workers are of the local engine"):
        shard(tmp_path, engine=Local(1), workers=2)
