"""Processes that read clips ahead of the trainer, and the memory that they fill.

All share one block of memory. Each request gets a part of it, in a ring, and the part is given out
again when the arrays that lie there are gone: frames lie where the trainer, or the GPU's copy
engine, takes them from. The block has no name, so that nothing of it is left when all processes are
gone, however they went.

Requests are answered in their order, whichever worker was the first. Needs no PyTorch.
"""

import contextlib
import mmap
import os
import queue
import signal
import subprocess
import threading
import time
import traceback
import weakref
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from k710.errors import K710Error, StageError
from k710.machine import free_memory, start_worker
from uniformerv2.dataset.decode import Bytes, ClipRead, Reading, Request, read_request, spread

__all__ = ["Answer", "Workers", "answer_here", "shorten_openmp_spin"]

_WAITING = 2  # requests that a worker has at once: one is decoded while bytes of the next come
_TIDY_EVERY = 50  # requests
# Of glibc: what a clip leaves is kept for the next one, up to the next tidying. Else the pages of a
# decoder go back and come again with every clip, a quarter of the time that a small one takes.
_MALLOC = {"MALLOC_TRIM_THRESHOLD_": str(64 << 20), "MALLOC_MMAP_THRESHOLD_": str(32 << 20)}


def shorten_openmp_spin() -> None:
    """Let PyTorch's idle threads sleep sooner, so that workers can decode on the same cores.

    On a CPU the threads of a step that is over look for more work for 5 ms. GNU OpenMP reads
    GOMP_SPINCOUNT when it is loaded: call this before the first import of torch. A value that the
    environment has is kept.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What came of a request. Its block of memory is given out again when no array is in it."""

    request: Request
    clips: list[ClipRead]
    block: Bytes


def answer_here(reading: Reading, requests: Iterable[Request]) -> Generator[Answer, None, None]:
    """The answers without any worker: each is made when it is asked for."""
    for request in requests:
        block = np.empty(spread(reading, request.places)[1], np.uint8)
        clips = read_request(reading, request, _fetch(reading, request), block)
        yield Answer(request, clips, block)


