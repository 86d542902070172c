"""demo: the whole way, from lists to a tested model, on data that it makes itself.

Every stage is the real command in a process of its own, printed before it runs. They meet through
files alone, and the numbers at the end are read from those that `k710 evaluate` wrote.
"""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from k710_cli.screen import console, say, table

__all__ = ["demo"]

_VIEWS = ("k710/train", "k710/val", "k400/train", "k400/val")
_SHARD_SIZE = "8MB"  # as planned, for pictures of usual size
_SIZES = {"train": 380, "val": 60, "test": 12}  # new clips of each dataset
_MOTION = {"train": 640, "val": 120}
_DOWNLOADS = 8
_ODD = 4  # videos that are missing, too short, damaged, without a byte
_RECIPES = ("pretrain", "finetune", "motion")
_SHUFFLES = 5
_TABLES = {
    "k400/val, clips that no training has seen": {
        "pretrained": "pretrained on K710, with K400's rows of its head",
        "remapped_head": "fine-tuned in 5 epochs from those rows",
        "new_head": "fine-tuned in 5 epochs from a new head",
    },
    "four directions of motion (chance is 25 %)": {
        "motion": "with local UniBlocks",
        "motion_shuffled": f"the same, frames out of order (mean of {_SHUFFLES})",
        "motion_without_local": "without local UniBlocks",
    },
}


def demo(
    folder: Annotated[Path, typer.Option(help="Where to write.")] = Path("work/demo"),
) -> None:
    """Make small lists and videos, and go the whole way with them: K710, shards, a tested model.

    Without PyTorch it ends with shards. A demo that was there before is made anew.

    Example: k710 demo
    """
    from importlib.util import find_spec

    from k710.errors import StageError
    from k710.files import word_os_errors

    if folder.exists() and not (folder / ".k710-demo").is_file():
        raise StageError(f"{folder} is no demo: choose a --folder that is not there yet.")
    with word_os_errors(folder):
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        (folder / ".k710-demo").touch()
    _data(folder)
    if find_spec("torch") is None or find_spec("safetensors") is None:
        say("\nTraining comes next, and needs PyTorch: pip install 'k710[train]'")
        return
    _training(folder)
    _motion(folder / "motion", folder / "recipes")
    _conclude(folder)


# --- the stages


def _data(folder: Path) -> None:
    """Lists to shards."""
    import k710
    from k710.demo.lists import (
        demo_site,
        look_video,
        whole_video,
        write_demo_lists,
        write_demo_videos,
    )

    lists = write_demo_lists(folder / "annotations", sizes=_SIZES, seconds=1, latest_s=20)
    say(f"Wrote {len(lists.files)} small lists to {folder / 'annotations'}.")
    work = ("--work", folder)
    _run("build-manifest", "--annotations", folder / "annotations", *work)
    for youtube_id, story in lists.stories:
        say(f"\n# {story}", end="")
        _run("explain", youtube_id, *work)
    labels: dict[str, int] = {}
    for view in _VIEWS:
        rows = k710.load_view(view, work=folder)
        labels |= dict(zip(rows.clip_id, map(int, rows.label), strict=True))
    train = sorted(k710.load_view("k710/train", work=folder)["clip_id"])
    away = train[-_DOWNLOADS:]
    here = {clip_id: label for clip_id, label in sorted(labels.items()) if clip_id not in away}
    say(f"\nDraws {len(here):,} videos of shapes that move, {_ODD} of them faulty.")
    write_demo_videos(folder / "videos", here, look_video, odd=_ODD)
    _run("index", "--videos", folder / "videos", *work)
    videos = {clip_id[:11]: clip_id for clip_id in away}

    def video(youtube_id: str) -> bytes | None:
        clip_id = videos.get(youtube_id)
        is_gone = clip_id is None or clip_id == away[0]
        return None if is_gone or clip_id is None else whole_video(clip_id, labels[clip_id])

    with demo_site(video) as url:
        say("\n# a site of this machine stands for YouTube", end="")
        _run("download", "--views", "k710/train", "--sleep", "0", "--url-template", url, *work)
    _run("shard", "--views", ",".join(_VIEWS), "--shard-size", _SHARD_SIZE, *work)
    _run("verify", "--deep", *work)


