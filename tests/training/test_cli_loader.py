"""bench-loader as a user runs it."""

import json
import subprocess
from pathlib import Path

from command_line import K710
from sharding import all_made


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([K710, "bench-loader", *arguments], capture_output=True, text=True)


def test_speed_and_shuffle_are_told() -> None:
    work = str(all_made())
    done = run("--work", work, "--view", "k400/train", "--seconds", "0.2", "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert "clips/s with 1 worker:" in done.stdout and "augment, on the device" in done.stdout
    assert "the same class" in done.stdout
    done = run("--work", work, "--view", "k400/train", "--seconds", "0.2", "--json", "--batch", "5")
    told = json.loads(done.stdout)
    assert told["batch"] == 5 and told["clips"] >= 5 and told["clips"] % 5 == 0
    assert told["clips_per_s"] == told["clips"] / told["seconds"]
    assert told["decode_ms"] > 0 and told["num_broken"] == 0
    assert 0 <= told["shuffle"]["same_shard"] <= 1


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    done = run("--work", str(all_made()), "--view", "k400/none")
    assert done.returncode == 1 and "There is no view 'k400/none'" in done.stderr
    done = run("--work", str(tmp_path), "--view", "k400/train")
    assert done.returncode == 1 and "There is no finished" in done.stderr
    where = ("--work", str(all_made()), "--view", "k400/train", "--shards", str(tmp_path))
    done = run(*where, "--workers", "1")
    assert done.returncode == 1 and "can't be read: No such file" in done.stderr
    assert "Traceback" not in done.stderr
