"""How much of the speed of a bare step is left when a run does all that a run does, on a CPU?

    python benchmarks/train_loop.py [--rounds 13] [--steps 40]
        [--out benchmarks/results/train_loop.json]

The recipes of the demo on the demo's clips: decoding, augmentation, the loop with its log, against
forward, loss, backward, clipping and AdamW on one batch that lies in memory. In each round each
once, so that what slows the machine down for a while slows both. Validation and checkpoints, which
come once in a while, are left out.
"""
# ruff: noqa: E402

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from uniformerv2.dataset.workers import shorten_openmp_spin

shorten_openmp_spin()  # as the commands do, of both contenders: before torch

import torch
import torch.nn.functional as F
from torch import nn

import k710
import machine
from k710.demo.lists import (
    look_video,
    motion_video,
    write_demo_lists,
    write_demo_videos,
    write_motion_lists,
)
from k710.shards.run import make_shards
from k710.sources.index import index_videos
from uniformerv2.recipe import Recipe
from uniformerv2.recipe_toml import RECIPES, change_recipe, read_recipe
from uniformerv2.train import train_model
from uniformerv2.training.init import init_model
from uniformerv2.training.optim import parameter_groups

HERE = Path(__file__).resolve().parent
NAMES = ("pretrain", "motion")
WARM_UP = 5  # steps


def clips(work: Path, name: str) -> None:
    """Shards of the demo's clips of one recipe."""
    video = look_video if name == "pretrain" else motion_video
    if name == "pretrain":
        sizes = {"train": 130, "val": 8, "test": 2}
        write_demo_lists(work / "lists", sizes=sizes, seconds=1, latest_s=20)
    else:
        write_motion_lists(work / "lists", train=320, val=8)
    k710.build_manifest(work / "lists", work=work)
    view = "k710/train" if name == "pretrain" else "k400/train"
    rows = k710.load_view(view, work=work)
    labels = dict(zip(rows.clip_id, map(int, rows.label), strict=True))
    write_demo_videos(work / "videos", labels, video)
    index_videos([work / "videos"], work=work)
    make_shards([view], work=work, shard_bytes=8_000_000)


def bare(recipe: Recipe, steps: int) -> float:
    """Seconds of a step on a batch in memory, the median."""
    model, _ = init_model(recipe, None)
    optimizer = torch.optim.AdamW(parameter_groups(model), lr=1e-4)
    size, frames = recipe.model.size, recipe.data.frames
    pixels = torch.randn(recipe.data.batch, 3, frames, size, size)
    labels = torch.randint(recipe.model.num_classes, (recipe.data.batch,))
    taken = []
    for step in range(WARM_UP + steps):
        start = time.perf_counter()
        F.cross_entropy(model(pixels), labels).backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe.optim.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step >= WARM_UP:
            taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def whole(recipe: Recipe, work: Path, run: str) -> tuple[float, float]:
    """Seconds of a step of a run, and of it those that it waits for clips; the medians."""
    folder = train_model(recipe, work=work, run=run, device="cpu").folder
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    steps = [recipe.data.batch / line["clips_per_s"] for line in lines[WARM_UP:]]
    waits = [line["data_wait_s"] for line in lines[WARM_UP:]]
    return statistics.median(steps), statistics.median(waits)


def measured(name: str, rounds: int, steps: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        clips(work, name)
        recipe = read_recipe(RECIPES / "demo" / f"{name}.toml", ["data.val=none"])
        epoch = len(k710.load_view(recipe.data.train, work=work)) // recipe.data.batch
        settings = [f"optim.epochs={(WARM_UP + steps) / epoch}", "run.log_steps=1"]
        recipe = change_recipe(recipe, [*settings, "optim.warmup_epochs=0"])
        turns = []
        for number in range(rounds):
            alone = bare(recipe, steps)
            step, waits = whole(recipe, work, f"run{number}")
            turns.append((alone, step, waits))
    batch = recipe.data.batch
    return {
        "bare_clips_per_s": round(batch / statistics.median(a for a, _, _ in turns), 1),
        "run_clips_per_s": round(batch / statistics.median(b for _, b, _ in turns), 1),
        "wait_ms": round(1e3 * statistics.median(c for _, _, c in turns), 1),
        "share": round(statistics.median(a / b for a, b, _ in turns), 3),
        "share_of_rounds": [round(a / b, 3) for a, b, _ in turns],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=13)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "train_loop.json")
    arguments = parser.parse_args()
    report: dict[str, Any] = {
        "benchmark": "a run of training against its bare step, on a CPU: the demo's recipes",
        "device": machine.device("torch", "av"),
        "threads": torch.get_num_threads(),
        "recipes": {},
    }
    for name in NAMES:
        report["recipes"][name] = measured(name, arguments.rounds, arguments.steps)
        print(name, report["recipes"][name], flush=True)
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
