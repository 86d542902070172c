"""A view as a webdataset pipeline: its clips, each once an epoch, under their own classes."""

import csv
import gc
import pickle
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import k710
from k710.errors import MediaError, StageError
from k710.files import manifests_dir
from k710.video.frames import read_frames
from support.list_files import write_lists
from support.small_shards import (
    FEW,
    FPS,
    SECONDS,
    TRAIN,
    VAL,
    all_made,
    all_ready,
    build,
    copy_of,
    name_of,
    ready,
    rows_of,
    shard,
    write_videos,
)

# webdataset leaves its files to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
IN_TRAIN = Counter(name_of(row) for row in TRAIN)
OF_LABEL = {name_of(row): row[0] for row in [*TRAIN, *VAL]}


@pytest.fixture(scope="module")
def made() -> Path:
    """A work directory with all its shards made, never written to."""
    return all_made()


@pytest.fixture(autouse=True)
def close_files() -> Iterator[None]:
    yield
    gc.collect()  # or a later test would be told of them


def keys(work: Path, view: str = "k400/train", **options: Any) -> list[str]:
    return [sample["__key__"] for sample in k710.open_view(view, work=work, **options)]


def table(name: str) -> list[dict[str, str]]:
    with (manifests_dir() / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def indices(column: str) -> dict[str, int]:
    """label -> index, as a column of labels.csv has it."""
    return {line["label"]: int(line[column]) for line in table("labels.csv") if line[column]}


# --- which clips


@pytest.mark.parametrize("split, rows", [("train", TRAIN), ("val", VAL)])
@pytest.mark.parametrize("dataset", ["k400", "k710"])
def test_the_clips_of_the_view_and_no_others(
    made: Path, dataset: str, split: str, rows: Any
) -> None:
    shards = dict(rows_of(made, "index", "clip_id, shard"))
    mixed = {shards[name_of(row)] for row in TRAIN} & {shards[name_of(row)] for row in VAL}
    assert mixed, "or this would prove nothing"
    assert Counter(keys(made, f"{dataset}/{split}")) == Counter(map(name_of, rows))


def test_only_shards_that_hold_the_view_are_opened(made: Path, tmp_path: Path) -> None:
    work = copy_of(made, tmp_path / "work")
    shards = dict(rows_of(work, "index", "clip_id, shard"))
    needed = {shards[name_of(row)] for row in VAL}
    for number in set(shards.values()) - needed:
        (work / "shards" / f"{number:06d}.tar").write_bytes(b"no tar")
    assert Counter(keys(work, "k400/val")) == Counter(map(name_of, VAL))


def test_a_sample_holds_the_bytes_of_the_video(made: Path) -> None:
    stored = rows_of(made, "index", 'clip_id, shard, "offset", bytes')
    places = {clip_id: (number, offset, size) for clip_id, number, offset, size in stored}
    for sample in k710.open_view("k400/train", work=made):
        assert "json" not in sample
        number, offset, size = places[sample["__key__"]]
        tar = (made / "shards" / f"{number:06d}.tar").read_bytes()
        assert sample["mp4"] == tar[offset : offset + size]


def test_the_manifest_decides_and_not_the_json_in_the_shards(made: Path, tmp_path: Path) -> None:
    work = copy_of(made, tmp_path / "work")
    _, short_id, start, end = TRAIN[0]
    later = build(tmp_path / "later", train=[("zumba", short_id, start, end)], val=TRAIN[1:])
    for path in later.iterdir():
        shutil.copy(path, work)
    (sample,) = k710.open_view("k400/train", work=work)
    assert (sample["__key__"], sample["cls"]) == (name_of(TRAIN[0]), indices("k400")["zumba"])


# --- under which class


@pytest.mark.parametrize("view", ["k400/train", "k710/train"])
def test_cls_is_the_class_index_in_either_family(made: Path, view: str) -> None:
    rows, k400 = list(indices("row")), indices("k400")
    aliases = {a["label"]: a["alias"] for a in table("aliases.csv") if "k400" in a["datasets"]}
    by_name = sorted(k400, key=lambda label: aliases.get(label, label))
    order = {
        "k400/train": {"opengvlab": sorted(k400, key=lambda n: k400[n]), "alphabetical": by_name},
        "k710/train": {"opengvlab": rows, "alphabetical": by_name + rows[400:]},
    }[view]
    for family in ("opengvlab", "alphabetical"):
        for sample in k710.open_view(view, work=made, family=family):
            assert order[family][sample["cls"]] == OF_LABEL[sample["__key__"]]


def test_cls_counts_in_the_views_own_data_set(tmp_path: Path) -> None:
    rows = [("yoga", "a", 0, 2), ("zumba", "b", 0, 2)]
    tests = [("", "c", 0, 2)]
    lists = write_lists(tmp_path / "annotations", {"k600/train": rows, "k600/test": tests})
    k710.build_manifest(lists, work=tmp_path / "work")
    k710.index_videos([write_videos(tmp_path / "videos", [*rows, *tests])], work=tmp_path / "work")
    shard(tmp_path / "work", ["k600/train", "k600/test"])
    classes = {s["__key__"]: s["cls"] for s in k710.open_view("k600/train", work=tmp_path / "work")}
    assert classes == {name_of(row): indices("k600")[row[0]] for row in rows}
    assert set(classes.values()).isdisjoint({indices("row")["yoga"], indices("row")["zumba"]})
    (sample,) = k710.open_view("k600/test", work=tmp_path / "work")
    assert sample["__key__"] == name_of(tests[0]) and "cls" not in sample


# --- in which order


def test_the_order_depends_on_seed_and_epoch_alone(made: Path) -> None:
    orders = [keys(made, shuffle=5, seed=seed, epoch=epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4
    assert all(Counter(order) == IN_TRAIN for order in orders)
    assert keys(made, shuffle=5, seed=1, epoch=1) == orders[3]
    opened = k710.open_view("k400/train", work=made, shuffle=5, epoch=1)
    for _ in range(2):
        assert [sample["__key__"] for sample in opened] == orders[1]


def test_shards_are_shuffled_even_if_the_buffer_holds_one_clip(made: Path) -> None:
    shards = dict(rows_of(made, "index", "clip_id, shard"))
    orders = {
        tuple(dict.fromkeys(shards[k] for k in keys(made, shuffle=1, epoch=e))) for e in range(9)
    }
    assert len(orders) > 3


def test_without_shuffling_clips_come_as_they_are_stored(made: Path) -> None:
    stored = sorted(rows_of(made, "index", 'shard, "offset", clip_id'))
    assert keys(made) == [clip_id for *_, clip_id in stored if clip_id in IN_TRAIN]
    assert keys(made, epoch=3) == keys(made)


# --- by how many processes


@pytest.mark.parametrize("nodes, workers", [(2, 1), (2, 2), (9, 2)])
def test_each_clip_comes_once_whatever_the_nodes(
    made: Path, monkeypatch: pytest.MonkeyPatch, nodes: int, workers: int
) -> None:
    seen: Counter[str] = Counter()
    monkeypatch.setenv("WORLD_SIZE", str(nodes))
    monkeypatch.setenv("NUM_WORKERS", str(workers))
    for process in range(nodes * workers):
        monkeypatch.setenv("RANK", str(process // workers))
        monkeypatch.setenv("WORKER", str(process % workers))
        mine = keys(made, shuffle=5, epoch=2)
        assert len(mine) < len(IN_TRAIN)
        seen.update(mine)
    assert seen == IN_TRAIN


def test_it_can_be_sent_to_another_process(made: Path) -> None:
    opened = k710.open_view("k400/train", work=made, shuffle=5, frames=2)
    sent = pickle.loads(pickle.dumps(opened))
    assert [s["__key__"] for s in sent] == [s["__key__"] for s in opened]


def test_it_needs_no_torch(made: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None; import k710; "
        f"print(len(list(k710.open_view('k400/train', work={str(made)!r}, frames=2))))"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"{len(TRAIN)}\n", "")


# --- decoded


@pytest.mark.parametrize(
    "frames, chosen", [(1, [10]), (4, [2, 7, 12, 17]), (20, [*range(20)]), (40, None)]
)
def test_frames_are_those_of_read_frames(made: Path, frames: int, chosen: list[int] | None) -> None:
    total = SECONDS * FPS
    assert total == 20
    chosen = chosen or [i // 2 for i in range(40)]
    raw = k710.open_view("k400/train", work=made)
    decoded = k710.open_view("k400/train", work=made, frames=frames)
    for plain, sample in zip(raw, decoded, strict=True):
        assert sample["mp4"].shape == (frames, 48, 72, 3) and sample["mp4"].dtype == "uint8"
        assert (sample["mp4"] == read_frames(plain["mp4"], chosen)).all()
        assert sample["cls"] == plain["cls"]


def test_a_broken_video_is_named(tmp_path: Path) -> None:
    work = ready(tmp_path, **FEW)
    shard(work)
    clip_id, number, offset, size = rows_of(work, "index", 'clip_id, shard, "offset", bytes')[1]
    tar = work / "shards" / f"{number:06d}.tar"
    with tar.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(size))
    with pytest.raises(MediaError, match=f"{clip_id} in {tar}"):
        list(k710.open_view("k400/train", work=work, frames=2))


# --- what goes wrong


def test_unknown_views_are_refused(made: Path) -> None:
    with pytest.raises(StageError, match=r"no view 'k400/trian'.*Nearest: k400/train\."):
        k710.open_view("k400/trian", work=made)


def test_what_is_not_made_is_said_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="k710 build-manifest"):
        k710.open_view("k400/train", work=tmp_path / "none")
    with pytest.raises(StageError, match="k710 shard --views"):
        k710.open_view("k400/train", work=all_ready())
    work = ready(tmp_path, **FEW)
    shard(work, ["k400/train"])
    with pytest.raises(
        StageError, match=r"No clip of k400/val is in a shard.*\n.*--views k400/val"
    ):
        k710.open_view("k400/val", work=work)


def test_shards_that_are_gone_are_told(made: Path, tmp_path: Path) -> None:
    work = copy_of(made, tmp_path / "work")
    (work / "shards" / "000001.tar").unlink()
    with pytest.raises(StageError, match=r"lacks 1 of \d shards: 000001\.tar[\s\S]*k710 shard"):
        k710.open_view("k400/train", work=work)


def test_paths_that_webdataset_would_cut_are_refused(made: Path, tmp_path: Path) -> None:
    work = copy_of(made, tmp_path / "a#b")
    with pytest.raises(StageError, match="webdataset takes paths for addresses"):
        k710.open_view("k400/train", work=work)


@pytest.mark.parametrize("options", [{"shuffle": True}, {"shuffle": -1}, {"frames": 0}])
def test_wrong_numbers_are_refused(made: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        k710.open_view("k400/train", work=made, **options)
