"""bench-loader as a user runs it, and what it measures."""

import subprocess
from pathlib import Path

import pytest

from k710.errors import StageError
from support.command_line import K710
from support.small_shards import all_made
from uniformerv2.dataset.clips import read_view
from uniformerv2.dataset.decode import Reading
from uniformerv2.dataset.draws import Chances
from uniformerv2.dataset.shard_reader import ShardReader
from uniformerv2.loader_speed import measure


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([K710, "bench-loader", *arguments], capture_output=True, text=True)


def test_speed_and_shuffle_are_told() -> None:
    work = str(all_made())
    done = run("--work", work, "--view", "k400/train", "--seconds", "0.1", "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert "clips/s with 1 worker:" in done.stdout and "augment, on the device" in done.stdout
    assert "the same class" in done.stdout


def test_numbers_are_of_what_was_read() -> None:
    view = read_view(all_made(), "k400/train")
    reading = Reading(ShardReader(all_made() / "shards"), chances=Chances())
    told: list[int] = []
    speed = measure(
        view, reading, batch=5, workers=0, seconds=0.05, size=16, report=told.append, device="cpu"
    )
    assert speed.clips == told[-1] >= 5 and speed.clips % 5 == 0
    assert speed.clips_per_s == pytest.approx(speed.clips / speed.seconds)
    assert speed.frames_mb_per_s == pytest.approx(speed.clips_per_s * 8 * 48 * 72 * 3 / 1e6)
    within_ms = speed.fetch_ms + speed.decode_ms + speed.rest_ms
    assert within_ms == pytest.approx(1e3 / speed.clips_per_s)
    assert 0 <= speed.shuffle.same_shard <= 1 and speed.num_broken == 0
    with pytest.raises(StageError, match="fewer than a batch"):
        measure(view, reading, batch=64, workers=0)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    done = run("--work", str(tmp_path), "--view", "k400/train")
    assert done.returncode == 1 and "There is no finished" in done.stderr
