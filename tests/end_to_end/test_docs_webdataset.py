"""The programs of docs/webdataset.md run as they stand, and read one view alone."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.paths import ROOT
from support.small_shards import TRAIN, all_made

pytest.importorskip("torch")
PAGE = (ROOT / "docs" / "webdataset.md").read_text(encoding="utf-8")
WITH_K710, WITHOUT_K710 = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)


def run(folder: Path, program: str) -> list[str]:
    """The lines that a program prints in a folder that has work/shards."""
    (folder / "work").symlink_to(all_made())
    (folder / "program.py").write_text(program)
    command = [sys.executable, "-W", "ignore::ResourceWarning", "program.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_the_loop_trains_on_each_clip_of_the_view_once_an_epoch(tmp_path: Path) -> None:
    lines = run(tmp_path, WITH_K710)
    for epoch in range(2):
        counts = re.findall(
            rf"^epoch {epoch}: (\d+) clips, loss \d+\.\d\d$", "\n".join(lines), re.M
        )
        assert sum(map(int, counts)) == len(TRAIN)


def test_the_other_program_reads_the_same_clips_without_k710(tmp_path: Path) -> None:
    lines = run(tmp_path, f"import sys\nsys.modules['k710'] = None\n{WITHOUT_K710}")
    told = [re.match(r"(\d+) clips, loss \d+\.\d\d$", line) for line in lines]
    assert sum(int(match[1]) for match in told if match) == len(TRAIN)


def test_the_loop_is_short() -> None:
    for program in (WITH_K710, WITHOUT_K710):
        assert len(program.partition("__main__")[2].strip().splitlines()) <= 20
