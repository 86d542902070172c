"""The doctor looks at real things, and what it finds missing comes with what mends it."""

import datetime
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import lazy_loader
import pytest

from k710.doctor.checks import decoder, downloads, extras, packages, run_checks
from k710.doctor.machine import Check, Version, gpu, installed, machine

ROOT = Path(__file__).resolve().parents[3]
TODAY = datetime.date(2026, 1, 1)

# A PyTorch as the doctor asks it, with a chatty start and end.
TORCH = """
import atexit, types
print("a line of its own")
atexit.register(print, "another")
version = types.SimpleNamespace(cuda={cuda!r}, hip=None)
def init():
    if {why!r}: raise RuntimeError({why!r})
def device(i):
    return types.SimpleNamespace(name="GPU A", total_memory=16 << 30, major={major})
cuda = types.SimpleNamespace(init=init, device_count=lambda: 1, get_device_properties=device)
"""


def named(found: Iterable[Check]) -> dict[str, Check]:
    return {check.name: check for check in found}


def without(*names: str) -> Version:
    """Tells of versions as if these packages were not installed."""
    return lambda name: None if name in names else installed(name)


def a_program(folder: Path, name: str, prints: str) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{prints}'\n")
    path.chmod(0o755)


def a_torch(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    text: str | None = None,
    *,
    cuda: str | None = "12.8",
    why: str = "",
    major: int = 9,
    driver: bool = True,
    compiler: bool = True,
    version: Version = lambda name: "9.0",
    wait_s: float = 120,
) -> dict[str, Check]:
    """What the doctor says of a package of that name, with or without the driver's program."""
    site = folder / "site"
    site.mkdir()
    (site / "torch.py").write_text(text or TORCH.format(cuda=cuda, why=why, major=major))
    monkeypatch.syspath_prepend(site)
    if driver:
        a_program(folder / "bin", "nvidia-smi", "")
    if compiler:
        a_program(folder / "bin", "gcc", "")
    monkeypatch.setenv("PATH", str(folder / "bin"))
    monkeypatch.delenv("CC", raising=False)
    return named(gpu(lambda name: "9.0" if name == "torch" else version(name), wait_s=wait_s))


def test_this_installation_is_sound(tmp_path: Path) -> None:
    work = tmp_path / "work" / "not" / "there"
    found = run_checks(work, version=without("torch"))
    assert [check for check in found if check.state == "broken"] == []
    by_name = named(found)
    for name in ("Python", "k710", "duckdb", "av", "decoder", "memory"):
        assert by_name[name].state == "ok", by_name[name]
    assert by_name["duckdb"].found == metadata.version("duckdb")
    assert "H.264 written and read" in by_name["decoder"].found
    assert list(tmp_path.iterdir()) == []  # looking makes nothing
    for check in found:
        assert check.needed_for and check.found
        assert (check.remedy is None) == (check.state == "ok") or check.state == "note", check


# --- packages


def test_a_package_of_the_base_install_that_is_not_there_is_broken() -> None:
    check = named(packages(without("duckdb")))["duckdb"]
    assert (check.state, check.remedy) == ("broken", "pip install --upgrade k710")


def test_a_package_that_is_too_old_is_found() -> None:
    old = {"duckdb": "1.3.9", "torch": "2.5.1+cu124", "timm": "1"}
    found = named([*packages(told := lambda n: old.get(n, installed(n))), *extras(told)])
    assert (found["duckdb"].state, found["duckdb"].found) == ("broken", "1.3.9: k710 needs 1.4")
    assert (found["torch"].state, found["torch"].remedy) == (
        *("missing", "pip install 'k710[train]'"),
    )
    assert found["timm"].state == "ok"  # 1 is 1.0


def test_what_some_commands_need_is_missing_with_the_extra_that_has_it() -> None:
    found = named(extras(without("torch", "onnx", "ray", "wandb")))
    assert {name: found[name].remedy for name in ("torch", "onnx", "ray", "wandb")} == {
        "torch": "pip install 'k710[train]'",
        "onnx": "pip install 'k710[onnx]'",
        "ray": "pip install 'k710[ray]'",
        "wandb": "pip install wandb",
    }
    assert {found[name].state for name in ("torch", "onnx", "ray", "wandb")} == {"missing"}


