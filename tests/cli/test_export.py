"""export as a user runs it: what it prints is all that the trainer needs."""

import json
from pathlib import Path

import pytest

from k710.report.card import card_text
from k710.sources.index import index_videos
from support.command_line import k710
from support.small_manifest import clip, manifest_of, put
from support.small_shards import TRAIN, VAL, build, ready, shard, write_videos
from support.trainer_rules import read_list, slowfast


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with videos/ and work/, its shards made."""
    folder = tmp_path_factory.mktemp("export")
    shard(ready(folder))
    return folder


def test_what_is_printed_is_what_the_trainer_needs(sharded: Path) -> None:
    command = ("export", "k400/val", "--format", "slowfast", "--root", "clips", "--extract")
    done = k710(*command, cwd=sharded)
    assert (done.returncode, done.stderr) == (0, "")
    lists = "work/lists/slowfast-k400-alphabetical"
    size_mb = sum(path.stat().st_size for path in (sharded / "clips").rglob("*.mp4")) / 1e6
    assert done.stdout == (
        f"k400/val for slowfast: {len(VAL)} clips\n"
        f"Extracted: {len(VAL)} of them, {size_mb:.1f} MB\n"
        "Class indices: 0 to 399, those of k400 in alphabetical order\n"
        f"Written to {lists}: val.csv, val.csv.classes.txt, val.csv.about.json\n"
        f"Tell the trainer: DATA.PATH_TO_DATA_DIR {sharded}/{lists} "
        f"DATA.PATH_PREFIX {sharded}/clips DATA.PATH_LABEL_SEPARATOR ' ' MODEL.NUM_CLASSES 400\n"
        "Checkpoints of OpenGVLab (UniFormerV2, VideoMAEv2) have the other order: --family "
        "opengvlab\n"
        "SlowFast tests on test.csv. The same clips as that: k710 export k400/val --format "
        f"slowfast --root {sharded}/clips --extract --family alphabetical "
        f"--output {lists}/test.csv\n"
    )
    told = done.stdout.splitlines()[4].removeprefix("Tell the trainer: ")
    assert all(Path(path).is_file() for path, _ in slowfast(told, "val"))
    again = k710(*command, cwd=sharded).stdout
    assert again == "".join(
        line for line in done.stdout.splitlines(keepends=True) if "Extracted" not in line
    )


def test_an_index_of_shards_needs_no_root(sharded: Path) -> None:
    done = k710("export", "k400/val", "--format", "wids", cwd=sharded)
    assert (done.returncode, done.stderr) == (0, "")
    assert " clips: take those of the view by their places, like" in done.stdout
    assert "val.wids.json.clips.csv\nTell the trainer: wids.ShardListDataset(" in done.stdout
    assert ", localname=str, lru_size=10)\n" in done.stdout
    assert "pip install 'webdataset>=0.2.96,<1'\nLeave lru_size there: " in done.stdout


def test_one_is_not_many(tmp_path: Path) -> None:
    work = build(tmp_path, val=VAL[:1])
    index_videos([write_videos(tmp_path / "videos", VAL[:1])], work=work)
    shard(work, ["k400/val"])
    done = k710("export", "k400/val", "--format", "wids", cwd=tmp_path)
    assert done.stdout.startswith("k400/val for wids: 1 clip\nIn 1 shard of 1 clip: take ")
    assert "can make them: 1 shard with\n1 clip, 0.0" in card_text(work)[0]


def test_json_has_all_of_it(sharded: Path) -> None:
    command = ("export", "k400/train", "--format", "mmaction2", "--root", "videos", "--json")
    summary = json.loads(k710(*command, "--family", "alphabetical", cwd=sharded).stdout)
    assert (summary["clips"], summary["left_out"]) == (len(TRAIN), [])
    assert (summary["family"], summary["num_classes"]) == ("alphabetical", 400)
    assert len(read_list("mmaction2", summary["settings"], "train")) == len(TRAIN)


def test_what_is_left_out_is_said_with_the_next_command(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, ("archery", "a", 0, 10), ("bowling", "b", 0, 10))
    folder = "[red]in game (1)[/red]\x1b[31m"
    index_videos([put(tmp_path / "videos", {f"{folder}/{clip('a')}.mp4": 7})], work=work)
    done = k710("export", "k400/train", "--format", "csv", "--root", "videos", cwd=tmp_path)
    assert done.stdout.startswith("k400/train for csv: 1 clip\nLeft out: 1 missing\n")
    root = f"videos/{folder}"
    done = k710("export", "k400/train", "--format", "slowfast", "--root", root, cwd=tmp_path)
    assert done.returncode == 0
    folder = "work/lists/slowfast-k400-alphabetical"
    about = f"{folder}/train.csv.about.json"
    assert f"\nTell the trainer: see settings in {about}\n" in done.stdout
    told = json.loads((tmp_path / about).read_text())["settings"]
    assert [path for path, _ in slowfast(told, "train")] == [f"{tmp_path}/{root}/{clip('a')}.mp4"]
    done = k710("export", "k400/train", "--format", "slowfast", "--root", "x", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(
        "No clip of k400/train can be listed: 1 not below the root, 1 missing.\n"
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--format", "tfrecord"], "'tfrecord' is not one of"),
        (["--format", "csv"], "csv needs a root"),
        (["--format", "wids", "--extract"], "nothing to extract"),
        (["--format", "slowfast", "--root", "v", "--output", "k400.csv"], "never 'k400.csv'"),
        (["--format", "csv", "--root", "v", "--family", "random"], "'random' is not one of"),
    ],
)
def test_wrong_usage_is_exit_2(tmp_path: Path, options: list[str], words: str) -> None:
    done = k710("export", "k400/val", *options, cwd=tmp_path)
    assert done.returncode == 2
    assert words in " ".join(done.stderr.replace("│", " ").split())
