"""Memory that a long-lived worker gives back between two tasks."""

import ctypes
import gc
from functools import cache
from typing import Any

__all__ = ["free_memory"]


def free_memory() -> None:
    """Keep a worker as small after thousands of tasks as after one."""
    gc.collect()  # PyAV's containers and yt-dlp's objects refer to each other
    trim = _malloc_trim()
    if trim is not None:
        trim(0)  # what glibc keeps between tasks is in pieces, and grows


@cache
def _malloc_trim() -> Any:
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