def test_a_checkout_that_is_not_installed_is_found(tmp_path: Path) -> None:
    """In a Python that sees what the faces of rooms are made with, and no other package."""
    (tmp_path / "lazy_loader").symlink_to(Path(str(lazy_loader.__file__)).parent)
    code = f"import sys; sys.path[:0] = {[str(ROOT), str(tmp_path)]!r}\n"
    code += "from k710.doctor.checks import extras, packages\n"
    code += "print([c.name for c in (*packages(), *extras()) if c.state == 'broken'])"
    command = [sys.executable, "-S", "-P", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env={})
    assert (done.stdout, done.stderr) == ("['k710']\n", "")


def test_a_decoder_that_can_not_be_imported_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    (check,) = decoder()
    assert check.state == "broken" and "av" in check.found
    assert check.remedy == "pip install --force-reinstall av numpy"


# --- downloads


def test_an_old_yt_dlp_is_found() -> None:
    year, month, day = map(int, metadata.version("yt-dlp").split(".")[:3])
    released = datetime.date(year, month, day)
    for days, state in ((-1, "ok"), (90, "ok"), (91, "note")):
        check = named(downloads(released + datetime.timedelta(days=days)))["yt-dlp"]
        assert check.state == state
    assert check.remedy == "pip install --upgrade yt-dlp"


def test_a_yt_dlp_whose_version_is_no_date_is_no_matter() -> None:
    check = named(downloads(TODAY, lambda name: "2026.next"))["yt-dlp"]
    assert (check.state, check.remedy) == ("note", None)


