"""Waiting for what comes in its own time, however busy the machine is."""

import time
from collections.abc import Callable


def wait_until(is_so: Callable[[], bool], or_else: str, *, within_s: float = 120) -> None:
    """Return as soon as `is_so()`; AssertionError with the words `or_else` if it takes longer.

    The time is a guard against waiting for ever, and no measure of anything.
    """
    end = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < end, or_else
        time.sleep(0.002)
