"""A table and its sidecar: who looks, and who is killed, finds the old pair or the new one."""

import errno
import fcntl
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from k710.errors import StageError
from k710.files import locked
from k710.sources.index import index_videos
from k710.tables.schemas import OUTCOMES, SOURCES, table_path
from k710.tables.sidecar import TableSpec, read_sidecar, settle, write_table
from support.small_manifest import (
    clip,
    manifest_of,
    open_work,
    outcome,
    put,
    refresh,
    sources,
    table,
)

A = ("archery", "a", 0, 10)


def test_who_reads_while_it_is_written_always_finds_it(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, A)
    refresh(work)
    row = {"clip_id": clip("a"), "stored": False, "shard": 0, "position": 0}
    outcome(work, 0, row)
    path = table_path(work, "outcomes/000000")
    done = threading.Event()
    missed: list[int] = []

    def look() -> None:
        while not done.wait(0.0005):
            if read_sidecar(path) is None:
                missed.append(1)

    reader = threading.Thread(target=look)
    reader.start()
    try:
        with open_work(work) as con:
            for number in range(1, 40):
                con.register("rows", table("outcomes", [{**row, "detail": str(number)}]))
                write_table(con, work, TableSpec(OUTCOMES, {}, {}, file="outcomes/000000"))
    finally:
        done.set()
        reader.join()
    assert missed == []


@pytest.mark.parametrize("is_new", [True, False])
def test_what_a_kill_left_is_settled(tmp_path: Path, is_new: bool) -> None:
    work = manifest_of(tmp_path, A)
    refresh(work)
    path = SOURCES.path(work)
    old = shutil.copytree(work, tmp_path / "old") / "sources.parquet"
    put(tmp_path / "videos", {f"{clip('a')}.mp4": 5})
    index_videos([tmp_path / "videos"], work=work)
    sidecar = Path(f"{path}.json")
    sidecar.rename(f"{sidecar}.next")
    shutil.copyfile(f"{old}.json", sidecar)
    if not is_new:
        shutil.copyfile(old, path)
    before = read_sidecar(path)
    settle(work)
    assert read_sidecar(path) == before
    assert not list(work.glob("*.next"))
    assert sources(work)[clip("a")]["status"] == ("ok" if is_new else "missing")
    with open_work(work):
        pass


def test_a_disk_without_locks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)  # there is no such disk here
    with (
        pytest.raises(StageError, match=r"\.lock can't be locked: No locks available\.\n.*NFS 4"),
        locked(tmp_path),
    ):
        pass


def test_a_sidecar_that_is_no_text_does_not_count(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, A)
    refresh(work)
    sidecar = SOURCES.path(work).with_name("sources.parquet.json")
    sidecar.write_bytes(sidecar.read_bytes().replace(b"VARCHAR", b"VAR\xffCHAR"))
    assert read_sidecar(SOURCES.path(work)) is None
    refresh(work)
    assert read_sidecar(SOURCES.path(work)) is not None
