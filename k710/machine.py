"""What of the machine this process may use, as its container limits it, and what it gives back."""

import ctypes
import gc
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

__all__ = ["cores_allowed", "free_memory", "memory_allowed", "usable_cores"]


def usable_cores() -> int:
    """Cores that this process may keep busy, one at least: by affinity, and by control groups."""
    cores = len(os.sched_getaffinity(0))
    allowed = cores_allowed()
    return cores if allowed is None else max(min(cores, round(allowed)), 1)


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


def free_memory() -> None:
    """Keep a worker as small after thousands of tasks as after one."""
    gc.collect()  # PyAV's containers and yt-dlp's objects refer to each other
    trim = _malloc_trim()
    if trim is not None:
        trim(0)  # what glibc keeps between tasks is in pieces, and grows


@cache
def _malloc_trim() -> Any:
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
