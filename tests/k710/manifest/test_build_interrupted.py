"""Repeated, changed, stopped, out of room: what is on disk is whole, or doesn't count."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import k710
from k710.demo.lists import write_demo_lists
from k710.errors import SchemaError, SourceError, StageError
from k710.files import locked, replacing
from k710.manifest.build import build_manifest
from support.list_files import Lists, write_lists
from support.small_tables import own_bytes, rewrite_table

TABLES = ("annotations", "manifest", "dropped", "leakage")
BUILD = "import sys, k710; print(k710.build_manifest(sys.argv[1], work=sys.argv[2]).built)"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of demo lists."""
    write_demo_lists(tmp_path / "annotations")
    return tmp_path / "annotations"


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lists that take long enough to be stopped in the middle."""
    return write_lists(tmp_path_factory.mktemp("large"), lists_of(30_000))


@pytest.fixture(scope="module")
def large_built(large: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A work directory with what is made of them, never written to; and how long that took."""
    work = tmp_path_factory.mktemp("large_built")
    started = time.monotonic()
    build_manifest(large, work=work, threads=2)
    return work, time.monotonic() - started


@pytest.fixture(scope="module")
def medium(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lists whose tables do not fit where there is little room."""
    return write_lists(tmp_path_factory.mktemp("medium"), lists_of(8_000))


def lists_of(rows: int) -> Lists:
    """So many rows in each of six lists."""
    rng = random.Random(0)
    return {
        f"{dataset}/{split}": [
            ("archery", f"{rng.randrange(10**6):011d}", start, start + 10)
            for start in (rng.randrange(300) for _ in range(rows))
        ]
        for dataset in ("k400", "k600", "k700")
        for split in ("train", "val")
    }


@pytest.fixture(scope="module")
def demo_built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with annotations/ and work/ of the demo lists, to be copied."""
    folder = tmp_path_factory.mktemp("demo")
    write_demo_lists(folder / "annotations")
    build_manifest(folder / "annotations", work=folder / "work")
    return folder


@pytest.fixture
def work(demo_built: Path, tmp_path: Path) -> Path:
    """A work directory with the tables of the demo lists."""
    return shutil.copytree(demo_built / "work", tmp_path / "work")


def contents(work: Path) -> dict[str, bytes]:
    return {table: (work / f"{table}.parquet").read_bytes() for table in TABLES}


def run(folder: Path, work: Path, **options: Any) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", BUILD, str(folder), str(work)]
    return subprocess.run(command, capture_output=True, text=True, **options)


# --- the same again


@pytest.mark.parametrize(
    "options",
    [
        *({"threads": 1}, {"threads": 4}),
        pytest.param({"memory_limit": "600MB"}, marks=pytest.mark.slow),
    ],
)
def test_the_same_input_gives_the_same_bytes(
    large: Path, large_built: tuple[Path, float], tmp_path: Path, options: dict[str, Any]
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(large, moved)
    build_manifest(moved, work=tmp_path / "work", **options)
    assert contents(tmp_path / "work") == contents(large_built[0])


def test_a_second_run_does_nothing(folder: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    first = build_manifest(folder, work=work)
    assert first.built == TABLES
    before = {path.name: path.stat().st_mtime_ns for path in work.glob("*.parquet*")}
    second = build_manifest(folder, work=work)
    assert second.built == ()
    assert {path.name: path.stat().st_mtime_ns for path in work.glob("*.parquet*")} == before
    assert (second.views, second.dropped, second.lists) == (first.views, first.dropped, first.lists)


def test_other_rules_rebuild_what_they_decide(folder: Path, work: Path) -> None:
    assert build_manifest(folder, work=work, protect=("val",)).built == ("manifest", "dropped")
    assert build_manifest(folder, work=work, dedup="clip").built == ("manifest", "dropped")


def test_changed_input_rebuilds(folder: Path, work: Path) -> None:
    path = folder / "kinetics400" / "train.csv"
    path.write_text(path.read_text() + "archery,new_id_____,1,11,train\n")
    assert build_manifest(folder, work=work).built == TABLES
    assert "new_id_____" in set(k710.load_view("k710/train", work=work)["youtube_id"])


def test_a_touched_file_rebuilds_nothing(folder: Path, work: Path) -> None:
    os.utime(folder / "kinetics400" / "train.csv", (0, 0))
    assert build_manifest(folder, work=work).built == ()


def test_bad_input_touches_no_table(folder: Path, work: Path) -> None:
    before = contents(work)
    path = folder / "kinetics700_2020" / "validate.csv"
    good = path.read_text()
    path.write_text(good + "archery,short,1,11,validate\n")
    with pytest.raises(SourceError, match="'short' is no YouTube id"):
        build_manifest(folder, work=work)
    assert contents(work) == before
    assert not list(work.glob("*.tmp")) and not (work / ".spill").exists()
    path.write_text(good)
    assert build_manifest(folder, work=work).built == ()


def test_merged_editions_are_not_taken_for_plain_ones(tmp_path: Path) -> None:
    for folder in ("kinetics700", "kinetics700_2020"):
        write_lists(tmp_path / folder, {"k700/val": [("archery", folder[:11], 0, 10)]})
    lists, work = tmp_path, tmp_path / "work"
    build_manifest(lists, work=work, merge_editions=True)
    with pytest.raises(SourceError, match="two editions of one list"):
        build_manifest(lists, work=work)


def test_a_renamed_folder_is_another_dataset(tmp_path: Path) -> None:
    folder = write_lists(tmp_path / "k400", {"k400/val": [("archery", "a", 0, 10)]}) / "k400"
    build_manifest(folder, work=tmp_path / "work")
    summary = build_manifest(folder.rename(tmp_path / "k600"), work=tmp_path / "work")
    assert set(summary.views) == {"k600/val", "k710/val"}


@pytest.mark.parametrize("inside", ["work", "k400/work"])
def test_the_work_directory_may_lie_among_the_lists(tmp_path: Path, inside: str) -> None:
    folder = write_lists(tmp_path / "k400", {"k400/val": [("archery", "a", 0, 10)]})
    assert build_manifest(folder, work=folder / inside).built == TABLES
    assert build_manifest(folder, work=folder / inside).built == ()


@pytest.mark.parametrize("name", ["it's", "[a]*?", "~w", "with space", "größe", "-x"])
def test_any_name_of_a_work_directory_will_do(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    build_manifest(folder, work=name)
    assert len(list((tmp_path / name).glob("*.parquet"))) == 4
    assert len(k710.load_view("k710/train", work=name)) == 172


# --- damage


@pytest.mark.parametrize("table", TABLES)
def test_a_damaged_table_is_made_again(folder: Path, work: Path, table: str) -> None:
    before = contents(work)
    path = work / f"{table}.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert build_manifest(folder, work=work).built == (table,)
    assert contents(work) == before


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"rows": 1}'])
def test_a_table_without_a_whole_sidecar_does_not_count(
    folder: Path, work: Path, text: str | None
) -> None:
    sidecar = work / "manifest.parquet.json"
    if text is None:
        sidecar.unlink()
    else:
        sidecar.write_text(text)
    with pytest.raises(StageError, match=r"There is no finished .*manifest\.parquet\.\nBuild it: "):
        k710.load_view("k710/train", work=work)
    assert build_manifest(folder, work=work).built == ("manifest",)


def test_a_table_that_is_cut_short_is_worded(work: Path) -> None:
    os.truncate(work / "manifest.parquet", 100)
    with pytest.raises(StageError, match=r"manifest\.parquet is not the table "):
        k710.load_view("k710/train", work=work)
    own_bytes(work / "manifest.parquet")
    with pytest.raises(
        StageError, match=r"manifest\.parquet can't be read .*\nBuild it again: k710 build-manifest"
    ):
        k710.load_view("k710/train", work=work)


def test_a_place_that_can_not_be_written_is_worded(folder: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    (work / "annotations.parquet.tmp").mkdir(parents=True)
    with pytest.raises(StageError, match=r"annotations\.parquet\.tmp"):
        build_manifest(folder, work=work)


def test_tables_of_two_builds_are_not_read_together(
    folder: Path, work: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    build_manifest(folder, work=other, protect=())
    for name in ("dropped.parquet", "dropped.parquet.json"):
        shutil.copy(other / name, work / name)
    with pytest.raises(StageError, match="don't belong together"):
        k710.explain("-leaked_id0", work=work)
    path = folder / "kinetics400" / "train.csv"
    path.write_text(path.read_text() + "archery,new_id_____,1,11,train\n")
    build_manifest(folder, work=other)
    for name in ("annotations.parquet", "annotations.parquet.json"):
        shutil.copy(other / name, work / name)
    with pytest.raises(StageError, match="don't belong together"):
        k710.load_view("k710/train", work=work)


def test_a_table_of_another_version_is_refused_by_column(work: Path) -> None:
    rewrite_table(work / "manifest.parquet", "select * exclude (view) from whole")
    with pytest.raises(SchemaError, match="column view should be VARCHAR and is missing"):
        k710.load_view("k710/train", work=work)


# --- stopped


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
def test_killed_at_any_moment_the_next_run_finishes(
    large: Path, large_built: tuple[Path, float], tmp_path: Path, seed: int
) -> None:
    check_kills(large, *large_built, tmp_path, rng=random.Random(seed), kills=2)


@pytest.mark.slow
def test_killed_at_many_moments(
    large: Path, large_built: tuple[Path, float], tmp_path: Path
) -> None:
    check_kills(large, *large_built, tmp_path, rng=random.Random(99), kills=30)


def check_kills(
    folder: Path, whole: Path, takes_s: float, tmp_path: Path, *, rng: random.Random, kills: int
) -> None:
    work = tmp_path / "work"
    for _ in range(kills):
        command = [sys.executable, "-c", BUILD, str(folder), str(work)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            while not (work / ".lock").exists() and process.poll() is None:
                time.sleep(0.005)
            time.sleep(takes_s * rng.random())
            process.send_signal(signal.SIGKILL)
        assert_whole_or_nothing(work, whole)
    build_manifest(folder, work=work)
    assert contents(work) == contents(whole)
    left = {path.name for path in work.iterdir()}
    assert left == {".lock", *(f"{t}.parquet{s}" for t in TABLES for s in ("", ".json"))}


def assert_whole_or_nothing(work: Path, whole: Path) -> None:
    for table in TABLES:
        if (work / f"{table}.parquet.json").exists():
            ours = (work / f"{table}.parquet").read_bytes()
            assert ours == (whole / f"{table}.parquet").read_bytes()


def test_ctrl_c_leaves_nothing_half_written(
    large: Path, large_built: tuple[Path, float], tmp_path: Path
) -> None:
    work = tmp_path / "work"
    for attempt in range(20):  # on a busy machine a build may end before the signal comes
        shutil.rmtree(work, ignore_errors=True)
        command = [sys.executable, "-c", BUILD, str(large), str(work)]
        with subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            text=True,
            # Whoever started the tests may ignore it, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as process:
            while not (work / "annotations.parquet.tmp").exists() and process.poll() is None:
                time.sleep(0.005)
            time.sleep(0.02 * attempt)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate()
        if "KeyboardInterrupt" in errors:
            break
    assert "\nKeyboardInterrupt\n" in errors
    assert not list(work.glob("*.tmp"))
    build_manifest(large, work=work)
    assert contents(work) == contents(large_built[0])


# --- out of room


def test_a_full_disk_is_worded_and_the_next_run_finishes(medium: Path, tmp_path: Path) -> None:
    work = tmp_path / "interrupted"  # errors name it, and are no Ctrl-C for that
    build_manifest(medium, work=work, protect=())
    before = contents(work)

    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = run(medium, work, preexec_fn=small_files)
    assert done.returncode != 0
    assert f"StageError: No room left to write in {work}" in done.stderr
    assert "run the same command again" in done.stderr
    assert contents(work) == before
    assert not list(work.glob("*.tmp"))
    build_manifest(medium, work=work)
    assert contents(work) != before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 500 kB; skips where this user may not mount one."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=500k", "tmpfs", str(path)]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("may not mount a small file system here")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def test_a_really_full_disk(medium: Path, folder: Path, small_disk: Path) -> None:
    done = run(medium, small_disk / "work")
    assert "StageError: No room left to write in" in done.stderr
    assert not list((small_disk / "work").glob("*.tmp"))
    assert build_manifest(folder, work=small_disk / "work").built == TABLES


def test_too_little_memory_is_worded(large: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="--memory-limit 5MB is too small for these lists"):
        build_manifest(large, work=tmp_path / "work", memory_limit="5MB")


# --- one at a time


def test_a_second_process_is_told_who_holds_the_work_directory(
    folder: Path, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    with locked(work):
        done = run(folder, work)
    assert done.returncode == 1
    assert f"StageError: {work} is in use by process {os.getpid()} on " in done.stderr
    assert build_manifest(folder, work=work).built == TABLES


def test_the_lock_ends_with_its_process(folder: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    code = (
        "import sys, time; from pathlib import Path; from k710.files import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(work)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        with pytest.raises(StageError, match=f"process {process.pid} on "):
            build_manifest(folder, work=work)
        process.kill()
    assert build_manifest(folder, work=work).built == TABLES


def test_a_work_directory_that_is_a_file_is_said(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "work").write_text("")
    with pytest.raises(StageError, match="work can't be worked in"):
        build_manifest(folder, work=tmp_path / "work")


# --- writing one file


def test_replacing_leaves_the_old_file_when_the_block_fails(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(path) as partial:
        partial.write_text("new")
        _ = 1 / 0
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_sidecars_say_what_a_table_was_made_of(folder: Path, tmp_path: Path) -> None:
    build_manifest(folder, work=tmp_path / "work", protect=("val",))
    sidecar = json.loads((tmp_path / "work" / "manifest.parquet.json").read_text())
    assert sidecar["params"] == {
        "protect": ["val"],
        "prefer": ["k700", "k600", "k400"],
        "dedup": "id",
    }
    assert set(sidecar["inputs"]) == {"annotations", "labels"}
    assert set(sidecar["versions"]) == {"k710", "duckdb", "python"}
    inputs = json.loads((tmp_path / "work" / "annotations.parquet.json").read_text())["inputs"]
    assert "kinetics400/train.csv" in inputs and len(inputs["kinetics400/train.csv"]) == 64
