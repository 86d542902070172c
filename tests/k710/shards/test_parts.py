"""Parts of a run: each shard is one part's, none disturbs another, and the join misses nothing."""

import fcntl
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import k710
from k710.errors import StageError
from k710.part import Part
from k710.shards import parts
from k710.shards.parts import part_locked
from k710.shards.run import finish_shards
from k710.shards.staging import MARKER, clear
from k710.sources.index import index_videos
from k710.video.encode import Encoding
from support.list_files import write_lists
from support.small_shards import (
    FEW,
    TRAIN,
    all_made,
    all_ready,
    build,
    copy_of,
    name_of,
    ready,
    rows_of,
    shard,
    tars,
    without_copies,
    write_videos,
)

K710 = str(Path(sys.executable).with_name("k710"))
VIEWS = ("k400/train", "k400/val")


@pytest.fixture(scope="module")
def untouched() -> Path:
    """A work directory with sources and no shards, never written to."""
    return all_ready()


@pytest.fixture(scope="module")
def plain() -> dict[str, bytes]:
    """What one run makes of it."""
    return tars(all_made())


@pytest.fixture
def work(untouched: Path, tmp_path: Path) -> Path:
    return copy_of(untouched, tmp_path / "work")


# --- one after the other


def test_parts_in_any_order_make_what_one_run_makes(work: Path, plain: dict[str, bytes]) -> None:
    for number in (3, 1, 2):
        shard(work, part=Part(number, 3))
    summary = finish_shards(VIEWS, work=work)
    assert sum(fate.stored for fate in summary.fates) == 14
    assert tars(work) == plain
    assert sorted(path.name for path in (work / "parts").iterdir()) == [
        f"{n:03d}_of_003.json" for n in (1, 2, 3)
    ]


@pytest.mark.slow
def test_a_part_tells_of_its_own_shards(work: Path) -> None:
    first, second = (shard(work, part=Part(number, 2)) for number in (1, 2))
    assert {number % 2 for number in first.shards_made} == {0}
    assert first.part == "1/2" and first.shards_in_all == len(first.shards_made)
    stored = [sum(fate.stored for fate in summary.fates) for summary in (first, second)]
    assert min(stored) > 0 and sum(stored) == 14
    assert {fate.status for fate in first.fates} == {"ok"}
    record = json.loads((work / "parts" / "001_of_002.json").read_text())
    assert record["shards_made"] == list(first.shards_made)
    assert record["views"] == list(VIEWS)


def test_a_part_that_is_done_does_nothing(work: Path) -> None:
    assert shard(work, part=Part(1, 4)).shards_made
    assert shard(work, part=Part(1, 4)).shards_made == ()


@pytest.mark.slow
def test_more_parts_than_shards(work: Path, plain: dict[str, bytes]) -> None:
    for number in range(1, 10):
        shard(work, part=Part(number, 9))
    finish_shards(VIEWS, work=work)
    assert tars(work) == plain


def test_a_dry_run_of_a_part_makes_nothing(work: Path) -> None:
    whole = shard(work, dry_run=True)
    halves = [shard(work, part=Part(number, 2), dry_run=True) for number in (1, 2)]
    assert sum(half.clips_to_make for half in halves) == whole.clips_to_make == 14
    assert not (work / "plan.parquet").exists() and not (work / "shards").exists()


@pytest.mark.slow
def test_a_plain_run_takes_over(work: Path, plain: dict[str, bytes]) -> None:
    shard(work, part=Part(2, 3))
    shard(work)
    assert tars(work) == plain
    assert not (work / "parts" / "round.json").exists()


@pytest.mark.slow
def test_the_first_part_brings_sources_up_to_date(work: Path, untouched: Path) -> None:
    shard(work)
    newer = (work / "sources.parquet").read_bytes()
    # As a run leaves it that is killed.
    for name in (
        f"{table}.parquet{end}" for table in ("copies", "sources") for end in ("", ".json")
    ):
        shutil.copy(untouched / name, work / name)
    with part_locked(work, Part(2, 2)):
        shard(work, part=Part(1, 2))
        assert (work / "sources.parquet").read_bytes() != newer, "another part reads it"
    shard(work, part=Part(1, 2))
    assert (work / "sources.parquet").read_bytes() == newer


