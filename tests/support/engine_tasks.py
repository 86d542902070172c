"""Tasks for the engines, by names that worker processes can import: some die, hang or raise."""

import os
import signal
import time
from pathlib import Path
from typing import Any

from k710.errors import MediaError, SourceError
from support.waiting import wait_until


def double(number: int) -> int:
    return 2 * number


def stumble(number: int) -> int:
    """Return the number; 3 and 5 kill the worker, 7 raises, 9 hangs."""
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 5:
        os._exit(7)
    if number == 7:
        raise ValueError("no [bold]seven[/bold]")
    if number == 9:
        time.sleep(60)
    return number


def die_once(marker: str) -> str:
    """Return "done" if the file is there; make it and die otherwise."""
    path = Path(marker)
    if not path.exists():
        path.touch()
        os._exit(1)
    return "done"


def num_running(folder: str) -> int:
    """Return how many tasks run now, this one counted; the first process to get here dies."""
    mine = Path(folder) / str(os.getpid())
    mine.touch()
    time.sleep(0.2)
    running = len(list(Path(folder).glob("[0-9]*")))
    if not (Path(folder) / "died").exists():
        (Path(folder) / "died").touch()
        mine.unlink()
        os._exit(1)
    mine.unlink()
    return running


def refuse(number: int) -> int:
    raise SourceError(f"number {number} is refused")


def refuse_media(number: int) -> int:
    raise MediaError("x")


def pid(number: int) -> int:
    time.sleep(0.05)
    return os.getpid()


def meet_another(folder: str) -> int:
    """Return the process's id as soon as another has been at work too."""
    (Path(folder) / str(os.getpid())).touch()
    wait_until(lambda: len(os.listdir(folder)) > 1, "no other worker is there")
    return os.getpid()


def parent_alive(seconds: float) -> None:
    time.sleep(seconds)


def kill_ray_worker(number: int) -> int:
    if number == 3:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    return number


def kill_every_ray_worker(number: int) -> int:
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)
    return number


def kill_ray_worker_and_count(tries: str) -> None:
    with Path(tries).open("a") as file:
        file.write("x")
    kill_every_ray_worker(0)


def sleep_long(number: int) -> int:
    time.sleep(60)
    return number


class OnlyInRay:
    """A function that a Ray worker can load, and the process that it starts can't."""

    def __call__(self, number: int) -> int:
        return number

    def __setstate__(self, state: Any) -> None:
        import ray

        if not ray.is_initialized():
            raise SystemExit("not here")

    def __getstate__(self) -> Any:
        return {"some": "state"}
