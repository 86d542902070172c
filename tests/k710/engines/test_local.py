"""Tasks run on worker processes: what kills, hangs or raises costs itself alone."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from k710.engines.local import Failed, run_local
from k710.errors import MediaError, SourceError
from support.engine_tasks import (
    die_once,
    double,
    meet_another,
    num_running,
    parent_alive,
    refuse,
    refuse_media,
    stumble,
)
from support.paths import PYTHONPATH
from support.waiting import wait_until


def results(function: object, tasks: object, workers: int = 2, timeout_s: float = 60) -> dict:  # type: ignore[type-arg]
    return dict(run_local(function, tasks, workers=workers, timeout_s=timeout_s))  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [1, 3])
def test_every_task_has_its_result(workers: int) -> None:
    assert results(double, range(20), workers) == {n: 2 * n for n in range(20)}


def test_nothing_to_do_starts_no_worker() -> None:
    assert results(double, []) == {}


def test_workers_work_at_the_same_time_and_are_used_again(tmp_path: Path) -> None:
    tasks = [f"{tmp_path}/{'./' * number}" for number in range(8)]
    assert len(set(results(meet_another, tasks).values())) == 2


def test_what_kills_hangs_or_raises_costs_itself_alone() -> None:
    done = results(stumble, range(12), timeout_s=8)
    assert {n: r for n, r in done.items() if not isinstance(r, Failed)} == {
        n: n for n in (0, 1, 2, 4, 6, 8, 10, 11)
    }
    assert done[3].why == "the worker died (SIGKILL)"
    assert done[5].why == "the worker died (exit code 7)"
    assert done[7].why == "ValueError: no [bold]seven[/bold]"
    assert done[9].why == "not done after 8 s"


def test_what_died_once_is_tried_again(tmp_path: Path) -> None:
    assert results(die_once, [str(tmp_path / "marker")]) == {str(tmp_path / "marker"): "done"}


def test_the_second_try_is_alone(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    folder = tmp_path / "a"
    tasks = [str(folder), f"{folder}/.", f"{folder}/./."]
    done = results(num_running, tasks, workers=3)
    assert min(done.values()) == 1


@pytest.mark.parametrize(("function", "kind"), [(refuse, SourceError), (refuse_media, MediaError)])
def test_a_worded_error_ends_the_run(function: object, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        results(function, range(5))


def test_tasks_are_taken_as_workers_become_free() -> None:
    taken = []

    def tasks() -> Iterator[int]:
        for number in range(50):
            taken.append(number)
            yield number

    engine = run_local(double, tasks(), workers=2, timeout_s=60)
    next(engine)
    assert len(taken) <= 4
    engine.close()


def test_a_task_that_is_not_ready_holds_up_no_other() -> None:
    until = time.monotonic() + 0.3

    def tasks() -> Iterator[int | None]:
        yield from (1, None, 2)
        while time.monotonic() < until:
            yield None
        yield 3

    assert results(double, tasks()) == {1: 2, 2: 4, 3: 6}


def test_without_a_second_try_the_first_counts(tmp_path: Path) -> None:
    marker = str(tmp_path / "marker")
    done = dict(run_local(die_once, [marker], workers=2, timeout_s=60, second_try=False))
    assert isinstance(done[marker], Failed)


def children() -> set[int]:
    done = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(os.getpid())], capture_output=True, text=True
    )
    return {int(word) for word in done.stdout.split()}


def test_no_worker_is_left_however_the_iteration_ends() -> None:
    before = len(children())
    engine = run_local(parent_alive, [30, 30], workers=2, timeout_s=60)
    engine.close()
    with pytest.raises(SourceError):
        results(refuse, range(5))
    assert len(children()) <= before + 1  # ps itself


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    code = (
        "from support.engine_tasks import parent_alive\n"
        "from k710.engines.local import run_local\n"
        "for done in run_local(parent_alive, [0.0, 60.0, 60.0, 60.0], workers=2, timeout_s=99):\n"
        "    print('one', flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
    )
    assert process.stdout is not None
    process.stdout.readline()
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True
    )
    workers = [int(word) for word in found.stdout.split()]
    assert workers
    time.sleep(0.1)
    process.kill()
    process.wait()
    process.stdout.close()
    wait_until(
        lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers),
        "workers outlive their parent",
    )
