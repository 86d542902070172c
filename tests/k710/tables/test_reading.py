"""What is read of a table is what its sidecar tells of, row by row as k710 would write it."""

import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

import k710
from k710.errors import K710Error, SchemaError, StageError
from k710.export.view import export_view
from k710.labels.orders import NUM_CLASSES
from k710.report.status import read_status
from k710.shards.extract import extract_clips
from k710.tables.clip_ids import require_clip_id
from k710.tables.connection import connect_to_read, run
from k710.tables.reading import open_table, read_tables
from k710.tables.schemas import MANIFEST, OUTCOMES
from k710.tables.sidecar import TableSpec, write_table
from support.small_manifest import clip, manifest_of, open_work, outcome, refresh
from support.small_shards import FEW, copy_of, ready, shard
from support.small_tables import own_bytes, rewrite_table

A = ("archery", "a", 0, 10)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = ready(tmp_path_factory.mktemp("made"), **FEW)
    shard(work)
    return work


@pytest.fixture
def work(made: Path, tmp_path: Path) -> Path:
    return copy_of(made, tmp_path / "work")


def swap_in(path: Path, sql: str) -> None:
    """Replace a table alone, as a copy over it does: its sidecar tells of the former bytes."""
    sidecar = path.with_name(path.name + ".json")
    told = sidecar.read_bytes()
    rewrite_table(path, sql)
    sidecar.write_bytes(told)


MOVED = "select * replace (lag(label, 1, label) over (order by clip_id, view) as label) from whole"
READERS: dict[str, Callable[[Path], Any]] = {
    "load_view": lambda work: k710.load_view("k400/train", work=work),
    "shard": shard,
    "status": lambda work: read_status(work=work),
    "export": lambda work: export_view("k400/train", format="wids", work=work),
    "open_view": lambda work: k710.open_view("k400/train", work=work),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_table_without_its_own_sidecar_is_used_by_nobody(work: Path, reader: str) -> None:
    swap_in(work / "manifest.parquet", MOVED)
    with pytest.raises(StageError, match=r"manifest\.parquet is not the table that "):
        READERS[reader](work)


@pytest.mark.parametrize("name", ["sources", "index"])
def test_each_table_is_held_against_its_sidecar(work: Path, name: str) -> None:
    swap_in(work / f"{name}.parquet", "select * replace (lower(clip_id) as clip_id) from whole")
    with pytest.raises(StageError, match=rf"{name}\.parquet is not the table"):
        export_view("k400/train", format="wids", work=work)


@pytest.mark.parametrize("ids", ["../../escaped", "/tmp/escaped", "a/b", "", ".", "x" * 96, "a.b"])
@pytest.mark.parametrize("name", ["manifest", "sources", "plan", "index", "outcomes/000000"])
def test_no_id_in_any_table_is_a_path(work: Path, name: str, ids: str) -> None:
    path = work / f"{name}.parquet"
    rewrite_table(path, f"select * replace ('{ids}' as clip_id) from whole")
    kind = {"outcomes/000000": OUTCOMES}.get(name) or k710.tables.TABLES[name]
    with connect_to_read() as con, pytest.raises(SchemaError, match="as clip_id, which none can"):
        if name == "outcomes/000000":
            read_tables(con, work, "rows", kind, [path])
        else:
            open_table(con, work, kind)
    with pytest.raises(SchemaError):
        require_clip_id(ids)


def test_a_manifest_of_others_writes_nowhere_else(work: Path, tmp_path: Path) -> None:
    mine = tmp_path / "escaped.mp4"
    mine.write_bytes(b"a file of the user")
    before = sorted(tmp_path.rglob("*"))
    for name in ("manifest", "sources", "plan", "index"):
        rewrite_table(
            work / f"{name}.parquet", "select * replace ('../../escaped' as clip_id) from whole"
        )
    root = tmp_path / "root"
    for command in (
        lambda: shard(work),
        lambda: export_view("k400/train", format="slowfast", root=root, extract=True, work=work),
    ):
        with pytest.raises(SchemaError):
            command()
    assert mine.read_bytes() == b"a file of the user"
    assert [path for path in sorted(tmp_path.rglob("*")) if path not in before] == []


def test_paths_are_made_of_ids_alone(made: Path, tmp_path: Path) -> None:
    with duckdb.connect() as con:
        con.execute(
            "create table exported as select '../escaped' as clip_id, null as reason, "
            "0 as shard, 512 as \"offset\", 5 as bytes, '' as sha256"
        )
        with pytest.raises(K710Error):
            extract_clips(con, made, tmp_path, on_progress=lambda *_: None)
    assert not list(tmp_path.rglob("*escaped*"))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("label", NUM_CLASSES),
        ("label", -1),
        ("youtube_id", "'../x'"),
        ("view", "'../train'"),
        ("time_start", -1),
        ("time_end", 1_000_000),
        ("time_end", "time_start"),
    ],
)
def test_a_row_that_none_can_have_is_said(work: Path, column: str, value: object) -> None:
    rewrite_table(
        work / "manifest.parquet",
        f"select * replace (({value})::{MANIFEST.columns[column]} as {column}) from whole",
    )
    words = rf"manifest\.parquet has .* as {column}, which none can have"
    with pytest.raises(SchemaError, match=words):
        k710.load_view("k400/train", work=work)


