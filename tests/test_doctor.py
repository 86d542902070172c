"""The doctor looks at real things, and what it finds missing comes with what mends it."""

import datetime
import os
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import pytest

from k710.doctor import Check, checks, downloads, machine

TODAY = datetime.date(2026, 1, 1)


def named(found: Iterable[Check]) -> dict[str, Check]:
    return {check.name: check for check in found}


def for_downloads(today: datetime.date = TODAY) -> dict[str, Check]:
    return named(downloads(today))


def a_program(folder: Path, name: str, prints: str) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{prints}'\n")
    path.chmod(0o755)


def test_this_installation_is_sound(tmp_path: Path) -> None:
    found = named(checks(tmp_path / "work" / "not" / "there"))
    assert [c.name for c in found.values() if c.state == "broken"] == []
    for name in ("Python", "k710", "duckdb", "av", "decoder", "processor"):
        assert found[name].state == "ok", found[name]
    assert found["duckdb"].found == metadata.version("duckdb")
    assert "H.264 written and read" in found["decoder"].found
    assert not (tmp_path / "work").exists()  # looking makes nothing
    for check in found.values():
        assert (check.remedy is None) == (check.state == "ok"), check
        assert check.needed_for and check.found


def test_an_old_yt_dlp_is_found() -> None:
    year, month, day = map(int, metadata.version("yt-dlp").split(".")[:3])
    released = datetime.date(year, month, day)
    for days, state in ((90, "ok"), (91, "missing")):
        check = for_downloads(released + datetime.timedelta(days=days))["yt-dlp"]
        assert check.state == state
    assert check.remedy == "pip install --upgrade yt-dlp"


@pytest.mark.parametrize(
    ("prints", "state", "said"),
    [
        ("deno 2.5.1 (stable, release)", "ok", "deno 2.5.1"),
        ("deno 1.2.3 (stable, release)", "missing", "yt-dlp needs 2."),
        (None, "missing", "no deno on PATH"),
    ],
)
def test_a_runtime_of_javascript_is_looked_for(
    prints: str | None, state: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("yt_dlp.utils._jsruntime")
    if prints is not None:
        a_program(tmp_path / "bin", "deno", prints)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    check = for_downloads()["JS runtime"]
    if check.found.startswith("deno 2") and prints is None:
        pytest.skip("there is a deno beside this Python")
    assert check.state == state and said in check.found


def test_ffmpeg_is_wanted_for_sections_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    check = for_downloads()["ffmpeg"]
    assert (check.state, check.needed_for) == ("missing", "download --fetch sections")
    a_program(tmp_path / "bin", "ffmpeg", "")
    assert for_downloads()["ffmpeg"].found == str(tmp_path / "bin" / "ffmpeg")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_disk_that_is_not_ours_is_broken(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    check = named(machine(tmp_path))[f"disk of {tmp_path}"]
    tmp_path.chmod(0o700)
    assert check.state == "broken" and "--work" in str(check.remedy)


def test_a_disk_that_can_not_be_written_to_is_broken() -> None:
    check = named(machine(Path("/proc/self")))["disk of /proc/self"]
    assert check.state == "broken" and "--work" in str(check.remedy)


def test_a_pytorch_that_can_not_be_imported_is_broken_and_takes_nobody_with_it(
    tmp_path: Path,
) -> None:
    """A package of that name which ends the process that imports it."""
    (tmp_path / "torch.py").write_text("import os; os.abort()")
    about = tmp_path / "torch-9.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 9.0\n")
    program = "from k710.doctor import gpu; found = gpu(); print(found.name, found.state)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
    )
    assert done.stdout.strip() == "PyTorch broken", done.stderr
