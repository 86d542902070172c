"""Batches that are made ahead in a thread: the order of events, with a stand-in for the GPU's."""

import contextlib
import time
from collections.abc import Generator, Iterator
from typing import Any

import pytest
import torch

from support.waiting import wait_until
from uniformerv2.prefetch import make_ahead

NONE = torch.device("cpu")


class Stream:
    """Does nothing; its events are done when `is_done` is set."""

    is_done = True

    def __init__(self, device: Any = None) -> None: ...

    def record_event(self) -> "Stream":
        return self

    def wait_event(self, event: "Stream") -> None: ...

    def synchronize(self) -> None:
        while not Stream.is_done:
            time.sleep(0.001)


@pytest.fixture(autouse=True)
def without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    Stream.is_done = True
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    yield
    Stream.is_done = True


def ahead(batches: Generator[Any, None, None]) -> Generator[Any, None, None]:
    return make_ahead(batches, lambda batch: [], lambda batch: batch["held"], NONE)


def numbered(made: list[Any], stop: int | None = None) -> Generator[Any, None, None]:
    """Batches that note when they are made, and when no more are wanted."""
    try:
        number = 0
        while number != stop:
            made.append(number)
            yield {"number": number, "held": [object()]}
            number += 1
    finally:
        made.append("closed")


def test_all_come_in_their_order_and_one_ahead() -> None:
    made: list[Any] = []
    assert [batch["number"] for batch in ahead(numbered(made, 5))] == [0, 1, 2, 3, 4]
    assert made == [0, 1, 2, 3, 4, "closed"]
    made.clear()
    batches = ahead(numbered(made))
    for number in range(3):
        assert next(batches)["number"] == number
        wait_until(lambda number=number: made[-1] == number + 1, "none is made ahead")
        time.sleep(0.02)
        assert made[-1] == number + 1
    batches.close()
    assert made == [0, 1, 2, 3, "closed"]


def test_memory_is_held_until_it_has_been_copied() -> None:
    Stream.is_done = False
    batches = ahead(numbered([]))
    first = next(batches)
    time.sleep(0.05)
    assert first["held"]
    Stream.is_done = True
    wait_until(lambda: not first["held"], "its memory is held for ever")
    batches.close()


def test_what_is_raised_there_is_raised_here() -> None:
    def failing() -> Generator[Any, None, None]:
        yield {"number": 0, "held": []}
        raise ValueError("no more")

    batches = ahead(failing())
    assert next(batches)["number"] == 0
    with pytest.raises(ValueError, match="no more"):
        next(batches)
