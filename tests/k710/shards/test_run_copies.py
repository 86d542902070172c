"""A clip that has several copies: whichever is bad, and however, the next one is tried at once."""

import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from k710.engines.local import Failed, Local
from k710.engines.ray import Ray
from k710.part import Part
from k710.report.status import read_status
from k710.shards.run import finish_shards
from k710.shards.summary import ShardProgress
from k710.shards.verify import verify_shards
from k710.sources.index import index_videos
from k710.video.encode import Encoding
from support.list_files import Row, vid
from support.small_shards import (
    SECONDS,
    build,
    copy_of,
    name_of,
    rows_of,
    shard,
    statuses,
    tars,
    write_video,
)

VIEWS = ["k400/train"]


def padded(path: Path, num_bytes: int = 40_000) -> Path:
    """The file made larger: a box that no reader looks into."""
    box = (num_bytes + 8).to_bytes(4, "big") + b"free" + bytes(num_bytes)
    path.write_bytes(path.read_bytes() + box)
    return path


def with_hole(path: Path) -> Path:
    data = bytearray(write_video(path, seed=90).read_bytes())
    at = data.index(b"mdat") + 2000
    data[at : at + 500] = bytes(500)
    path.write_bytes(data)
    return padded(path)


def no_video(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"<html>Too Many Requests</html>" * 3000)
    return path


def empty(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def too_short(path: Path) -> Path:
    return padded(write_video(path, SECONDS * 0.4, seed=91))


def rather_short(path: Path) -> Path:
    return padded(write_video(path, SECONDS * 0.55, seed=92))


def too_long(path: Path) -> Path:
    return padded(write_video(path, SECONDS * 3, seed=93))


def in_tar(path: Path, make: Callable[[Path], Path]) -> Path:
    """A .tar or .tar.gz of that name with a copy in it that is called as the archive."""
    name = path.name.partition(".tar")[0]
    video = make(path.with_name(f"{name}.tmp"))
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as tar:
        tar.add(video, f"deep/{name}.mp4")
    video.unlink()
    return path


# clip -> its copies, the one that is taken first at the beginning; only the last is good.
BAD = [with_hole, no_video, empty, too_short, rather_short, too_long]
KINDS: list[Row] = [("archery", f"k{number}", 10, 10 + SECONDS) for number in range(len(BAD))]
BOTH: Row = ("bowling", "both", 20, 20 + SECONDS)
THREE: Row = ("yoga", "three", 30, 30 + SECONDS)
GONE: Row = ("zumba", "gone", 40, 40 + SECONDS)
TAR: Row = ("archery", "tar", 50, 50 + SECONDS)
LOOSE: Row = ("archery", "loose", 60, 60 + SECONDS)
TWINS: list[Row] = [("yoga", "twin", start, start + SECONDS) for start in (2, 6)]
ROWS = [*KINDS, BOTH, THREE, GONE, TAR, LOOSE, *TWINS]


def write_copies(folder: Path) -> dict[str, Path]:
    """The copies of all clips; returns which is the good one of each, by clip_id."""
    good = {}
    for number, (row, make) in enumerate(zip(KINDS, BAD, strict=True)):
        name = name_of(row)
        if make is empty:  # no bytes at all come first where they are a clip by name
            make(folder / f"{name}.mp4")
            good[name] = write_video(folder / f"{vid(row[1])}.mp4", row[3] + 1, seed=number)
        else:
            make(folder / "a" / f"{name}.mp4")
            good[name] = write_video(folder / "b" / f"{name}.mp4", seed=number)
    name = name_of(BOTH)  # of two that are short the longer one
    rather_short(folder / "a" / f"{name}.mp4")
    good[name] = write_video(folder / "b" / f"{name}.mp4", SECONDS * 0.7, seed=7)
    with_hole(folder / "c" / f"{name}.mp4")
    name = name_of(THREE)
    padded(with_hole(folder / "a" / f"{name}.mp4"))
    too_short(folder / "c" / f"{name}.mp4")
    good[name] = write_video(folder / "d" / f"{name}.mp4", seed=8)
    name = name_of(GONE)
    padded(write_video(folder / "gone" / f"{name}.mp4", seed=9))
    good[name] = write_video(folder / "b" / f"{name}.mp4", seed=10)
    name = name_of(TAR)
    in_tar(folder / f"{name}.tar", with_hole)
    good[name] = write_video(folder / "b" / f"{name}.mp4", seed=11)
    name = name_of(LOOSE)
    with_hole(folder / "a" / f"{name}.mp4")
    good[name] = in_tar(folder / f"{name}.tar.gz", lambda path: write_video(path, seed=12))
    # One is a clip by its name and broken; a file as long as either window says not which it is.
    for row in TWINS:
        no_video(folder / "a" / f"{name_of(row)}.mp4")
        good[name_of(row)] = write_video(folder / "c" / f"{vid('twin')}.mp4", 9, seed=13)
    padded(write_video(folder / "b" / f"{vid('twin')}.mp4", seed=14), 500_000)
    return good


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path]]:
    """A work directory with many bad copies, and the good copy of each clip."""
    folder = tmp_path_factory.mktemp("copies")
    work = build(folder, train=ROWS, val=[("yoga", "v", 0, SECONDS)])
    good = write_copies(folder / "videos")
    index_videos([folder / "videos"], work=work)
    shutil.rmtree(folder / "videos" / "gone")  # since it was found
    return work, good


