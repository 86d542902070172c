"""Small runs of training on small shards, in a test's own process or in others."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.small_shards import all_made
from uniformerv2.recipe import Recipe
from uniformerv2.recipe_toml import change_recipe, to_toml

# Three steps are an epoch of the 12 clips.
SMALL = (
    "model.arch=tiny",
    "model.size=32",
    "model.depth=2",
    "model.global_layers=[0, 1]",
    "start.kind=scratch",
    "data.train=k400/train",
    "data.val=none",
    "data.frames=4",
    "data.batch=4",
    "optim.lr=1e-3",
    "optim.warmup_epochs=1",
    "optim.epochs=4",
    "run.workers=0",
    "run.log_steps=1",
    "run.precision=fp32",
)
# What differs from run to run of the same thing.
CLOCKS = {"clips_per_s", "data_wait_s", "mfu", "mem_bytes"}


def small(*settings: str) -> Recipe:
    """A recipe that a CPU trains in a second."""
    return change_recipe(Recipe("small"), [*SMALL, *settings])


def work_in(folder: Path) -> Path:
    """A work directory with shards of k400/train and k400/val, of this test's own."""
    return Path(shutil.copytree(all_made(), folder / "work"))


def log_of(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's log, without what clocks say."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in CLOCKS} for line in lines]


def started_process(
    recipe: Recipe, work: Path, run: str, *, ranks: int = 0
) -> "subprocess.Popen[str]":
    """`k710 pretrain` of a recipe, on the CPU; by torchrun if `ranks` are told."""
    file = work / f"{recipe.name}.toml"
    file.write_text(to_toml(recipe))
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    command = [sys.executable, *(launch if ranks else []), "-m", "k710_cli", "pretrain"]
    command += ["--recipe", str(file), "--work", str(work), "--device", "cpu"]
    command += ["--name" if ranks else "--run", run]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Otherwise such processes abort now and then on a machine that has much to do.
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def ended(process: "subprocess.Popen[str]", code: int = 0) -> str:
    """What it has printed. AssertionError unless it ends with that code."""
    printed, _ = process.communicate()
    assert process.returncode == code, printed
    return printed
