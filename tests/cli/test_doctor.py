"""k710 doctor: tables, the commands that mend, and an exit code."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from support.command_line import k710

ROOT = Path(__file__).resolve().parents[2]
TRAINING = ("torch", "functorch", "timm", "safetensors", "onnx", "triton", "ray", "fsspec")


def test_it_says_what_is_here_and_what_mends_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = k710("doctor", "--work", tmp_path)
    assert (done.returncode, done.stderr) == ("BROKEN" in done.stdout, "")
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "packages found needed for" in lines
    assert any(line.startswith("decoder ok FFmpeg ") for line in lines)
    to_do = lines[lines.index("What to do") :]
    assert to_do[to_do.index("ffmpeg") + 1] == "apt install ffmpeg"


def test_json_has_a_row_for_each_check(tmp_path: Path) -> None:
    done = k710("doctor", "--work", tmp_path, "--json")
    rows = json.loads(done.stdout)
    assert {tuple(row) for row in rows} == {
        ("topic", "name", "state", "found", "needed_for", "remedy")
    }
    assert {row["state"] for row in rows} <= {"ok", "missing", "broken", "note"}


def test_what_is_broken_is_exit_1_and_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = k710("doctor", "--work", "/proc/self")
    assert done.returncode == 1 and "BROKEN" in done.stdout
    to_do = done.stdout.partition("What to do\n")[2].splitlines()
    assert to_do[0] == "  disk of /proc/self"
    assert to_do[1].startswith("    Choose a --work that can be written to")


def test_the_base_install_alone_is_sound(tmp_path: Path) -> None:
    """In a Python that sees what is installed here, but for what training, ONNX and Ray need."""
    site = tmp_path / "site"
    site.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not path.name.startswith(TRAINING) and path.suffix != ".pth":
            (site / path.name).symlink_to(path)
    code = f"import sys; sys.path[:0] = {[str(ROOT), str(ROOT / 'cli'), str(site)]!r}\n"
    code += (
        "import atexit; atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr))\n"
    )
    code += "from k710_cli import app; app(['doctor', '--work', 'work'])"
    env = {key: os.environ[key] for key in os.environ if key != "PYTHONPATH"}
    command = [sys.executable, "-S", "-P", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=env)
    assert (done.returncode, done.stderr) == (0, "False\n")
    assert "k710[train]" in done.stdout and "and no PyTorch to use a GPU" in done.stdout
    assert "    pip install 'k710[train]'" in done.stdout.splitlines()