@pytest.fixture(scope="module")
def made(begun: tuple[Path, dict[str, Path]]) -> Path:
    """The same with its shards made by one run."""
    work = copy_of(begun[0], begun[0].with_name("made"))
    shard(work, VIEWS)
    return work


def chosen(work: Path) -> dict[str, Path]:
    """clip_id -> the file that it is made of."""
    return {clip_id: Path(uri) for clip_id, uri in rows_of(work, "sources", "clip_id, uri") if uri}


def test_each_clip_is_made_of_its_good_copy(
    begun: tuple[Path, dict[str, Path]], made: Path
) -> None:
    assert chosen(made) == begun[1]
    found = statuses(made)
    assert found.pop(name_of(BOTH)) == "truncated"
    assert found.pop(f"{vid('v')}_000000_{SECONDS:06d}") == "missing"
    assert set(found.values()) == {"ok"}
    lengths = dict(rows_of(made, "index", "clip_id, num_frames"))
    assert lengths.pop(name_of(BOTH)) == 14
    assert set(lengths.values()) == {SECONDS * 10}
    assert verify_shards(work=made, deep=True, workers=1).faults == ()


def test_what_was_tried_is_known_and_not_tried_again(made: Path, tmp_path: Path) -> None:
    tried = []
    for path in (made / "tries").glob("*.parquet"):
        tried += rows_of(made, f"tries/{path.stem}", "clip_id, turn, status, tool")
    assert {row[3].partition(" ")[0] for row in tried} == {"shard"}
    found = {row[2] for row in tried}
    assert found == {"damaged", "empty", "truncated", "mismatched", "missing", "ok"}
    of_three = [row[1:3] for row in sorted(tried) if row[0] == name_of(THREE)]
    assert of_three == [(0, "damaged"), (1, "truncated"), (2, "ok")]
    of_twin = [row[2] for row in sorted(tried) if row[0] == name_of(TWINS[0])]
    assert of_twin == ["damaged", "missing", "ok"]
    work = copy_of(made, tmp_path / "work")
    index_videos([made.parent / "videos"], work=work)
    rows = rows_of(work, "copies", "clip_id, place, status, could_be")
    known = [row[1:3] for row in sorted(rows) if row[0] == name_of(THREE)]
    assert known == [(1, "ok"), (2, "damaged"), (3, "truncated")]
    assert shard(work, VIEWS).shards_made == ()


