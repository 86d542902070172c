"""What the machine itself has: GPUs, cores, memory, and the disk of a work directory.

PyTorch is asked in another process: k710 itself never imports it, and one that is broken, or that
hangs, shall not take the doctor with it.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from k710.errors import K710Error, printable
from k710.files import flocked
from k710.machine import cores_allowed, memory_allowed, start_python

__all__ = [
    "Check",
    "State",
    "Version",
    "gpu",
    "installed",
    "machine",
]

Version = Callable[[str], str | None]
State = Literal["ok", "missing", "broken", "note"]

_LITTLE_ROOM = 20 * 10**9  # bytes: less than any dataset takes
_LITTLE_SHARED = 1 << 30  # bytes: Docker gives 64 MB unless told otherwise
_BLOCK_BYTES = 1 << 12
_REINSTALL = "pip install --force-reinstall torch torchvision"
_MARK = "k710:"  # torch, or what it imports, may print lines of its own
_ASK_TORCH = f"""
import json, torch
about = {{"cuda": torch.version.cuda or torch.version.hip, "gpus": [], "why": None}}
try:
    torch.cuda.init()
    for i in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(i)
        # is_bf16_supported() says yes to what is emulated too
        about["gpus"].append([gpu.name, gpu.total_memory, gpu.major >= 8])
except Exception as error:
    about["why"] = str(error)
print({_MARK!r} + json.dumps(about), flush=True)
"""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    `broken` is what is needed, or there, and does not work; `missing` what some commands need;
    `note` what is well to know.
    """

    topic: str
    name: str
    state: State
    found: str
    needed_for: str
    remedy: str | None = None  # a command, or what to do


def installed(name: str) -> str | None:
    """The version of an installed package; None where there is none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


# --- GPU


def gpu(version: Version = installed, *, wait_s: float = 120) -> Iterator[Check]:
    """The GPUs that PyTorch sees, or why it sees none; takes as long as it takes to import it."""
    use = "training at more than a demo's scale"
    has_driver = Path("/proc/driver/nvidia/version").exists() or bool(shutil.which("nvidia-smi"))
    if version("torch") is None:
        found = "a driver" if has_driver else "no NVIDIA driver"
        found += ", and no PyTorch to use a GPU"
        yield Check("GPU", "CUDA", "missing", found, use, "pip install 'k710[train]'")
        return
    about = _ask_torch(wait_s)
    if isinstance(about, str):
        found = f"can't be imported: {about}"
        yield Check("GPU", "PyTorch", "broken", found, "training", _REINSTALL)
        return
    yield _cuda(about, has_driver, use)
    if about["gpus"]:
        yield _triton(version)


def _ask_torch(wait_s: float) -> dict[str, Any] | str:
    """Ask PyTorch about CUDA; or, as text, why it can't be asked."""
    with start_python(_ASK_TORCH, output=subprocess.PIPE) as process:
        try:
            output, errors = process.communicate(timeout=wait_s)
        except subprocess.TimeoutExpired:
            return f"it takes more than {wait_s:g} s"
        finally:
            process.kill()
    for line in output.decode(errors="replace").splitlines():
        if line.startswith(_MARK):
            about: dict[str, Any] = json.loads(line.removeprefix(_MARK))
            return about
    said = errors.decode(errors="replace").strip().splitlines()
    return printable(said[-1]) if said else f"exit code {process.returncode}"