# --- the plan stays


@pytest.mark.slow
def test_copies_that_turn_up_change_nothing_until_the_join(tmp_path: Path) -> None:
    work = build(tmp_path)
    index_videos([write_videos(tmp_path / "few", TRAIN[:6])], work=work)
    shard(work, ["k400/train"], part=Part(1, 2))
    shard(work, ["k400/train"], part=Part(2, 2))
    before = rows_of(work, "plan")
    index_videos([write_videos(tmp_path / "more", TRAIN[6:])], work=work)
    assert shard(work, ["k400/train"], part=Part(2, 2)).shards_made == ()
    assert rows_of(work, "plan") == before
    finish_shards(["k400/train"], work=work)
    for number in (1, 2):
        shard(work, ["k400/train"], part=Part(number, 2))
    finish_shards(["k400/train"], work=work)
    assert {row[0] for row in rows_of(work, "index", "clip_id")} == set(map(name_of, TRAIN))


@pytest.mark.slow
def test_retry_gives_a_clip_one_more_place_and_not_one_for_each_part(tmp_path: Path) -> None:
    work = build(tmp_path)
    folder = write_videos(tmp_path / "v", TRAIN)
    (path,) = folder.rglob(f"{name_of(TRAIN[0])}.mp4")
    path.write_bytes(path.read_bytes()[:-2000])
    index_videos([folder], work=work)
    shard(work, ["k400/train"])
    places = len(rows_of(work, "plan"))
    for number in (1, 2, 3):
        shard(work, ["k400/train"], part=Part(number, 3), retry=True)
    finish_shards(["k400/train"], work=work)
    assert len(rows_of(work, "plan")) == places + 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seed": 1}, r"seed '0' \(now '1'\)"),
        ({"encoding": Encoding("intra")}, "intra"),
        ({"views": ["k400/train"]}, "views"),
        ({"retry": True}, r"retry 'False' \(now 'True'\)"),
    ],
)
def test_parts_of_one_run_have_the_same_options(
    work: Path, options: dict[str, Any], words: str
) -> None:
    shard(work, part=Part(8, 9))  # there are fewer shards: it begins the run, and makes none
    with pytest.raises(StageError, match=rf"started with [\s\S]*{words}[\s\S]*Start part 2/9"):
        shard(work, part=Part(2, 9), **options)


# --- the join


def test_a_join_names_the_parts_that_lack_shards(tmp_path: Path) -> None:
    work = without_copies(tmp_path)
    for number in (1, 3):
        shard(work, part=Part(number, 3))
    with pytest.raises(StageError) as error:
        finish_shards(VIEWS, work=work)
    assert "000001" in str(error.value)
    command = f"k710 shard --views k400/train,k400/val --work {work} --part 2/3"
    assert str(error.value).endswith(f"\n    {command}")
    assert not (work / "index.parquet").exists()


def test_a_join_takes_no_tar_that_was_cut_short(tmp_path: Path) -> None:
    work = ready(tmp_path, **FEW)
    shard(work, part=Part(1, 1))
    tar = work / "shards" / "000000.tar"
    tar.write_bytes(tar.read_bytes()[:-512])
    with pytest.raises(StageError, match=r"000000\.[\s\S]*--part 1/1"):
        finish_shards(VIEWS, work=work)


def test_a_join_of_what_was_never_planned(tmp_path: Path) -> None:
    work = without_copies(tmp_path)
    with pytest.raises(StageError, match="Nothing is planned"):
        finish_shards(VIEWS, work=work)
    shard(work, ["k400/val"], part=Part(1, 1))
    with pytest.raises(StageError, match=r"Nothing is planned in \S+ for k400/train\."):
        finish_shards(VIEWS, work=work)


# --- at the same time