def test_labels_are_rows_of_k710(work: Path) -> None:
    rewrite_table(
        work / "manifest.parquet",
        f"select * replace ({NUM_CLASSES - 1}::smallint as label) from whole",
    )
    assert set(k710.load_view("k400/train", work=work)["label"]) == {NUM_CLASSES - 1}


def test_what_was_checked_is_read_whatever_comes_in_its_place(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, A, ("archery", "b", 0, 10))
    path = work / "manifest.parquet"
    with connect_to_read() as con:
        open_table(con, work, MANIFEST)
        before = run(con, "select * from manifest order by all")
        other = path.with_name("aside")
        shutil.copy(path, other)
        rewrite_table(path, "select * from whole limit 1")
        assert run(con, "select * from manifest order by all") == before
        path.unlink()
        assert run(con, "select * from manifest order by all") == before


def test_readers_beside_a_writer_find_a_whole_table(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, A)
    refresh(work)
    row = {"clip_id": clip("a"), "stored": False, "shard": 0, "position": 0, "status": "damaged"}
    outcome(work, 0, row)
    path = work / "outcomes" / "000000.parquet"
    done = threading.Event()
    found: list[int] = []  # different details in what was read: those of one table are alike
    errors: list[Exception] = []

    def look() -> None:
        while not done.is_set():
            try:
                with connect_to_read() as con:
                    read_tables(con, work, "rows", OUTCOMES, [path])
                    found.extend(*run(con, "select count(distinct detail) from rows"))
            except Exception as error:
                errors.append(error)

    reader = threading.Thread(target=look)
    reader.start()
    try:
        with open_work(work) as con:
            run(con, f"create temp table first as from read_parquet('{path}')")
            for number in range(25):
                con.execute(
                    f"create or replace temp table rows as select first.* replace ('{number}' as "
                    f"detail) from first, range({number % 7 + 1})"
                )
                write_table(con, work, TableSpec(OUTCOMES, {}, {}, file="outcomes/000000"))
    finally:
        done.set()
        reader.join()
    assert errors == []
    assert len(found) > 3 and set(found) <= {0, 1}