@pytest.mark.parametrize(
    "how",
    [
        {"parts": 2},
        {"again": True},
        pytest.param({"stopped_after": 4}, marks=pytest.mark.slow),
        pytest.param({"workers": 2, "staging_bytes": 1}, marks=pytest.mark.slow),
        pytest.param({"engine": Ray(workers=2), "workers": None}, marks=pytest.mark.slow),
    ],
)
def test_which_copy_it_is_does_not_depend_on_how_the_work_went(
    begun: tuple[Path, dict[str, Path]], made: Path, tmp_path: Path, how: dict[str, Any]
) -> None:
    work = copy_of(begun[0], tmp_path / "work")
    if "parts" in how:
        for number in (2, 1):
            shard(work, VIEWS, part=Part(number, 2))
        finish_shards(VIEWS, work=work)
    elif "stopped_after" in how:

        def stop(progress: ShardProgress) -> None:
            if progress.clips == how["stopped_after"]:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            shard(work, VIEWS, on_progress=stop)
        assert list((work / "staging").iterdir())
        shard(work, VIEWS)
    elif "again" in how:  # a shard that was lost, when all is known of its copies
        shutil.rmtree(work)
        copy_of(made, work)
        (work / "shards" / "000000.tar").unlink()
        shard(work, VIEWS)
    else:
        shard(work, VIEWS, **how)
    assert tars(work) == tars(made)


@pytest.mark.slow
def test_the_bytes_of_the_good_copy_go_in(
    begun: tuple[Path, dict[str, Path]], tmp_path: Path
) -> None:
    work = copy_of(begun[0], tmp_path / "work")
    shard(work, VIEWS, encoding=Encoding("copy"))
    assert chosen(work) == begun[1]
    assert verify_shards(work=work, deep=True, workers=1).faults == ()


@pytest.mark.slow
def test_a_probe_comes_to_the_same_copies(
    begun: tuple[Path, dict[str, Path]], made: Path, tmp_path: Path
) -> None:
    work = copy_of(begun[0], tmp_path / "work")
    index_videos([begun[0].parent / "videos"], work=work, probe=True, workers=1)
    assert chosen(work) == begun[1]
    shard(work, VIEWS)
    assert tars(work) == tars(made)


def test_a_copy_that_costs_its_worker_makes_room_for_the_next(tmp_path: Path) -> None:
    row: Row = ("archery", "a", 0, SECONDS)
    work = build(tmp_path, train=[row], val=[("yoga", "v", 0, SECONDS)])
    videos = tmp_path / "videos"
    padded(write_video(videos / "a" / f"{name_of(row)}.mp4"))
    good = write_video(videos / "b" / f"{name_of(row)}.mp4", seed=1)
    index_videos([videos], work=work)

    class Failing(Local):
        """Its workers die of what lies in a/."""

        def run(
            self, function: Any, tasks: Iterable[Any], *, timeout_s: float
        ) -> Iterator[tuple[Any, Any]]:
            for task in tasks:
                if "/a/" in task.source.path:
                    yield task, Failed("the worker died (SIGKILL)")
                else:
                    yield from super().run(function, [task], timeout_s=timeout_s)

    shard(work, VIEWS, engine=Failing(1), workers=None)
    assert chosen(work) == {name_of(row): good}
    assert statuses(work)[name_of(row)] == "ok"


def test_nothing_is_final_while_a_copy_is_untried(tmp_path: Path) -> None:
    row: Row = ("archery", "a", 0, SECONDS)
    work = build(tmp_path, train=[row], val=[("yoga", "v", 0, SECONDS)])
    videos = tmp_path / "videos"
    with_hole(videos / "a" / f"{name_of(row)}.mp4")
    no_video(videos / "b" / f"{name_of(row)}.mp4")
    index_videos([videos], work=work)
    shard(work, VIEWS)
    assert statuses(work)[name_of(row)] == "damaged"
    assert read_status(VIEWS, work=work).views[0].final == 1
    good = write_video(tmp_path / "more" / f"{name_of(row)}.mp4", seed=1)
    index_videos([tmp_path / "more"], work=work)
    assert read_status(VIEWS, work=work).views[0].to_shard == 1
    assert len(shard(work, VIEWS).shards_made) == 1
    assert chosen(work) == {name_of(row): good}
    # Of the two that were tried before there was no need to try one again.
    tries = rows_of(work, "tries/000001", "uri, status")
    assert tries == [(str(good), "ok")]


# --- files that moved


