"""Run one function over many tasks, where a task that kills or hangs its worker costs itself alone.

A task and its result are plain values that can be pickled, and the function can be imported by its
name. It must be idempotent: a task may be run again. The engine here is processes of this machine;
`k710.engines.ray` has the other.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Generic, Protocol, TypeVar

from k710.errors import K710Error, StageError, printable
from k710.machine import start_worker, usable_cores

__all__ = ["Engine", "Failed", "Local", "Pool", "Results", "run_local", "wait_beside_work"]

Task = TypeVar("Task")
Result = TypeVar("Result")
_START_S = 120
_MOMENT_S = 0.05
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_WORKER = "from k710.engines.local import _serve; _serve({fd})"


@dataclass(frozen=True, slots=True)
class Failed:
    """What became of a task whose worker died, hung, or met a bug, twice."""

    why: str
    is_late: bool = False  # it was killed for taking too long
    seconds: float = 0.0  # that it took, where it was


Results = Generator[tuple[Task, Result | Failed], None, None]
"""Tasks with their results, as they are done, in any order."""


class Engine(Protocol):
    """Where tasks run: `Local`, or `k710.engines.ray.Ray`."""

    def run(
        self, function: Callable[[Task], Result], tasks: Iterable[Task | None], *, timeout_s: float
    ) -> Results[Task, Result]:
        """(task, result) as they are done, in any order; see `run_local`."""
        ...

    def session(self) -> contextlib.AbstractContextManager["Engine"]:
        """The engine, for several runs: what it takes to start it is kept from one to the next."""
        ...


@dataclass(frozen=True, slots=True)
class Local:
    """Processes of this machine; `workers` None: one for each core."""

    workers: int | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers ({self.workers}) must be above 0")

    def run(
        self, function: Callable[[Task], Result], tasks: Iterable[Task | None], *, timeout_s: float
    ) -> Results[Task, Result]:
        """(task, result) as they are done, in any order; see `run_local`."""
        workers = self.workers or usable_cores()
        return run_local(function, tasks, workers=workers, timeout_s=timeout_s)

    def session(self) -> contextlib.AbstractContextManager["Local"]:
        """This engine: there is nothing to keep."""
        return contextlib.nullcontext(self)


def run_local(
    function: Callable[[Task], Result],
    tasks: Iterable[Task | None],
    *,
    workers: int,
    timeout_s: float,
    second_try: bool = True,
) -> Results[Task, Result]:
    """(task, result) as they are done, in any order, from `workers` processes.

    Tasks are taken as workers become free; None among them stands for a task that isn't ready: the
    next one is asked for a moment later. A task that kills its worker, takes longer than
    `timeout_s` or raises is run once more while nothing else runs, and is `Failed` if it does so
    again; without `second_try` at once. A K710Error that it raises is no matter of one task: it
    ends the run. At the end of the iteration, however it comes, no worker is left.
    """
    with Pool(function, timeout_s) as pool:
        yield from pool.run(tasks, workers=workers, second_try=second_try)


@dataclass(slots=True)
class _Worker(Generic[Task]):
    process: "subprocess.Popen[bytes]"
    connection: Connection
    task: Task | None = None
    until: float = 0.0  # time.monotonic() when its task has taken too long

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.connection.close()


@dataclass(slots=True)
class Pool(Generic[Task, Result]):
    """Worker processes that stay from one run to the next, until `close`."""

    function: Callable[[Task], Result]
    timeout_s: float
    said_where: str = "above"  # what workers print
    idle: list[_Worker[Task]] = field(default_factory=list)
    busy: list[_Worker[Task]] = field(default_factory=list)

    def __enter__(self) -> "Pool[Task, Result]":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill all workers."""
        for worker in (*self.idle, *self.busy):
            worker.kill()
        self.idle.clear()
        self.busy.clear()

    def run(
        self, tasks: Iterable[Task | None], *, workers: int, second_try: bool
    ) -> Results[Task, Result]:
        """(task, result) as they are done; see `run_local`. After an error the pool must close."""
        left = iter(tasks)
        suspects: list[Task] = []
        exhausted = False
        while True:
            is_waiting = False
            while not (exhausted or is_waiting or suspects) and self.num_busy < workers:
                try:
                    task = next(left)
                except StopIteration:
                    exhausted = True
                    break
                if task is None:
                    is_waiting = True
                else:
                    self.give(task)
            if not self.num_busy:
                if is_waiting:
                    time.sleep(_MOMENT_S)
                    continue
                if not suspects:
                    return
                suspect = suspects.pop()
                self.give(suspect)
                while not (done := self.take()):
                    pass
                yield from done
                continue
            for task, result in self.take(_MOMENT_S if is_waiting else None):
                if isinstance(result, Failed) and second_try:
                    suspects.append(task)
                else:
                    yield task, result

    @property
    def num_busy(self) -> int:
        return len(self.busy)

    def give(self, task: Task) -> None:
        """Have a worker run the task; one is started if none is idle."""
        worker = self.idle.pop() if self.idle else self._start_worker()
        worker.task = task
        worker.until = time.monotonic() + self.timeout_s
        self.busy.append(worker)
        with contextlib.suppress(OSError):  # it has died: take() will see that
            worker.connection.send(task)

    def take(self, at_most_s: float | None = None) -> list[tuple[Task, Result | Failed]]:
        """Wait until tasks are done, or for `at_most_s`; returns those done with their results."""
        left_s = min(worker.until for worker in self.busy) - time.monotonic()
        if at_most_s is not None:
            left_s = min(left_s, at_most_s)
        wait([worker.connection for worker in self.busy], timeout=max(0.0, left_s))
        done: list[tuple[Task, Result | Failed]] = []
        for worker in list(self.busy):
            result = self._result(worker)
            if result is not None:
                self.busy.remove(worker)
                task, worker.task = worker.task, None
                assert task is not None
                done.append((task, result[0]))
        return done

    def _result(self, worker: _Worker[Task]) -> tuple[Result | Failed] | None:
        try:
            if worker.connection.poll():
                kind, value = worker.connection.recv()
                if kind == "waits":
                    worker.until += value
                    return None
                if kind == "refused":
                    raise value
                self.idle.append(worker)
                return (value,)
        except (EOFError, OSError):
            code = worker.process.wait()
            worker.kill()
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            return (Failed(f"the worker died ({how})"),)
        if time.monotonic() < worker.until:
            return None
        worker.kill()
        late_s = self.timeout_s
        return (Failed(f"not done after {late_s:g} s", is_late=True, seconds=late_s),)

    def _start_worker(self) -> _Worker[Task]:
        worker: _Worker[Task] = _Worker(*start_worker(_WORKER))
        try:
            worker.connection.send(self.function)
            if not worker.connection.poll(_START_S) or worker.connection.recv() != "ready":
                raise EOFError
        except (EOFError, OSError) as error:
            worker.kill()
            raise StageError(
                f"A worker process could not be started; what it said is {self.said_where}.\n"
                "Mend that, or try fewer --workers, and run the same command again."
            ) from error
        return worker


_to_parent: Connection | None = None  # in a worker


def wait_beside_work(seconds: float) -> None:
    """Sleep inside a task, where that is no fault of the task: its time doesn't run meanwhile."""
    if _to_parent is not None:
        _to_parent.send(("waits", seconds))
    time.sleep(seconds)


def _serve(fd: int) -> None:
    """The life of a worker: tasks in, results out, until its parent is gone."""
    global _to_parent
    _die_with_parent()
    connection = _to_parent = Connection(fd)
    try:
        function = connection.recv()
        connection.send("ready")
        while True:
            task = connection.recv()
            try:
                answer = ("done", function(task))
            except K710Error as error:
                answer = ("refused", error)
            except Exception as error:  # the border: one bad clip must not cost the run
                answer = ("done", Failed(printable(f"{type(error).__name__}: {error}")[:500]))
            connection.send(answer)
    except (EOFError, OSError):
        return


def _die_with_parent() -> None:
    """Have Linux kill this process when its parent dies, be it in the middle of a task.

    Elsewhere a worker notices when its task is done.
    """
    parent = os.getppid()
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)
