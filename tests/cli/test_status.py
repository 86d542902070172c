"""status and card as a user runs them, and a work directory made again by what its card says."""

import json
import re
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from k710.files import sha256_of
from k710.labels.orders import class_names
from k710.manifest.build import build_manifest
from k710.report.card import card_text
from k710.sources.index import index_videos
from k710.video.encode import Encoding
from support.command_line import K710, k710
from support.real_clips import lay_out
from support.small_manifest import clip, manifest_of
from support.small_shards import TRAIN, VAL, build, ready, shard, write_videos
from support.small_tables import put_shard, put_table


def lines_of(output: str) -> list[str]:
    """The lines with single spaces and no rules."""
    return [" ".join(line.split()) for line in output.splitlines() if line.strip(" ─")]


# --- status


def test_right_after_the_manifest_all_is_pending(tmp_path: Path) -> None:
    build(tmp_path)
    done = k710("status", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert lines_of(done.stdout) == [
        "Clips",
        "view clips stored to shard pending final",
        "k710/train 12 0 0 12 0",
        "k710/val 2 0 0 2 0",
        "k400/train 12 0 0 12 0",
        "k400/val 2 0 0 2 0",
        "Not stored",
        "view state status meaning clips of view",
        "k710/train pending missing no copy 12 100.00%",
        "k710/val pending missing no copy 2 100.00%",
        "k400/train pending missing no copy 12 100.00%",
        "k400/val pending missing no copy 2 100.00%",
        "Distinct clips: 14, of which 0 are stored. 0 shards, 0.0 MB.",
        "Next: k710 download --views k710/train,k710/val,k400/train,k400/val",
        "Where there are copies: k710 index --videos DIR",
    ]


def test_after_a_run_on_real_videos_it_says_why(tmp_path: Path) -> None:
    lay_out(tmp_path)
    k710("index", "--videos", "videos", cwd=tmp_path)
    done = k710("shard", "--views", "k400/val", "--short-side", 32, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = k710("status", "--view", "k400/train", "--view", "k400/val", cwd=tmp_path)
    assert done.returncode == 0
    lines = lines_of(done.stdout)
    assert lines[:4] == [
        "Clips",
        "view clips stored to shard pending final",
        "k400/train 9 0 8 1 0",
        "k400/val 8 5 0 0 3",
    ]
    assert {
        "k400/train to shard ok within 0.5 s of its window 8 88.89%",
        "pending missing no copy 1 11.11%",
        "k400/val final damaged decoding fails inside the window 1 12.50%",
        "final empty nothing of the window is in the file 1 12.50%",
        "final truncated shorter than its window 1 12.50%",
        "empty the file has no bytes in it 1",
        "truncated 2.6 of 10 s 1",
    } <= set(lines)
    worst = lines.index("Classes of k400/val, least stored first")
    assert lines[worst + 1 : worst + 4] == [
        "class clips stored to shard pending final share stored",
        "yoga 2 0 0 0 2 0.0%",
        "jogging 1 0 0 0 1 0.0%",
    ]
    worst = lines.index("Classes of k400/train, least stored first")
    assert lines[worst + 2] == "yoga 2 0 1 1 0 0.0%", "what is pending is lacking too"
    assert "Next: k710 shard --views k400/train" in lines
    assert "Next: k710 download --views k400/train" in lines


def test_json_has_all_views_and_classes(tmp_path: Path) -> None:
    build(tmp_path)
    found = json.loads(k710("status", "--json", "--view", "k400/train", cwd=tmp_path).stdout)
    (view,) = found["views"]
    assert (view["view"], view["clips"], view["pending"]) == ("k400/train", 12, 12)
    names = class_names()
    labels = [one["label"] for one in view["classes"]]
    assert labels == sorted(map(names.index, ("archery", "bowling", "yoga", "zumba")))
    assert [one["label_name"] for one in view["classes"]] == [names[label] for label in labels]
    assert view["statuses"] == [
        {
            "state": "pending",
            "status": "missing",
            "clips": 12,
            "with_copy": 0,
            "share": 1.0,
            "messages": [],
        }
    ]


def test_ten_classes_are_shown_or_all(tmp_path: Path) -> None:
    classes = "archery bowling yoga zumba abseiling welding juggling_balls jogging knitting lunge"
    names = [name.replace("_", " ") for name in (*classes.split(), "situp", "push up")]
    work = manifest_of(tmp_path, *((name, f"v{n}", 0, 10) for n, name in enumerate(names)))
    gone = [{"clip_id": clip(f"v{n}"), "status": "gone"} for n in range(11)]
    put_table(work, "sources", gone)

    def shown(*options: str) -> list[str]:
        done = k710("status", "--view", "k400/train", *options, cwd=tmp_path)
        return lines_of(done.stdout.partition("Classes of")[2])[2:-3]

    assert len(shown()) == 10
    assert all(line.endswith(" 1 0 0 0 1 0.0%") for line in shown())
    assert len(shown("--classes")) == 12
    assert shown("--classes")[-1] == "push up 1 0 0 1 0 0.0%"
    lines = lines_of(k710("status", "--view", "k400/train", cwd=tmp_path).stdout)
    assert "Classes of k400/train, least stored first (10 of 12)" in lines


def test_of_many_views_the_classes_of_k710_are_shown(tmp_path: Path) -> None:
    row = ("yoga", "a", 0, 10)
    work = manifest_of(tmp_path, row, k400_val=[("yoga", "b", 0, 10)])
    put_table(work, "sources", [{"clip_id": clip("b"), "status": "gone"}])
    lines = lines_of(k710("status", cwd=tmp_path).stdout)
    assert [line for line in lines if line.startswith("Classes of")] == [
        "Classes of k710/val, least stored first",
        "Classes of the other views: k710 status --view k400/val",
    ]
    lines = lines_of(k710("status", "--view", "k400/val", cwd=tmp_path).stdout)
    assert "Classes of k400/val, least stored first" in lines


def test_what_failed_here_is_to_be_tried_again(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, ("yoga", "a", 0, 10), ("yoga", "b", 0, 10))
    hung = {
        "clip_id": clip("a"),
        "status": "failed",
        "uri": f"/{clip('a')}.mp4",
        "detail": "[red]hung\x1b[31m",
    }
    put_table(work, "sources", [hung, {"clip_id": clip("b"), "status": "gone"}])
    put_shard(work, {**hung, "stored": False})
    work.rename(tmp_path / "my work")
    done = k710("status", "--view", "k400/train", "--work", "my work", cwd=tmp_path)
    assert "failed [red]hung\\x1b[31m 1" in lines_of(done.stdout)
    assert lines_of(done.stdout)[-2:] == [
        "Distinct clips: 2, of which 0 are stored. 1 shard, 0.0 MB.",
        "Next: k710 shard --retry --views k400/train --work 'my work'",
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["status", "--view", "k400/tran"], "There is no view 'k400/tran' in work. Nearest: k400/"),
        (["status", "--work", "none"], "Build it: k710 build-manifest --annotations DIR"),
        (["card", "--work", "none"], "Build it: k710 build-manifest --annotations DIR"),
        (["card", "--output", "mine.md"], "mine.md was not written by k710: it is left as it is."),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, arguments: list[str], words: str) -> None:
    build(tmp_path)
    (tmp_path / "mine.md").write_text("mine")
    done = k710(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "mine.md").read_text() == "mine"


# --- card


def test_a_card_is_written_and_what_belongs_beside_it_told(tmp_path: Path) -> None:
    build(tmp_path)
    done = k710("card", "--repo-id", "some-org/k710", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "Written: work/README.md\n"
        "What belongs beside it: manifest.parquet, annotations.parquet, dropped.parquet, "
        "leakage.parquet\n"
        "Never publish shards/ (the videos belong to their uploaders), nor sources.parquet, "
        "copies.parquet, outcomes/ and tries/, which tell of your paths.\n"
    )
    assert "some-org/k710" in (tmp_path / "work" / "README.md").read_text()
    (tmp_path / "mine.md").write_text("mine")
    done = k710("card", "--output", "mine.md", "--force", cwd=tmp_path)
    assert done.stdout.startswith("Written: mine.md\n")


def test_a_name_that_is_none_is_exit_2(tmp_path: Path) -> None:
    done = k710("card", "--repo-id", "k710", cwd=tmp_path)
    assert done.returncode == 2
    assert "write it like ORG/NAME" in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.slow
def test_the_commands_of_a_card_make_it_all_again(tmp_path: Path) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    work = ready(first)
    rules: Any = {"protect": ["val"], "prefer": ["k400", "k600", "k700"], "dedup": "clip"}
    build_manifest(first / "annotations", work=work, **rules)
    index_videos([first / "videos"], work=work)
    encoding = Encoding("intra", 32, Fraction(15, 2))
    for views in (["k400/val"], ["k710/train", "k400/train"]):
        shard(work, views, encoding=encoding, shard_bytes=40_000, seed=len(views))
    card = card_text(work)[0]
    block = re.search(r"```sh\n(.*?)```", card, re.S)
    assert block
    again.mkdir()
    (first / "annotations").rename(again / "annotations")
    write_videos(again / "videos", [*TRAIN, *VAL])
    script = block[1].replace("k710 ", f"{K710} ", 1).replace("\nk710 ", f"\n{K710} ")
    done = subprocess.run(
        ["bash", "-euc", script], cwd=again, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    made = [*(work / "shards").glob("*.tar"), *work.glob("*.parquet")]
    assert len(made) > 6
    for path in made:
        if path.name not in ("sources.parquet", "copies.parquet"):  # they have the copies' paths
            assert sha256_of(path) == sha256_of(again / path.relative_to(first)), path.name
    assert card_text(again / "work")[0] == card
