"""k710 recipes: what there is, what it costs, and one of them with every key."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

from support.command_line import k710


def test_all_are_listed_with_what_they_cost() -> None:
    done = k710("recipes")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines() if "x224" in line or "x336" in line]
    assert len(lines) == 34
    assert ["k400+k710_b16_f8x224", "114.6", "141", "17", "1", "8x3x4", "85.6"] in lines
    assert "Run here: none." in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_json_has_all_numbers() -> None:
    rows = json.loads(k710("recipes", "--json").stdout)
    assert len(rows) == 34
    b16 = next(row for row in rows if row["name"] == "k710_b16_f8x224")
    assert b16["parameters"] == 114_790_598 and b16["top1"] is None
    assert b16["train"] == "k710/train" and b16["status"] == "not run here"


def test_one_is_printed_as_a_run_would_have_it(tmp_path: Path) -> None:
    done = k710("recipes", "k400_b16_f8x224", "--set", "optim.lr=2e-5", "--set", "data.val=none")
    values = tomllib.loads(done.stdout)
    assert values["optim"]["lr"] == 2e-5 and values["data"]["val"] == "none"
    assert values["model"]["arch"] == "b16" and values["published"]["top1"] == 84.4
    own = tmp_path / "own.toml"
    own.write_text(done.stdout)
    assert k710("recipes", own).stdout == done.stdout
    rows = json.loads(k710("recipes", own, "--set", "model.arch=l14", "--json").stdout)
    assert rows[0]["parameters"] > 3e8


def test_what_is_wrong_is_said_with_the_nearest() -> None:
    done = k710("recipes", "k400_b16_f8x224", "--set", "optim.lrate=1")
    assert done.returncode == 1 and done.stdout == ""
    assert "no recipe has a key 'optim.lrate'. Near it: optim.lr" in done.stderr
    done = k710("recipes", "k400_b17_f8x224")
    assert done.returncode == 1 and "Near it: k400_b16_f8x224" in done.stderr
    assert k710("recipes", "--set", "optim.lr=1").returncode == 2


def test_it_needs_no_pytorch() -> None:
    program = "import sys; sys.modules['torch'] = None; from k710_cli import app; app(['recipes'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0 and "k710_l14_f8x336" in done.stdout
