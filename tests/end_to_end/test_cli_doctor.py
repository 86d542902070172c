"""k710 doctor: a table, the commands that mend, and an exit code."""

import json
from pathlib import Path

import pytest
from command_line import k710


def test_it_says_what_is_here_and_what_mends_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = k710("doctor", "--work", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "duckdb" in done.stdout and "FFmpeg" in done.stdout
    assert "ffmpeg: apt install ffmpeg" in done.stdout.partition("To mend")[2]
    rows = json.loads(k710("doctor", "--work", tmp_path, "--json").stdout)
    assert {"topic", "name", "state", "found", "needed_for", "remedy"} == set(rows[0])


def test_what_is_broken_is_exit_1() -> None:
    done = k710("doctor", "--work", "/proc/self")
    assert done.returncode == 1 and "BROKEN" in done.stdout
    assert "Choose a --work that can be written to and locked." in done.stdout
