"""What of the machine this process may use, clean processes beside it, and memory given back."""

import ctypes
import gc
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path, PurePosixPath
from typing import Any

from k710.errors import shown

__all__ = [
    "cores_allowed",
    "free_memory",
    "memory_allowed",
    "num_bytes_of",
    "start_python",
    "start_worker",
    "usable_cores",
    "usable_memory",
]


def usable_cores() -> int:
    """Cores that this process may keep busy, one at least: by affinity, and by control groups."""
    cores = len(os.sched_getaffinity(0))
    allowed = cores_allowed()
    return cores if allowed is None else max(min(cores, round(allowed)), 1)


def usable_memory() -> int:
    """Bytes of memory that this process may use at most: the machine's, or its control groups'."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    allowed = memory_allowed()
    return whole if allowed is None else min(whole, allowed)


def memory_allowed(
    groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """Bytes that the control groups of this process allow; None where they set no limit."""
    names = ("memory.max", "memory.limit_in_bytes")
    limits = [
        int(text)
        for folder in _group_folders("memory", groups, root)
        for name in names
        if (text := _text(folder / name)).isdigit()
    ]
    return min(limits, default=None)


def cores_allowed(
    groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> float | None:
    """Cores' worth of time that the control groups allow; None where they set no limit."""
    limits = []
    for folder in _group_folders("cpu", groups, root):
        old = f"{_text(folder / 'cpu.cfs_quota_us')} {_text(folder / 'cpu.cfs_period_us')}"
        for text in (_text(folder / "cpu.max"), old):
            words = text.split()
            if len(words) == 2 and all(word.isdigit() for word in words):  # neither max nor -1
                limits.append(int(words[0]) / int(words[1]))
    return min(limits, default=None)


def _group_folders(controller: str, groups: Path, root: Path) -> Iterator[Path]:
    """Where limits may stand: of the process's own group and of all above, in both versions."""
    for line in _text(groups).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        base = root / controller if controllers else root
        group = PurePosixPath(path)
        for one in (group, *group.parents):
            yield base / str(one).lstrip("/")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def num_bytes_of(size: str) -> int:
    """The bytes that a size like 512MB, 2GiB or 1500000 stands for. ValueError if it is none."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", size, re.IGNORECASE)
    base = 1024 if match and match[3] else 1000
    num_bytes = (
        int(float(match[1]) * base ** " KMGT".index(match[2].upper() or " ")) if match else 0
    )
    if not 0 < num_bytes < 1 << 60:
        raise ValueError(f"{shown(size)} is no size. Write it like 2GB or 1500MB.")
    return num_bytes


def start_worker(
    code: str, *, fds: Sequence[int] = (), defaults: Mapping[str, str] | None = None
) -> tuple["subprocess.Popen[bytes]", Connection]:
    """Start a clean Python, as `start_python` does, and a pipe to it: `{fd}` in `code` is its end.

    Not multiprocessing: its children run the caller's main module again, PyTorch and all; and a
    fork of a process with threads, CUDA or FFmpeg in it may hang.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        fd = theirs.fileno()
        process = start_python(code.format(fd=fd), fds=[fd, *fds], defaults=defaults)
    return process, Connection(ours.detach())


def start_python(
    code: str,
    *,
    fds: Sequence[int] = (),
    defaults: Mapping[str, str] | None = None,
    output: int | None = None,
) -> "subprocess.Popen[bytes]":
    """Start a Python that runs `code` and imports modules from where this one does.

    It keeps the open files `fds`, and what a terminal sends, as Ctrl-C, is not for it. `defaults`
    are environment variables where there are none of the name; `output` is as Popen has it.
    """
    return subprocess.Popen(
        [sys.executable, "-P", "-c", code],  # -P: no file of the user's is imported
        pass_fds=fds,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env={
            **(defaults or {}),
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        },
        start_new_session=True,
    )


def free_memory() -> None:
    """Keep a worker as small after thousands of tasks as after one."""
    gc.collect()  # PyAV's containers and yt-dlp's objects refer to each other
    trim = _malloc_trim()
    if trim is not None:
        trim(0)  # what glibc keeps between tasks is in pieces, and grows


@cache
def _malloc_trim() -> Any:
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
