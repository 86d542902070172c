"""Tasks on a Ray cluster: there too, one that kills or hangs its worker costs itself alone.

A Ray task is a group of a few tasks. The Ray worker that gets it hands them to a worker process of
`engines.local`, which it keeps from group to group. What comes back is rows: the bytes of clips go
through the folder or URL that the tasks name, never through Ray's object store. A group whose node
or Ray worker is gone is tried elsewhere; what was staged by then is found there. What ails the
cluster as a whole is no fault of a task: it ends the run.
"""

import contextlib
import itertools
import logging
import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from k710.engines.local import Failed, Pool, Results
from k710.errors import K710Error, MissingExtra, StageError, printable, shown

__all__ = ["Ray"]

Task = TypeVar("Task")
Result = TypeVar("Result")
_GROUP = 8  # tasks: some 9 s of encoding, so that a core has work while the driver packs a shard
_GROUPS_A_SIZE = 8  # the first groups are of one task, the next of two: few tasks are spread too
_LOST_IN_A_ROW = 8  # groups given up, at least, until it is not the groups' fault
_MOMENT_S = 0.05
_LOOK_S = 1.0  # between two looks at how many cores there are
_STORE_BYTES = 100_000_000  # of Ray's object store where Ray is started here: rows are small
_CONNECT_S = 10
_LOGS = "in the logs of that node, /tmp/ray/session_latest/logs"
_GO_ON = "What is staged stays: run the same command again."
_SAME_K710 = "All nodes need the same k710: pip install 'k710[ray]' there."
_IS_IT_UP = "Is it up? ray status says. All machines need the same Ray and Python."
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # it would upload the working directory
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # or else it prints to stdout when a node is gone
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # or else it warns
}


@dataclass(frozen=True, slots=True)
class Ray:
    """A Ray cluster at `address`, HOST:PORT or auto; None: a Ray of this machine for this run.

    `workers` is the cores of that Ray, or how many of the cluster's are used at most; None: all.
    `max_retries` is how often a group is tried anew when its node or Ray worker is gone, be it for
    want of memory.
    """

    address: str | None = None
    workers: int | None = None
    max_retries: int = 3

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers ({self.workers}) must be above 0")
        if self.max_retries < 0:
            raise ValueError(f"max_retries ({self.max_retries}) must not be below 0")

    def run(
        self, function: Callable[[Task], Result], tasks: Iterable[Task | None], *, timeout_s: float
    ) -> Results[Task, Result]:
        """(task, result) as they are done, in any order; see `k710.engines.local.run_local`.

        At most twice as many groups as there are cores are with Ray at once. A task that fails, or
        whose group is given up, is tried once more by itself, but not while nothing else runs.
        StageError where the cluster is lost.
        """
        with self.session() as session:
            yield from session.run(function, tasks, timeout_s=timeout_s)

    @contextlib.contextmanager
    def session(self) -> Iterator["_Session"]:
        """The engine, for several runs: from the first task on it stays connected."""
        with contextlib.ExitStack() as until_end:
            yield _Session(self, until_end)


@dataclass(slots=True)
class _Session:
    engine: Ray
    until_end: contextlib.ExitStack
    ray: Any = None  # connected
    is_ours: bool = False  # it was connected here, and is disconnected at the end

    def run(
        self, function: Callable[[Task], Result], tasks: Iterable[Task | None], *, timeout_s: float
    ) -> Results[Task, Result]:
        """(task, result) as they are done, in any order; see `Ray.run`."""
        groups = _groups(tasks)
        for first in groups:
            if first:
                break
            time.sleep(_MOMENT_S)
        else:
            return  # nothing to do starts no Ray
        if self.ray is None:
            self.is_ours = not _import_ray().is_initialized()
            self.ray = self.until_end.enter_context(_connection(self.engine))
        flight: _Flight[Task, Result] = _Flight(self.ray, self.engine, function, timeout_s)
        try:
            yield from flight.results(itertools.chain([first], groups))
        except self.ray.exceptions.RayError as error:
            what = f"{type(error).__name__}: {_last_line(error)}"
            raise StageError(f"This run lost the Ray cluster ({what}).\n{_GO_ON}") from error
        finally:
            # Ours takes its tasks with it, and Ray aborts if a task ends just as it is cancelled.
            if not self.is_ours:
                flight.cancel()

    def session(self) -> contextlib.AbstractContextManager["_Session"]:
        """This one: it stays connected as long as it would anyway."""
        return contextlib.nullcontext(self)