def _cuda(about: dict[str, Any], has_driver: bool, use: str) -> Check:
    if about["gpus"]:
        found = ", ".join(
            f"{name} ({num_bytes / 2**30:.0f} GiB{'' if bf16 else ', no bf16'})"
            for name, num_bytes, bf16 in about["gpus"]
        )
        found = f"{about['cuda']}: {printable(found)}"
        if all(bf16 for *_, bf16 in about["gpus"]):
            return Check("GPU", "CUDA", "ok", found, use)
        remedy = "Train with --set run.precision=fp16: bf16 is only emulated here."
        return Check("GPU", "CUDA", "note", found, use, remedy)
    if not has_driver:
        return Check("GPU", "CUDA", "note", "no NVIDIA driver", use)
    if about["cuda"] is None:
        found = "there is a driver, and this PyTorch is one without CUDA"
        # PyPI's wheels for Linux are those with CUDA; an index that was set may have others.
        remedy = f"{_REINSTALL} --index-url https://pypi.org/simple"
        return Check("GPU", "CUDA", "broken", found, use, remedy)
    why = str(about["why"] or "").splitlines()
    found = f"PyTorch (CUDA {about['cuda']}) sees no GPU: {printable(why[0]) if why else 'none'}"
    remedy = "Run nvidia-smi. If it shows GPUs, get a newer driver, or a PyTorch for an older CUDA."
    return Check("GPU", "CUDA", "broken", found, use, remedy)


def _triton(version: Version) -> Check:
    """Triton compiles with the C compiler of the machine, against Python's headers."""
    use = "quick augmentation and convolutions on a GPU; run.compile"
    number = version("triton")
    if number is None:
        return Check("GPU", "Triton", "missing", "not installed", use, _REINSTALL)
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    has_headers = (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file()
    lacks = [*["a C compiler"] * (not compiler), *["Python.h"] * (not has_headers)]
    if lacks:
        found = f"{number}, without {' and '.join(lacks)}"
        return Check("GPU", "Triton", "missing", found, use, "apt install gcc python3-dev")
    return Check("GPU", "Triton", "ok", number, use)


# --- cores, memory, disk


def machine(work: Path) -> Iterator[Check]:
    """Processor, memory, and the disk of a work directory that may not be there yet."""
    yield _processor()
    yield _memory()
    if os.path.isdir("/dev/shm"):
        yield _shared_memory()
    yield _disk(work)


def _processor() -> Check:
    cores = len(os.sched_getaffinity(0))
    found = f"{cores} cores"
    allowed = cores_allowed()
    if allowed is not None and allowed < cores:
        found += f", of which this container may use {allowed:g}"
    return Check("machine", "processor", "ok", found, "all")


def _memory() -> Check:
    num_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = f"{num_bytes / 2**30:.1f} GiB"
    allowed = memory_allowed()
    if allowed is not None and allowed < num_bytes:
        # The loader's frames count too: they lie in memory of no file.
        found += f", of which this container may use {allowed / 2**30:.1f}"
    return Check("machine", "memory", "ok", found, "all")


def _shared_memory() -> Check:
    use = "shard --engine ray, training on several GPUs"
    size = shutil.disk_usage("/dev/shm").total
    found = f"{size / 2**30:.1f} GiB"
    if size >= _LITTLE_SHARED:
        return Check("machine", "/dev/shm", "ok", found, use)
    return Check("machine", "/dev/shm", "note", found, use, "docker run --shm-size=8g ...")


def _disk(work: Path) -> Check:
    """Of the folder itself, or of the nearest one above it that there is. Leaves nothing there."""
    name, use = f"disk of {printable(str(work))}", "all"
    place = Path(os.path.abspath(work))
    try:
        while not place.exists() and place != place.parent:
            place = place.parent
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(bytes(_BLOCK_BYTES))
            file.flush()
            os.fsync(file.fileno())  # a full disk, or quota, may say so only now
            flocked(file, fcntl.LOCK_EX)
        free = shutil.disk_usage(place).free
    except (OSError, K710Error) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        why = getattr(cause, "strerror", None) or str(error)
        kind = "can't be written to" if isinstance(error, OSError) else "has no locks"
        remedy = "Choose a --work that can be written to, with room and locks (not NFS before 4)."
        return Check("machine", name, "broken", printable(f"{kind}: {why}"), use, remedy)
    found = f"{free / 1e9:,.0f} GB free, can be written to and locked"
    if free < _LITTLE_ROOM:
        remedy = "Choose a --work with more room; docs/cluster.md says what each dataset takes."
        return Check("machine", name, "note", found, "shard, download", remedy)
    return Check("machine", name, "ok", found, use)
