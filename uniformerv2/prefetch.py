"""Batches on a GPU before they are asked for."""

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

__all__ = ["make_ahead", "pin_memory"]

T = TypeVar("T")


def pin_memory(memory: Any) -> Callable[[], None]:
    """Let the GPU's copy engine read the memory; returns what ends that."""
    runtime = torch.cuda.cudart()
    view = np.frombuffer(memory, np.uint8)
    address = view.ctypes.data
    torch.cuda.check_error(runtime.cudaHostRegister(address, len(view), 0))

    def unpin() -> None:
        torch.cuda.synchronize()
        runtime.cudaHostUnregister(address)

    return unpin


def make_ahead(
    batches: Generator[T, None, None],
    tensors: Callable[[T], Iterable[Tensor]],
    copied_from: Callable[[T], list[Any]],
    device: torch.device,
) -> Generator[T, None, None]:
    """The same batches, each made in a thread, on a stream of its own, one ahead.

    `tensors` names those of a batch, so that their memory lives on while the caller's stream needs
    it; `copied_from` is what it holds until it has been copied to the GPU, and is emptied then.
    """
    stream = torch.cuda.Stream(device)
    made: queue.SimpleQueue[Any] = queue.SimpleQueue()
    room = threading.Semaphore(1)
    is_over = threading.Event()

    def work() -> None:
        try:
            with torch.cuda.device(device), torch.cuda.stream(stream):
                while room.acquire() and not is_over.is_set():
                    batch = next(batches, None)
                    event = stream.record_event()
                    held = [] if batch is None else copied_from(batch)
                    made.put((batch, event))
                    if batch is None:
                        return
                    del batch
                    event.synchronize()
                    held.clear()  # now it is the workers' again, and not before
        except BaseException as error:
            made.put((error, None))
        finally:
            batches.close()

    thread = threading.Thread(target=work, name="k710-ahead", daemon=True)
    thread.start()
    try:
        while True:
            batch, event = made.get()
            if isinstance(batch, BaseException):
                raise batch
            if batch is None:
                return
            room.release()
            current = torch.cuda.current_stream(device)
            current.wait_event(event)
            for tensor in tensors(batch):
                tensor.record_stream(current)
            yield batch
            del batch
    finally:
        is_over.set()
        room.release()
        thread.join()