@pytest.fixture
def moved(tmp_path: Path) -> tuple[Path, list[Row]]:
    """A work directory whose videos, some in an archive, were moved from a/ to b/ since."""
    rows: list[Row] = [("archery", f"m{number}", 0, SECONDS) for number in range(4)]
    work = build(tmp_path, train=rows, val=[("yoga", "v", 0, SECONDS)])
    for number, row in enumerate(rows[:3]):
        write_video(tmp_path / "a" / "archery" / f"{name_of(row)}.mp4", seed=number)
    in_tar(tmp_path / "a" / f"{name_of(rows[3])}.tar.gz", lambda path: write_video(path, seed=3))
    index_videos([tmp_path / "a"], work=work)
    (tmp_path / "a").rename(tmp_path / "b")
    return work, rows


def test_videos_that_moved_are_missing_until_they_are_found_and_then_stored(
    moved: tuple[Path, list[Row]], tmp_path: Path
) -> None:
    work, rows = moved
    assert shard(work, VIEWS).clips_undecided == 4
    assert {statuses(work)[name_of(row)] for row in rows} == {"missing"}
    assert read_status(VIEWS, work=work).views[0].pending == 4
    summary = index_videos([tmp_path / "b"], work=work)
    assert (summary.used, summary.duplicates, summary.remarks) == (4, 0, ())
    assert shard(work, VIEWS).clips_undecided == 0
    assert {path.relative_to(tmp_path).parts[0] for path in chosen(work).values()} == {"b"}
    assert {statuses(work)[name_of(row)] for row in rows} == {"ok"}
    (tmp_path / "b").rename(tmp_path / "c")
    index_videos([tmp_path / "c"], work=work)
    assert shard(work, VIEWS).shards_made == (), "what is stored stays"


def test_a_run_looks_again_before_it_says_missing(
    moved: tuple[Path, list[Row]], tmp_path: Path
) -> None:
    work, rows = moved
    (tmp_path / "other").mkdir()
    index_videos([tmp_path / "other"], work=work)
    assert {statuses(work)[name_of(row)] for row in rows} == {"missing"}
    (tmp_path / "b").rename(tmp_path / "a")  # as a disk that is mounted again
    shard(work, VIEWS)
    assert {statuses(work)[name_of(row)] for row in rows} == {"ok"}


# --- other files in the same place


def test_a_copy_that_was_mended_at_its_size_is_taken(tmp_path: Path) -> None:
    row: Row = ("archery", "a", 0, SECONDS)
    work = build(tmp_path, train=[row], val=[("yoga", "v", 0, SECONDS)])
    path = write_video(tmp_path / "videos" / f"{name_of(row)}.mp4")
    sound = path.read_bytes()
    broken = bytearray(sound)
    at = broken.index(b"mdat") + 2000
    broken[at : at + 500] = bytes(500)
    path.write_bytes(broken)
    index_videos([path], work=work)
    shard(work, VIEWS)
    assert statuses(work)[name_of(row)] == "damaged"
    assert shard(work, VIEWS).shards_made == ()
    path.write_bytes(sound)
    index_videos([path], work=work)
    assert len(shard(work, VIEWS).shards_made) == 1
    assert statuses(work)[name_of(row)] == "ok"
    path.touch()
    index_videos([path], work=work)
    assert shard(work, VIEWS).shards_made == (), "another time alone is no reason to encode it"


@pytest.mark.slow
def test_a_copy_that_was_mended_while_its_shard_is_under_way_is_taken(tmp_path: Path) -> None:
    rows: list[Row] = [("archery", name, 0, SECONDS) for name in "ab"]
    work = build(tmp_path, train=rows, val=[("yoga", "v", 0, SECONDS)])
    videos = tmp_path / "videos"
    paths = [write_video(videos / f"{name_of(row)}.mp4", seed=n) for n, row in enumerate(rows)]
    sound = paths[0].read_bytes()
    with_hole(paths[0])
    paths[0].write_bytes(paths[0].read_bytes()[: len(sound)])
    index_videos([videos], work=work)

    def stop(progress: ShardProgress) -> None:
        if progress.clips == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shard(work, VIEWS, on_progress=stop)
    paths[0].write_bytes(sound)
    shard(work, VIEWS)
    assert {statuses(work)[name_of(row)] for row in rows} == {"ok"}