def _training(folder: Path) -> None:
    """K710 pretraining, and fine-tuning on K400 from its head and from a new one."""
    from uniformerv2.recipe_toml import RECIPES

    (folder / "recipes").mkdir()
    for name in _RECIPES:
        shutil.copy(RECIPES / "demo" / f"{name}.toml", folder / "recipes")
    work = ("--work", folder)
    finetune = ("--recipe", folder / "recipes" / "finetune.toml", "--target", "k400")
    head = folder / "k710_k400.safetensors"
    _run("pretrain", "--recipe", folder / "recipes" / "pretrain.toml", "--run", "k710", *work)
    _run("remap-head", folder / "runs" / "k710", "--target", "k400", "--out", head)
    _run("finetune", *finetune, "--from", head, "--run", "k400", *work)
    _run(
        *("finetune", *finetune, "--from", head, "--run", "k400_new_head"),
        *("--set", "start.head=random", *work),
    )
    for run in ("k710", "k400", "k400_new_head"):
        _run("evaluate", run, "--view", "k400/val", "--worst", "0", *work)


def _motion(folder: Path, recipes: Path) -> None:
    """Four classes that differ in the direction of motion, with and without local UniBlocks."""
    import k710
    from k710.demo.lists import motion_video, write_demo_videos, write_motion_lists

    write_motion_lists(folder / "annotations", **_MOTION)
    work = ("--work", folder)
    _run("build-manifest", "--annotations", folder / "annotations", *work)
    labels: dict[str, int] = {}
    for view in ("k400/train", "k400/val"):
        rows = k710.load_view(view, work=folder)
        labels |= dict(zip(rows.clip_id, map(int, rows.label), strict=True))
    say(f"\nDraws {len(labels):,} videos of discs that move right, left, down or up.")
    write_demo_videos(folder / "videos", labels, motion_video)
    _run("index", "--videos", folder / "videos", *work)
    views = ("--views", "k400/train,k400/val")
    _run("shard", *views, "--profile", "copy", "--shard-size", _SHARD_SIZE, *work)
    recipe = ("--recipe", recipes / "motion.toml")
    _run("pretrain", *recipe, "--run", "local", *work)
    _run("pretrain", *recipe, "--run", "no_local", "--set", "model.local=none", *work)
    test = ("--view", "k400/val", "--worst", "0", *work)
    for run in ("local", "no_local"):
        _run("evaluate", run, *test)
    seeds = [word for n in range(1, _SHUFFLES + 1) for word in ("--shuffle-frames", n)]
    _run("evaluate", "local", *seeds, *test)


def _run(*words: object) -> None:
    """Print a command, and run it. A failure is the demo's end."""
    texts = [str(word) for word in words]
    say(f"\n$ k710 {shlex.join(texts)}", flush=True)
    done = subprocess.run([sys.executable, "-m", "k710_cli", *texts], check=False)
    if done.returncode:
        raise typer.Exit(done.returncode)


# --- what came out


def _conclude(folder: Path) -> None:
    """Print the numbers, and write demo.json. Exit code 1 unless they are a sound model's."""
    from k710.files import write_json

    tested, moving = folder / "evaluations", folder / "motion" / "evaluations"
    shuffled = [_top1(moving / "local", f"_shuffled{n}") for n in range(1, _SHUFFLES + 1)]
    top1 = {
        "pretrained": _top1(tested / "k710"),
        "remapped_head": _top1(tested / "k400"),
        "new_head": _top1(tested / "k400_new_head"),
        "motion": _top1(moving / "local"),
        "motion_shuffled": sum(shuffled) / len(shuffled),
        "motion_without_local": _top1(moving / "no_local"),
    }
    write_json(folder / "demo.json", {"top1": top1, "shuffled": shuffled})
    for title, rows in _TABLES.items():
        one = table(title, "top-1")
        for key, words in rows.items():
            one.add_row(words, f"{top1[key]:.1%}")
        say()
        console().print(one)
    _check(
        ("a fine-tuned model is right about 90 % of held-out clips", top1["remapped_head"] >= 0.9),
        (
            "it is 10 points better than one from a new head",
            top1["remapped_head"] >= top1["new_head"] + 0.1,
        ),
        ("a model with local UniBlocks sees 90 % of motions", top1["motion"] >= 0.9),
        (
            "out of order it is within 10 points of chance",
            abs(top1["motion_shuffled"] - 0.25) <= 0.1,
        ),
    )


def _top1(folder: Path, ending: str = "") -> float:
    path = folder / f"k400-val_8x1x1{ending}" / "summary.json"
    summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return float(summary["top1"])


def _check(*claims: tuple[str, bool]) -> None:
    wrong = [words for words, is_right in claims if not is_right]
    for words in wrong:
        say(f"Not so: {words}.", to_stderr=True)
    if wrong:
        raise typer.Exit(1)