@pytest.mark.parametrize("codec", ["zstd", "gzip", "uncompressed"])
def test_damage_behind_a_sound_sidecar_is_said(tmp_path: Path, codec: str) -> None:
    """Whatever byte is wrong: words that name the table, or rows that nobody can tell are wrong."""
    work = manifest_of(tmp_path, A, *[("archery", f"b{n}", n, n + 10) for n in range(50)])
    path = work / "manifest.parquet"
    with duckdb.connect() as con:
        con.execute(f"copy (from '{path}') to '{path}.new' (format parquet, compression {codec})")
    Path(f"{path}.new").replace(path)
    sound = path.read_bytes()
    draw = random.Random(codec)
    said = 0
    for _ in range(25):
        damaged = bytearray(sound)
        for _ in range(draw.choice((1, 2, 20))):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        path.write_bytes(damaged)
        own_bytes(path)
        try:
            with connect_to_read() as con:
                open_table(con, work, MANIFEST)
                run(con, "select max(hash(manifest)) from manifest")
        except K710Error as error:
            assert "manifest.parquet" in str(error) and "k710 build-manifest" in str(error)
            said += 1
    assert said > 3


def test_damage_in_a_long_run_of_queries_is_said_too(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, A)
    path = work / "manifest.parquet"
    before = path.read_bytes()
    words = r"manifest\.parquet can't be read"
    with pytest.raises(StageError, match=words), connect_to_read() as con:
        open_table(con, work, MANIFEST)
        path.write_bytes(before[:100] + bytes(len(before) - 100))
        con.execute("select max(label_name) from manifest").fetchall()


def test_a_bug_in_a_query_is_no_damaged_table(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, A)
    with pytest.raises(duckdb.Error, match="nothing"), connect_to_read() as con:
        open_table(con, work, MANIFEST)
        con.execute("select nothing from manifest")


def test_a_sidecar_that_lies_about_columns_is_no_traceback(work: Path) -> None:
    """Columns more, of another type or missing, whatever the sidecar says of them."""
    path = work / "outcomes" / "000000.parquet"
    before, told = path.read_bytes(), dict(OUTCOMES.columns)
    for sql, is_fine in (
        ("select *, 1 as more from whole", True),
        ("select * exclude (stored) from whole", False),
        ("select * replace ('often' as stored) from whole", False),
    ):
        path.write_bytes(before)
        rewrite_table(path, sql)
        own_bytes(path, schema=told)
        with connect_to_read() as con:
            if is_fine:
                read_tables(con, work, "rows", OUTCOMES, [path])
                continue
            with pytest.raises(
                SchemaError, match=r"000000\.parquet: column stored should be BOOLEAN"
            ):
                read_tables(con, work, "rows", OUTCOMES, [path])


def test_a_broken_row_is_said_of_its_file(work: Path) -> None:
    good, bad = (work / "outcomes" / f"00000{n}.parquet" for n in (0, 7))
    for ending in ("", ".json"):
        shutil.copy(f"{good}{ending}", f"{bad}{ending}")
    rewrite_table(bad, "select * replace ('lost' as status) from whole")
    words = rf"000007\.parquet has 'lost' as status.*\n.*Remove it, .*--work {work}"
    with connect_to_read() as con, pytest.raises(SchemaError, match=words):
        read_tables(con, work, "rows", OUTCOMES, [good, bad])


def test_a_view_that_is_opened_anew_lets_its_file_go(work: Path) -> None:
    with connect_to_read() as con:
        open_table(con, work, MANIFEST)
        before = len(os.listdir("/dev/fd"))
        for _ in range(5):
            open_table(con, work, MANIFEST)
            assert run(con, "select count(*) > 0 from manifest") == [(True,)]
        assert len(os.listdir("/dev/fd")) == before


def test_descriptors_are_given_back(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, A)
    code = (
        "import os, gc; from pathlib import Path; import k710\n"
        f"work = Path({str(work)!r})\n"
        "k710.load_view('k400/train', work=work); gc.collect()\n"
        "before = len(os.listdir('/dev/fd'))\n"
        "for _ in range(20): k710.load_view('k400/train', work=work)\n"
        "gc.collect(); print(len(os.listdir('/dev/fd')) - before)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(out.stdout) <= 0
