"""What this machine has of what k710 needs, and how to get what is missing.

PyTorch is looked at by another process: k710 itself never imports it, and a broken one shall not
take the doctor with it.
"""

import datetime
import fcntl
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib import metadata
from pathlib import Path
from typing import Literal

from k710.errors import K710Error
from k710.files import flocked

__all__ = [
    "Check",
    "checks",
    "decoder",
    "downloads",
    "extras",
    "gpu",
    "machine",
    "packages",
]

_OLD = datetime.timedelta(days=90)  # of a yt-dlp: sites change more often than that
_NEW_PYTHON = (3, 11)
_LITTLE_ROOM = 20 * 10**9  # bytes: about what the validation clips of one dataset take
_ASK_TORCH = """
import json, torch
cuda = torch.cuda.is_available()
number = torch.cuda.device_count() if cuda else 0
gpus = [torch.cuda.get_device_properties(i) for i in range(number)]
print(json.dumps({
    "cuda": torch.version.cuda,
    "gpus": [[g.name, g.total_memory] for g in gpus],
    "bf16": cuda and torch.cuda.is_bf16_supported(),
}))
"""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. `missing` is what some command needs, and not all."""

    topic: str
    name: str
    state: Literal["ok", "missing", "broken"]
    found: str
    needed_for: str
    remedy: str | None = None  # a command, or what to do


def checks(work: Path, *, today: datetime.date | None = None) -> list[Check]:
    """All that can be looked at, in the order in which a user needs it."""
    today = today or datetime.date.today()
    return [
        *packages(),
        *extras(),
        gpu(),
        *decoder(),
        *downloads(today),
        *machine(work),
    ]


# --- packages


def packages() -> Iterator[Check]:
    """Python, k710, and what it can't do without."""
    version = platform.python_version()
    is_new = sys.version_info[:2] >= _NEW_PYTHON
    wish = None if is_new else "Install Python 3.11 or newer, and k710 in it."
    yield Check("packages", "Python", "ok" if is_new else "broken", version, "all", wish)
    for name in ("k710", *_required(None)):
        yield _package(name, "all", "pip install --upgrade k710", is_needed=True)


def _required(extra: str | None) -> list[str]:
    """The packages that k710's own metadata asks for: of the base install, or of an extra."""
    names = []
    for line in metadata.requires("k710") or ():
        name = re.match(r"[A-Za-z0-9._-]+", line)
        of = re.search(r"""extra\s*==\s*['"]([a-z]+)['"]""", line)
        if name and (of[1] if of else None) == extra:
            names.append(name[0])
    return names


def _package(name: str, needed_for: str, remedy: str, *, is_needed: bool = False) -> Check:
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        state: Literal["missing", "broken"] = "broken" if is_needed else "missing"
        return Check("packages", name, state, "not installed", needed_for, remedy)
    return Check("packages", name, "ok", version, needed_for)


def extras() -> Iterator[Check]:
    """What some commands need."""
    for extra, use in (
        ("train", "training, and whatever reads a checkpoint"),
        ("onnx", "convert --to onnx"),
        ("ray", "shard --engine ray; shards below a URL"),
    ):
        for name in _required(extra):
            yield _package(name, use, f"pip install 'k710[{extra}]'")
    for name, key in (("tensorboard", "run.tensorboard"), ("wandb", "run.wandb")):
        yield _package(name, f"--set {key}=true", f"pip install {name}")


def gpu() -> Check:
    """The GPUs that PyTorch sees, or why it sees none; takes as long as it takes to import it."""
    use = "training at more than a demo's scale"
    has_driver = Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi")
    try:
        metadata.version("torch")
    except metadata.PackageNotFoundError:
        found = "a driver, and no PyTorch" if has_driver else "not looked for: no PyTorch"
        return Check("GPU", "CUDA", "missing", found, use, "pip install 'k710[train]'")
    done = _said(sys.executable, "-c", _ASK_TORCH, wait_s=120)
    if done is None:
        remedy = "pip install --force-reinstall torch"
        return Check("GPU", "PyTorch", "broken", "can't be imported", "training", remedy)
    about = json.loads(done.splitlines()[-1])
    if about["gpus"]:
        names = ", ".join(
            f"{name} ({num_bytes / 2**30:.0f} GiB)" for name, num_bytes in about["gpus"]
        )
        narrow = "bf16" if about["bf16"] else "no bf16: --set run.precision=fp16"
        return Check("GPU", "CUDA", "ok", f"{about['cuda']}: {names}; {narrow}", use)
    if has_driver and about["cuda"] is None:
        found = "there is a driver, and this PyTorch is one without CUDA"
        remedy = "pip install --force-reinstall torch, from the index that pytorch.org names"
        return Check("GPU", "CUDA", "broken", found, use, remedy)
    if has_driver:
        found = f"there is a driver, and PyTorch (CUDA {about['cuda']}) sees no GPU"
        return Check("GPU", "CUDA", "broken", found, use, "nvidia-smi tells more: a newer driver?")
    return Check("GPU", "CUDA", "missing", "no NVIDIA driver", use, "a machine with a GPU")


