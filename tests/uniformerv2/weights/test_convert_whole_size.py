"""The published sizes from the command line: exact, and in the memory that is said."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from k710.labels.orders import class_names, head_map
from support.list_files import shared
from uniformerv2.config import SIZES, Config
from uniformerv2.weights.convert import convert
from uniformerv2.weights.load import read_checkpoint
from uniformerv2.weights.names import shapes_in

pytestmark = pytest.mark.slow


def published(path: Path, config: Config, *, states: int = 0) -> dict[str, torch.Tensor]:
    """A checkpoint of the reference, its numbers drawn, with so many optimizer `states`."""
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.randn(shape, generator=generator) * 0.02
        for name, shape in shapes_in(config, "opengvlab").items()
    }
    optimizer = {
        "state": {
            i: {f"exp_avg_{state}": t.clone() for state in range(states)}
            for i, t in enumerate(tensors.values())
        }
    }
    torch.save({"model_state": tensors, "optimizer_state": optimizer, "epoch": 4}, path)
    return tensors


# ru_maxrss of a child starts with what its parent had; VmHWM is of the program alone.
PROGRAM = """
import atexit, sys
from k710_cli import app
def told():
    status = open("/proc/self/status").read().splitlines()
    print([line for line in status if line.startswith("VmHWM")][0], file=sys.stderr)
atexit.register(told)
app()
"""


def run(*arguments: Any) -> tuple[str, int]:
    """What a command in a process of its own prints, and the most memory that it had, in bytes."""
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, int(done.stderr.split()[1]) * 1024


def test_b16_goes_round_all_names_and_sorts_a_video(tmp_path: Path) -> None:
    path = tmp_path / "b16.pyth"
    tensors = published(path, SIZES["b16"])
    way = path
    for number, to in enumerate(("safetensors", "mmaction2", "safetensors", "opengvlab")):
        suffix = {"safetensors": ".safetensors", "mmaction2": ".pth", "opengvlab": ".pyth"}[to]
        way = convert(way, to, out=tmp_path / f"{number}{suffix}").path
    back = read_checkpoint(way).tensors
    assert back.keys() == tensors.keys()
    assert all(torch.equal(tensor, back[name]) for name, tensor in tensors.items())
    run("remap-head", path, "--target", "k400")
    head = "backbone.transformer.proj.2.weight"
    remapped = torch.load(tmp_path / "b16_k400.pyth", weights_only=True)["model_state"]
    assert torch.equal(remapped[head], tensors[head][head_map("k400", "opengvlab")])
    assert all(torch.equal(t, remapped[n]) for n, t in tensors.items() if ".proj.2." not in n)
    video = shared("videos", "yoga.mp4")
    found = [
        json.loads(run("predict", video, "--checkpoint", checkpoint, "--json")[0])
        for checkpoint in (path, tmp_path / "0.safetensors", tmp_path / "1.pth")
    ]
    assert all(
        [one["name"] for one in other] == [one["name"] for one in found[0]] for other in found
    )
    assert len({one["name"] for one in found[0]} & set(class_names())) == 5


def test_remapping_l14_never_has_its_optimizer_in_memory(tmp_path: Path) -> None:
    published(tmp_path / "l14.pyth", SIZES["l14"], states=2)
    assert (tmp_path / "l14.pyth").stat().st_size > 4e9
    _, most = run("remap-head", tmp_path / "l14.pyth", "--target", "k400")
    print(f"{most / 1e9:.2f} GB")
    assert most < 3e9