class Workers:
    """`num` processes, from the start on; `close` ends them, and so does the end of this one.

    `memory_bytes` is the size of the block they share. It is taken page by page, as it is used.
    """

    def __init__(self, num: int, reading: Reading, memory_bytes: int) -> None:
        self.reading = reading
        self.size = -(-memory_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        descriptor = os.memfd_create("k710-frames", os.MFD_CLOEXEC)
        self.processes: list[subprocess.Popen[bytes]] = []
        self.pipes: list[Connection] = []
        try:
            os.ftruncate(descriptor, self.size)
            self.memory = mmap.mmap(descriptor, self.size)
            for _ in range(num):
                self._start(descriptor)
        finally:
            os.close(descriptor)
        for pipe in self.pipes:
            pipe.send((reading, self.size))
        self.ring = _Ring(self.size)
        self.released: deque[int] = deque()  # starts of blocks that nobody has any more
        self.is_running = False

    def _start(self, memory: int) -> None:
        code = f"from uniformerv2.dataset.workers import _serve; _serve({{fd}}, {memory})"
        process, pipe = start_worker(code, fds=[memory], defaults=_MALLOC)
        self.processes.append(process)
        self.pipes.append(pipe)

    def answers(
        self, requests: Iterable[Request], *, ahead: bool = True
    ) -> Generator[Answer, None, None]:
        """The answers to all requests, in their order; one such run at a time.

        Requests are taken from the iterator, in a thread, as soon as there is room for what they
        ask; without `ahead`, those of a batch only when the first answer of it is waited for, and
        in between the workers rest. StageError if a worker dies, or all have ended; what a worker
        raises is raised here. RuntimeError while another run has not ended.
        """
        if not self.pipes:
            raise StageError("The workers have ended: make another loader.")
        if self.is_running:
            raise RuntimeError("one run of the workers at a time: close the other iterator first")
        self.is_running = True
        try:
            feeder = _Feeder(self, iter(requests), ahead=ahead)
            feeder.start()
            try:
                yield from feeder.results()
            finally:
                feeder.stop()
        finally:
            self.is_running = False

    def take_block(self, start: int, num_bytes: int) -> Bytes:
        """The block from `start` on; it is released when no array is in it."""
        block = np.frombuffer(self.memory, np.uint8, num_bytes, start)
        weakref.finalize(block, self.released.append, start).atexit = False
        return block

    def close(self) -> None:
        """End the processes."""
        for pipe in self.pipes:
            pipe.close()
        for process in self.processes:
            process.kill()  # nothing of theirs is left behind
            process.wait()
        self.pipes, self.processes = [], []


class _Ring:
    """Which parts of the memory are in use: given out one behind the other, round and round."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.head = 0
        self.spans: deque[int] = deque()  # starts, the oldest first
        self.freed: set[int] = set()

    def take(self, num_bytes: int) -> int | None:
        """The start of so many bytes; None if there is no room now."""
        while self.spans and self.spans[0] in self.freed:
            self.freed.remove(self.spans.popleft())
        if not self.spans:
            self.head = 0
        tail = self.spans[0] if self.spans else self.size
        start = self.head
        if self.spans and self.head > tail and self.head + num_bytes > self.size:
            start = 0  # the rest up to the end is left unused this time
        limit = tail if start < tail else self.size
        if (self.spans and start == tail) or start + num_bytes > limit:
            return None
        self.spans.append(start)
        self.head = start + num_bytes
        return start

    def free(self, start: int) -> None:
        self.freed.add(start)


class _Feeder(threading.Thread):
    """Hands out requests and takes in what comes back, for one run of `Workers.answers`."""

    def __init__(self, workers: Workers, requests: Iterator[Request], *, ahead: bool) -> None:
        super().__init__(name="k710-feeder", daemon=True)
        self.workers = workers
        self.requests = requests
        self.ahead = ahead
        self.batch = -1  # that is being read
        self.next: Request | None = next(requests, None)
        self.given: list[dict[int, tuple[Request, int | None, int]]] = [{} for _ in workers.pipes]
        self.ready: dict[int, Answer] = {}  # by place in the order
        self.order: dict[int, int] = {}  # number of a request -> its place
        self.num_given = 0
        self.num_taken = 0
        self.is_waiting = False
        self.error: BaseException | None = None
        self.stopped = False
        self.changed = threading.Condition()
        self.wake_in, self.wake_out = os.pipe()
        os.set_blocking(self.wake_out, False)

    def results(self) -> Iterator[Answer]:
        while True:
            with self.changed:
                self.is_waiting = True
                self._wake()
                self.changed.wait_for(
                    lambda: self.num_taken in self.ready or self.error or self._is_done()
                )
                self.is_waiting = False
                if self.num_taken in self.ready:
                    answer = self.ready.pop(self.num_taken)
                    self.num_taken += 1
                elif self.error is not None:
                    raise self.error
                else:
                    return
            self._wake()
            yield answer
            del answer  # or its block would be kept until the next one is there

    def stop(self) -> None:
        """Give out nothing more; wait for what is under way."""
        self.stopped = True
        self._wake()
        self.join()
        self.ready.clear()
        if self.error is not None:  # there may be answers on their way that nobody waits for
            self.workers.close()
        os.close(self.wake_in)
        os.close(self.wake_out)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self.wake_out, b".")

    def _is_done(self) -> bool:
        return self.next is None and self.num_taken == self.num_given

    def run(self) -> None:
        try:
            while not self._is_over():
                self._give()
                if not self._is_over():
                    self._take()
        except BaseException as error:
            with self.changed:
                self.error = error
        with self.changed:
            self.changed.notify_all()

    def _is_over(self) -> bool:
        is_idle = not any(self.given)
        return is_idle and (self.stopped or self._is_done())

    def _give(self) -> None:
        """Give requests out as long as there are workers and memory for them."""
        workers = self.workers
        while workers.released:
            workers.ring.free(workers.released.popleft())
        while self.next is not None and not self.stopped:
            if not (self.ahead or self.next.batch == self.batch or self._is_awaited()):
                return
            self.batch = self.next.batch
            worker = min(range(len(self.given)), key=lambda number: len(self.given[number]))
            if self.ahead and len(self.given[worker]) >= _WAITING:
                return
            num_bytes = spread(workers.reading, self.next.places)[1]
            start = workers.ring.take(num_bytes)
            if start is None and not self._is_awaited():
                return  # else whoever uses the frames keeps all memory, and is stuck
            request = self.next
            with self.changed:
                self.order[request.number] = self.num_given
                self.given[worker][request.number] = (request, start, num_bytes)
                self.num_given += 1
                self.next = next(self.requests, None)
            with contextlib.suppress(OSError):  # it has died: _take() will see that
                workers.pipes[worker].send((request, start))

    def _is_awaited(self) -> bool:
        """Whether the answer to the next request is waited for."""
        with self.changed:
            return self.is_waiting and self.num_given == self.num_taken

    def _take(self) -> None:
        """Wait until something has happened, and take it in."""
        workers = self.workers
        happened = connection.wait([*workers.pipes, self.wake_in])
        for worker, pipe in enumerate(workers.pipes):
            if pipe in happened:
                try:
                    message = pipe.recv()
                except (EOFError, OSError) as error:
                    code = workers.processes[worker].wait()
                    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
                    raise StageError(
                        f"A worker that reads clips died ({how}).\n"
                        "If that was for lack of memory, go on with fewer workers."
                    ) from error
                self._put(worker, message)
        if self.wake_in in happened:
            os.read(self.wake_in, 4096)

    def _put(self, worker: int, message: Any) -> None:
        number, result, data = message
        request, start, num_bytes = self.given[worker].pop(number)
        if isinstance(result, BaseException):
            raise result
        if start is None:
            block = np.frombuffer(data, np.uint8)
        else:
            block = self.workers.take_block(start, num_bytes)
        with self.changed:
            self.ready[self.order.pop(number)] = Answer(request, result, block)
            self.changed.notify_all()


# --- in the worker


def _serve(to_trainer: int, descriptor: int) -> None:
    """The life of a worker: requests in, answers out, until the trainer is gone."""
    pipe = Connection(to_trainer)
    reading, size = pipe.recv()
    memory = mmap.mmap(descriptor, size)
    os.close(descriptor)
    ahead: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_fetch_ahead, args=(pipe, reading, ahead), daemon=True).start()
    count = 0
    while True:
        request, start, data = ahead.get()
        result: Any = data
        overflow = None
        if not isinstance(data, BaseException):
            num_bytes = spread(reading, request.places)[1]
            if start is None:  # no room in the memory: sent through the pipe
                block = np.empty(num_bytes, np.uint8)
                overflow = block
            else:
                block = np.frombuffer(memory, np.uint8, num_bytes, start)
            try:
                result = read_request(reading, request, data, block)
            except Exception:
                result = _unexpected()
        with contextlib.suppress(OSError):  # the trainer is gone: so are we in a moment
            pipe.send((request.number, result, overflow))
        count += 1
        if count % _TIDY_EVERY == 0:
            free_memory()


def _fetch_ahead(pipe: Any, reading: Reading, ahead: Any) -> None:
    while True:
        try:
            request, start = pipe.recv()
        except (EOFError, OSError):
            os._exit(0)  # the trainer is gone: at once, be it in the middle of a clip
        try:
            data: Any = _fetch(reading, request)
        except K710Error as error:
            data = error
        except Exception:
            data = _unexpected()
        ahead.put((request, start, data))


def _unexpected() -> RuntimeError:
    """A bug, with the traceback of this process: an exception's own would be lost on the way."""
    return RuntimeError("in a worker that reads clips:\n" + traceback.format_exc())


def _fetch(reading: Reading, request: Request) -> list[tuple[bytes, float]]:
    """The bytes of each clip, and the seconds that they took."""
    began = time.perf_counter()
    data = reading.reader.read([place.span for place in request.places])
    each_s = (time.perf_counter() - began) / max(len(data), 1)
    return [(content, each_s) for content in data]