def _said(*command: str, wait_s: float = 20) -> str | None:
    """What a program prints; None if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=wait_s, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or done.stderr.strip()


# --- videos


def decoder() -> Iterator[Check]:
    """Whether videos can be written and read: a small one is."""
    use = "index, shard, training"
    remedy = "pip install --force-reinstall av"
    try:
        import av
        import numpy as np

        from k710.profiles import PROFILES, add_stream
        from k710.video import read_frames

        frames = np.zeros((4, 32, 48, 3), np.uint8)
        file = io.BytesIO()
        with av.open(file, "w", format="mp4") as container:
            stream = add_stream(container, PROFILES["balanced"], size=(48, 32), fps=Fraction(10))
            for picture in frames:
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                container.mux(stream.encode(frame.reformat(format="yuv420p")))
            container.mux(stream.encode(None))
        read = read_frames(file.getvalue(), [0, 3])
        assert read.shape == (2, 32, 48, 3)
    except (ImportError, OSError, ValueError, AssertionError, K710Error, av.FFmpegError) as error:
        yield Check("videos", "decoder", "broken", str(error) or type(error).__name__, use, remedy)
        return
    found = f"FFmpeg {av.ffmpeg_version_info} in PyAV: H.264 written and read"
    yield Check("videos", "decoder", "ok", found, use)


def downloads(today: datetime.date) -> Iterator[Check]:
    """What `k710 download` needs."""
    use = "download"
    try:
        parts = metadata.version("yt-dlp").split(".")[:3]
        year, month, day = map(int, parts)
        released = datetime.date(year, month, day)
    except (metadata.PackageNotFoundError, ValueError):
        released = None
    if released is not None:
        is_old = today - released > _OLD
        found = f"of {released}"
        remedy = "pip install --upgrade yt-dlp" if is_old else None
        found += ": sites have changed since" if is_old else ""
        yield Check("videos", "yt-dlp", "missing" if is_old else "ok", found, use, remedy)
    yield _js_runtime()
    ffmpeg = shutil.which("ffmpeg")
    yield Check(
        *("videos", "ffmpeg", "ok" if ffmpeg else "missing"),
        *(ffmpeg or "not on PATH", "download --fetch sections"),
        None if ffmpeg else "apt install ffmpeg, or as your system has it",
    )


def _js_runtime() -> Check:
    """YouTube asks for JavaScript; yt-dlp runs it in Deno unless told otherwise."""
    use = "download, from YouTube"
    remedy = "curl -fsSL https://deno.land/install.sh | sh, or pip install deno"
    try:
        from yt_dlp.utils._jsruntime import DenoJsRuntime
    except ImportError:
        return Check("videos", "JS runtime", "ok", "this yt-dlp asks for none", use)
    info = DenoJsRuntime().info
    if info is None:
        return Check("videos", "JS runtime", "missing", "no deno on PATH", use, remedy)
    if not info.supported:
        least = ".".join(map(str, DenoJsRuntime.MIN_SUPPORTED_VERSION))
        found = f"deno {info.version}: yt-dlp needs {least}"
        return Check("videos", "JS runtime", "missing", found, use, "deno upgrade")
    return Check("videos", "JS runtime", "ok", f"deno {info.version}", use)


# --- the machine


def machine(work: Path) -> Iterator[Check]:
    """Processor, memory, and the disk of a work directory that may not be there yet."""
    cores = len(os.sched_getaffinity(0))
    num_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = f"{cores} cores, {num_bytes / 2**30:.0f} GiB of memory"
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else "max"
    if text.isdigit() and int(text) < num_bytes:
        found += f", of which this container may use {int(text) / 2**30:.0f}"
    yield Check("machine", "processor", "ok", found, "all")
    yield _disk(work)


def _disk(work: Path) -> Check:
    """Of the folder itself, or of the nearest one above it that there is."""
    place = Path(os.path.abspath(work))
    while not place.is_dir() and place != place.parent:
        place = place.parent
    use = "all"
    try:
        free = shutil.disk_usage(place).free
        with tempfile.TemporaryFile(dir=place) as file:
            is_locked = flocked(file, fcntl.LOCK_EX)
    except (OSError, K710Error) as error:
        return Check(
            *("machine", f"disk of {work}", "broken", str(error).splitlines()[0], use),
            "Choose a --work that can be written to and locked.",
        )
    assert is_locked  # a file that nobody else has
    found = f"{free / 1e9:,.0f} GB free, can be written to and locked"
    if free < _LITTLE_ROOM:
        remedy = "Choose a --work with more room; docs/cluster.md says what each dataset takes."
        return Check("machine", f"disk of {work}", "missing", found, "shard, download", remedy)
    return Check("machine", f"disk of {work}", "ok", found, use)