@pytest.mark.parametrize(
    ("prints", "state", "said", "remedy"),
    [
        ("deno 2.5.1 (stable, release)", "ok", "2.5.1", None),
        ("deno 1.2.3 (stable)", "missing", "yt-dlp needs 2.", "pip install --upgrade deno"),
        (None, "missing", "not on PATH", "pip install deno"),
    ],
)
def test_deno_is_looked_for(
    prints: str | None,
    state: str,
    said: str,
    remedy: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("yt_dlp.utils._jsruntime")
    if Path(sys.executable).with_name("deno").exists():
        pytest.skip("there is a deno beside this Python, and yt-dlp takes that")
    if prints is not None:
        a_program(tmp_path / "bin", "deno", prints)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    check = named(downloads(TODAY))["deno"]
    assert (check.state, check.remedy) == (state, remedy) and said in check.found


def test_another_runtime_is_not_taken_for_deno(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("yt_dlp.utils._jsruntime")
    if Path(sys.executable).with_name("deno").exists():
        pytest.skip("there is a deno beside this Python, and yt-dlp takes that")
    a_program(tmp_path / "bin", "node", "v99.0.0")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    check = named(downloads(TODAY))["deno"]
    assert check.state == "missing" and "node 99.0.0 is not used by k710" in check.found


def test_a_yt_dlp_that_tells_of_no_runtime_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yt_dlp.utils._jsruntime", None)
    assert named(downloads(TODAY))["deno"].state == "note"


def test_deno_is_not_enough_without_its_solver() -> None:
    check = named(downloads(TODAY, without("yt-dlp-ejs")))["yt-dlp-ejs"]
    assert (check.state, check.remedy) == ("missing", "pip install 'yt-dlp[default]'")
    assert named(downloads(TODAY, lambda name: "1.0"))["yt-dlp-ejs"].state == "ok"


def test_ffmpeg_is_wanted_for_sections_and_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    check = named(downloads(TODAY))["ffmpeg"]
    assert (check.state, check.remedy) == ("missing", "apt install ffmpeg")
    a_program(tmp_path / "bin", "ffmpeg", "")
    assert named(downloads(TODAY))["ffmpeg"].found == str(tmp_path / "bin" / "ffmpeg")


# --- GPU


def test_without_pytorch_nobody_is_asked() -> None:
    (check,) = gpu(without("torch"))
    assert (check.state, check.remedy) == ("missing", "pip install 'k710[train]'")


def test_a_gpu_is_named_with_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = a_torch(monkeypatch, tmp_path)
    assert (found["CUDA"].state, found["CUDA"].found) == ("ok", "12.8: GPU A (16 GiB)")
    assert "a C compiler" not in found["Triton"].found


def test_triton_needs_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = a_torch(monkeypatch, tmp_path, compiler=False)["Triton"]
    assert (check.state, check.remedy) == ("missing", "apt install gcc python3-dev")
    assert check.found.startswith("9.0, without a C compiler")


def test_a_pytorch_without_triton_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = a_torch(monkeypatch, tmp_path, version=without("triton"))["Triton"]
    assert (check.state, check.found) == ("missing", "not installed")


def test_an_old_gpu_has_no_bf16(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = a_torch(monkeypatch, tmp_path, major=7)["CUDA"]
    assert (check.state, check.found) == ("note", "12.8: GPU A (16 GiB, no bf16)")
    assert "--set run.precision=fp16" in str(check.remedy)


@pytest.mark.parametrize(
    ("cuda", "why", "said", "remedy"),
    [
        (None, "not compiled with CUDA", "one without CUDA", "pip install --force-reinstall torch"),
        ("13.0", "The driver is too old", "The driver is too old", "a newer driver"),
    ],
)
def test_a_driver_that_pytorch_does_not_use_is_broken(
    cuda: str | None,
    why: str,
    said: str,
    remedy: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = a_torch(monkeypatch, tmp_path, cuda=cuda, why=why)
    assert found["CUDA"].state == "broken" and "Triton" not in found
    assert said in found["CUDA"].found and remedy in str(found["CUDA"].remedy)


def test_no_gpu_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if Path("/proc/driver/nvidia/version").exists():
        pytest.skip("there is a driver")
    check = a_torch(monkeypatch, tmp_path, why="no driver", driver=False)["CUDA"]
    assert (check.state, check.found, check.remedy) == ("note", "no NVIDIA driver", None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("raise ImportError('libcudart.so.12: no such file')", "libcudart.so.12: no such file"),
        ("import os; os.abort()", "exit code -6"),
    ],
)
def test_a_pytorch_that_can_not_be_imported_takes_nobody_with_it(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = a_torch(monkeypatch, tmp_path, text)["PyTorch"]
    assert check.state == "broken" and said in check.found


def test_a_pytorch_that_hangs_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = a_torch(monkeypatch, tmp_path, "import time; time.sleep(60)", wait_s=0.5)["PyTorch"]
    assert (check.state, check.found) == ("broken", "can't be imported: it takes more than 0.5 s")


def test_a_file_of_the_user_is_not_taken_for_pytorch(tmp_path: Path) -> None:
    """`python -c` would import it from where the user is; `k710` does not."""
    (tmp_path / "torch.py").write_text("raise SystemExit('taken')")
    code = "import sys; from k710.doctor.checks import gpu; print(*gpu(lambda name: '9.0'))"
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "taken" not in done.stdout


# --- the machine


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_disk_that_is_not_ours_is_broken(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    check = named(machine(tmp_path))[f"disk of {tmp_path}"]
    tmp_path.chmod(0o700)
    assert check.state == "broken" and "--work" in str(check.remedy)


def test_a_disk_that_can_not_be_written_to_is_broken() -> None:
    check = named(machine(Path("/proc/self")))["disk of /proc/self"]
    assert check.state == "broken" and "--work" in str(check.remedy)


@pytest.mark.parametrize("inside", ["", "sub/work"])
def test_a_file_is_no_work_directory(inside: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    work = tmp_path / "file" / inside
    assert named(machine(work))[f"disk of {work}"].state == "broken"


def test_a_disk_without_room_is_broken(tmp_path: Path) -> None:
    """A limit on the size of files: what is left of a disk can't be had so simply."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        check = named(machine(tmp_path))[f"disk of {tmp_path}"]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (check.state, check.found) == ("broken", "can't be written to: File too large")
    assert list(tmp_path.iterdir()) == []


def test_a_name_does_not_act_on_the_terminal() -> None:
    (check,) = (check for check in machine(Path("w\x1b[31m")) if "disk" in check.name)
    assert check.name == "disk of w\\x1b[31m"


def test_this_machine_is_described() -> None:
    found = named(machine(Path()))
    assert re.match(r"\d+ cores", found["processor"].found)
    assert re.match(r"\d+\.\d GiB", found["memory"].found)