@contextmanager
def held(path: Path) -> Iterator[None]:
    """The lock at `path`, as another process holds it."""
    path.parent.mkdir(exist_ok=True)
    with path.open("a+") as file:
        file.write("process 1 on elsewhere\n")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_the_same_part_twice(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_WAIT_S", 0.5)
    with (
        held(work / "parts" / "001_of_002.lock"),
        pytest.raises(StageError, match="in use by part 1/2, process 1 on elsewhere"),
    ):
        shard(work, part=Part(1, 2))


def test_of_parts_that_start_at_once_one_brings_sources_up_to_date(work: Path) -> None:
    called: list[int] = []
    begun = threading.Barrier(3)

    def take(number: int) -> None:
        with part_locked(work, Part(number, 3), when_first=lambda: called.append(number)):
            begun.wait(timeout=30)

    (work / "parts").mkdir(exist_ok=True)
    with parts.planning(work):
        threads = [threading.Thread(target=take, args=(number,)) for number in (1, 2, 3)]
        for thread in threads:
            thread.start()
        while len(parts._at_work(work)) < 3:
            time.sleep(0.01)
    for thread in threads:
        thread.join()
    assert len(called) == 1


@pytest.mark.parametrize("given", [{}, {"part": Part(1, 2)}])
@pytest.mark.parametrize("url", ["sftp://me:hush@host/d", "az://box/d?sig=hush"])
def test_a_password_of_a_staging_url_is_refused(
    work: Path, given: dict[str, Any], url: str
) -> None:
    with pytest.raises(StageError, match="--staging has a password in it") as error:
        shard(work, staging=url, **given)
    assert "hush" not in str(error.value)


def test_a_chain_of_urls_is_no_staging(work: Path) -> None:
    with pytest.raises(StageError, match="no chain of them") as error:
        shard(work, staging="simplecache::s3://me:hush@bucket")
    assert "hush" not in str(error.value)
    assert not list(work.parent.glob("simplecache*"))


def test_parts_of_another_number(work: Path) -> None:
    with (
        held(work / "parts" / "001_of_002.lock"),
        pytest.raises(StageError, match="in use by part 1/2, process 1 on elsewhere"),
    ):
        shard(work, part=Part(1, 3))
    shard(work, part=Part(8, 8))
    shard(work, part=Part(8, 9))


def test_nothing_else_runs_while_a_part_does(work: Path) -> None:
    with part_locked(work, Part(3, 16)):
        with pytest.raises(StageError, match=r"in use by part 3/16 \(process \d+ on "):
            shard(work)
        with pytest.raises(StageError, match="part 3/16"):
            finish_shards(VIEWS, work=work)
        with pytest.raises(StageError, match="in use by parts of k710 shard"):
            index_videos([work.parent], work=work)


def test_a_part_waits_for_who_works_on_all(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_WAIT_S", 0.5)
    with held(work / ".lock"), pytest.raises(StageError, match="process 1 on elsewhere"):
        shard(work, part=Part(8, 9))
    shard(work, part=Part(8, 9))


def test_a_dry_run_changes_nothing(work: Path) -> None:
    shard(work, part=Part(8, 9))
    before = (work / "parts" / "round.json").read_bytes()
    shard(work, part=Part(1, 16), dry_run=True)
    assert (work / "parts" / "round.json").read_bytes() == before


def test_a_manifest_built_anew_between_parts_is_refused(
    untouched: Path, work: Path, tmp_path: Path
) -> None:
    shard(work, part=Part(8, 9))
    lists = write_lists(tmp_path / "more", {"k400/train": [("yoga", "new", 0, 2)]})
    k710.build_manifest(lists, work=work)
    index_videos([untouched.parent / "videos"], work=work)
    with pytest.raises(StageError, match=r"parts of this run were started with .*manifest"):
        shard(work, ["k400/train"], part=Part(2, 9))


def test_clips_that_no_part_knew_of_are_not_all_there(tmp_path: Path) -> None:
    work = without_copies(tmp_path)
    shard(work, ["k400/train"], part=Part(1, 1))
    rows = [*TRAIN, ("yoga", "new", 0, 2)]
    k710.build_manifest(write_lists(tmp_path / "more", {"k400/train": rows}), work=work)
    index_videos([tmp_path / "nothing"], work=work)
    with pytest.raises(StageError, match="1 clips of k400/train are in no plan"):
        finish_shards(["k400/train"], work=work)


@pytest.mark.slow
def test_what_was_staged_elsewhere_goes_when_all_is_joined(work: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    for number in (1, 2):
        shard(work, part=Part(number, 2), staging=elsewhere)
    (left,) = elsewhere.iterdir()
    (left / "001_of_002").mkdir(exist_ok=True)
    (left / "001_of_002" / "of a part that was killed.mp4").touch()
    finish_shards(VIEWS, work=work)
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("place", ["mine", "mine/staging", "mine/k710-0123456789ab"])
def test_no_folder_is_removed_because_a_file_names_it(
    work: Path, tmp_path: Path, place: str
) -> None:
    shard(work, part=Part(1, 1))
    mine = tmp_path / place
    mine.mkdir(parents=True)
    (mine / "thesis.txt").write_text("of the user")
    (mine / MARKER).touch()
    path = work / "parts" / "round.json"
    opened = json.loads(path.read_text())
    path.write_text(json.dumps({**opened, "wish": {**opened["wish"], "staging": str(mine)}}))
    finish_shards(VIEWS, work=work)
    assert (mine / "thesis.txt").read_text() == "of the user"


def test_a_folder_of_the_users_that_is_called_as_ours_stays(work: Path) -> None:
    (work / "staging").mkdir()
    (work / "staging" / "thesis.txt").write_text("of the user")
    clear(str(work / "staging"))
    assert (work / "staging" / "thesis.txt").read_text() == "of the user"


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"of": 0, "wish": {}}', '{"of": "2", "wish": {}}', "\xff", "{"]
)
def test_a_round_that_is_none_is_said(work: Path, text: str) -> None:
    (work / "parts").mkdir()
    (work / "parts" / "round.json").write_text(text, encoding="latin-1")
    with pytest.raises(StageError, match=r"round\.json is not what k710 writes"):
        shard(work, part=Part(1, 2))


@pytest.mark.parametrize("name", ["a_of_b", "3_of_2", "1_of_2_of_3"])
def test_a_lock_of_no_part_is_passed_over(work: Path, name: str) -> None:
    (work / "parts").mkdir()
    (work / "parts" / f"{name}.lock").touch()
    with part_locked(work, Part(1, 2)):
        pass


def start(work: Path, part: str) -> "subprocess.Popen[str]":
    command = [K710, "shard", "--views", ",".join(VIEWS), "--work", str(work), "--part", part]
    return subprocess.Popen(
        [*command, "--shard-size", "500kB", "--workers", "1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_part_that_was_killed_goes_on(
    work: Path, plain: dict[str, bytes], number: signal.Signals
) -> None:
    process = start(work, "1/2")
    while process.poll() is None and not list(work.glob("staging/001_of_002/*.json")):
        time.sleep(0.001)
    process.send_signal(number)
    process.communicate()
    assert process.returncode != 0
    for part in (Part(1, 2), Part(2, 2)):
        shard(work, part=part)
    finish_shards(VIEWS, work=work)
    assert tars(work) == plain
    assert not (work / "staging").exists()


# --- a small disk


@pytest.mark.slow
def test_found_only_plans_what_is_there(tmp_path: Path) -> None:
    work = build(tmp_path)
    few = write_videos(tmp_path / "few", TRAIN[:5])
    index_videos([few], work=work)
    shard(work, ["k400/train"], found_only=True)
    assert {row[0] for row in rows_of(work, "plan")} == set(map(name_of, TRAIN[:5]))
    assert shard(work, ["k400/train"], found_only=True).shards_made == ()
    shutil.rmtree(few)
    index_videos([write_videos(tmp_path / "more", TRAIN[5:])], work=work)
    shard(work, ["k400/train"], found_only=True)
    plan = [row[0] for row in rows_of(work, "plan")]
    assert sorted(plan) == sorted(map(name_of, TRAIN))
    assert {row[0] for row in rows_of(work, "index", "clip_id")} == set(plan)