def _groups(tasks: Iterable[Task | None]) -> Iterator[list[Task]]:
    """The tasks in groups; an empty one where the next task isn't ready."""
    group: list[Task] = []
    num_groups = 0
    for task in tasks:
        if task is not None:
            group.append(task)
        if len(group) == min(_GROUP, 1 + num_groups // _GROUPS_A_SIZE) or task is None:
            yield group
            num_groups += bool(group)
            group = []
    if group:
        yield group


@dataclass(slots=True)
class _Group(Generic[Task]):
    tasks: list[Task]
    is_again: bool  # it is one task that failed before
    num_lost: int = 0  # how often its node or Ray worker was gone


@dataclass(slots=True)
class _Flight(Generic[Task, Result]):
    """The groups that are with Ray."""

    ray: Any
    engine: Ray
    function: Callable[[Task], Result]
    timeout_s: float
    in_flight: dict[Any, _Group[Task]] = field(default_factory=dict)
    again: deque[_Group[Task]] = field(default_factory=deque)
    given_up: int = 0  # groups, with none done between
    most: int = 1
    looked_at: float = float("-inf")
    remote: Any = None

    def results(self, groups: Iterator[list[Task]]) -> Results[Task, Result]:
        # Ray's own retries have no end where a node is short of memory, so that they are done here.
        self.remote = self.ray.remote(num_cpus=1, max_retries=0)(_run_group)
        is_exhausted = False
        while True:
            is_waiting = False
            while not is_waiting and len(self.in_flight) < self._at_most():
                if self.again:
                    self._submit(self.again.popleft())
                    continue
                group = None if is_exhausted else next(groups, None)
                if group is None:
                    is_exhausted = True
                    break
                if group:
                    self._submit(_Group(group, is_again=False))
                is_waiting = not group
            if self.in_flight:
                yield from self._take_done(_MOMENT_S if is_waiting else _LOOK_S)
            elif is_waiting:
                time.sleep(_MOMENT_S)
            else:
                return

    def cancel(self) -> None:
        """Stop what is with Ray."""
        for reference in self.in_flight:
            with contextlib.suppress(self.ray.exceptions.RayError, ValueError):
                self.ray.cancel(reference, force=True)
        self.in_flight.clear()

    def _at_most(self) -> int:
        """How many groups may be with Ray now: nodes come and go."""
        if time.monotonic() - self.looked_at > _LOOK_S:
            # With none at the moment one group waits, which tells an autoscaler to start some.
            cores = max(1, int(self.ray.cluster_resources().get("CPU", 0)))
            workers = self.engine.workers
            # Of a larger cluster a second group would not wait: it would take one more core.
            self.most = 2 * cores if workers is None or workers >= cores else workers
            self.looked_at = time.monotonic()
        return self.most

    def _submit(self, group: _Group[Task]) -> None:
        reference = self.remote.remote(self.function, group.tasks, self.timeout_s)
        self.in_flight[reference] = group

    def _take_done(self, at_most_s: float) -> Iterator[tuple[Task, Result | Failed]]:
        references = list(self.in_flight)
        if not self.ray.wait(references, num_returns=1, timeout=at_most_s)[0]:
            return
        done, _ = self.ray.wait(references, num_returns=len(references), timeout=0)
        for reference in done:
            group = self.in_flight.pop(reference)
            results = self._results_of(reference, group)
            if results is None:
                group.num_lost += 1
                self.again.append(group)
                continue
            for task, result in zip(group.tasks, results, strict=True):
                if isinstance(result, Failed) and not group.is_again:
                    self.again.append(_Group([task], is_again=True))
                else:
                    yield task, result

    def _results_of(self, reference: Any, group: _Group[Task]) -> Sequence[Result | Failed] | None:
        """The results of a group; None where it must be tried anew."""
        errors = self.ray.exceptions
        try:
            results, refusal = self.ray.get(reference)
        except errors.RayTaskError as error:
            words = f"A Ray worker could not do its work: {_last_line(error)}."
            raise StageError(f"{words}\n{_SAME_K710} {_GO_ON}") from error
        except (
            errors.WorkerCrashedError,
            errors.NodeDiedError,
            errors.OutOfMemoryError,
            errors.ObjectLostError,
        ) as error:
            if group.num_lost < self.engine.max_retries:
                return None
            self._refuse_streak(error)
            return [Failed(f"Ray gave it up ({type(error).__name__})") for _ in group.tasks]
        if refusal is not None:
            raise refusal
        self.given_up = 0
        return list(results)

    def _refuse_streak(self, error: Exception) -> None:
        """StageError where so many groups were given up in a row that it is not their fault."""
        self.given_up += 1
        if self.given_up >= max(_LOST_IN_A_ROW, 2 * self.most):
            raise StageError(
                f"The Ray cluster lost {self.given_up} groups of tasks in a row, the last one to "
                f"{type(error).__name__}.\nSee ray status and {_LOGS}. {_GO_ON}"
            ) from error


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return printable((lines or ["no more is known"])[-1])[:300].rstrip(".")


# --- in the Ray worker

_kept: "Pool[Any, Any] | None" = None


def _run_group(
    function: Callable[[Any], Any], group: Sequence[Any], timeout_s: float
) -> tuple[list[Any], K710Error | None]:
    """The results of a group, or the error that ends the run."""
    global _kept
    if _kept is None or (_kept.function, _kept.timeout_s) != (function, timeout_s):
        if _kept is not None:
            _kept.close()
        _kept = Pool(function, timeout_s, said_where=_LOGS)
    results = []
    try:
        for task in group:
            ((_, result),) = _kept.run([task], workers=1, second_try=False)
            results.append(result)
    except K710Error as error:
        _kept.close()
        return [], type(error)(f"On {socket.gethostname()}: {error}")
    return results, None


# --- the cluster


@contextlib.contextmanager
def _connection(engine: Ray) -> Iterator[Any]:
    """Ray, connected; where a program, or a run around this one, has connected it, it stays so."""
    ray = _import_ray()
    if ray.is_initialized():
        _refuse_another(ray, engine)
        yield ray
        return
    try:
        with _keep_signals():
            _connect(ray, engine)
        yield ray
    finally:
        ray.shutdown()


def _connect(ray: Any, engine: Ray) -> None:
    where = f"The Ray cluster at {shown(engine.address)}" if engine.address else "Ray"
    if engine.address is not None and "://" in engine.address:
        raise StageError(
            f"{shown(engine.address)} is no address of a cluster for --address.\n"
            "Run on a machine of the cluster, with --address auto or HOST:PORT of ray start --head."
        )
    if engine.address is not None and engine.address != "auto":
        _refuse_unreachable(engine.address)
    here: dict[str, Any] = {"num_cpus": engine.workers, "object_store_memory": _STORE_BYTES}
    try:
        ray.init(
            address=engine.address or "local",
            include_dashboard=None if engine.address else False,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            **({} if engine.address else here),
        )
    except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
        next_step = _IS_IT_UP if engine.address else "Mend that, or use --engine local."
        what = printable(" ".join(str(error).split()))[:300].rstrip(".")
        raise StageError(f"{where} can't be used: {what}.\n{next_step}") from error


def _refuse_another(ray: Any, engine: Ray) -> None:
    """StageError where this process is connected to another cluster than `engine` names."""
    connected = ray.get_runtime_context().gcs_address
    if engine.address in (None, "auto", connected):
        return
    here = ray.util.get_node_ip_address()
    if _resolve(str(engine.address), here) != _resolve(connected, here):
        raise StageError(
            f"Ray is connected to {connected} in this process, not to {shown(engine.address)}.\n"
            "Call ray.shutdown() first, or leave the address out."
        )


def _resolve(address: str, here: str) -> tuple[str, str]:
    """IP and port, where all of this machine's are one."""
    host, _, port = address.rpartition(":")
    try:
        found = socket.gethostbyname(host)
    except (OSError, UnicodeError):
        found = host
    return (here if found.startswith("127.") else found), port


def _refuse_unreachable(address: str) -> None:
    """StageError where nothing listens at HOST:PORT. Ray itself tries for a quarter of an hour."""
    host, _, port = address.rpartition(":")
    try:
        if not host or not port.isdecimal():
            raise ValueError("it is not written HOST:PORT")
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
    except (OSError, ValueError, OverflowError) as error:
        what = printable(getattr(error, "strerror", None) or str(error))
        raise StageError(
            f"The Ray cluster at {shown(address)} can't be used: {what}.\n{_IS_IT_UP}"
        ) from error


def _import_ray() -> Any:
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        words = "--engine ray needs Ray, on every node: pip install 'k710[ray]'"
        raise MissingExtra(words) from error
    return ray


@contextlib.contextmanager
def _keep_signals() -> Iterator[None]:
    """Leave SIGTERM as it was: Ray takes it for itself, and what is in flight would not be told."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
