"""How fast one public address may ask: one governor for all who share it, through a locked file.

The file lies in the work directory, so that machines which share an address and a disk share its
pace. Sites count by address: more workers, or more machines behind it, don't make it faster.
"""

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from k710.engines.local import wait_beside_work
from k710.errors import StageError
from k710.files import flocked

__all__ = ["Pace", "pace_file"]

_LONGEST_COUNT_S = 120.0  # that the first may take to count anew
_MOST_SKEW_S = 60.0  # that clocks of machines which share a file differ by
_LONGEST_WAIT_S = 3600.0  # that a file may ask for; but for a --sleep that is longer
_FILE_BYTES = 201

_Seconds = Annotated[float, msgspec.Meta(ge=0)]


@dataclass(slots=True)
class _State:
    next_start_at: _Seconds = 0.0  # time.time() at which the next fetch may begin
    pause_s: _Seconds = 0.0  # that the last one to begin has asked for
    bytes_until: _Seconds = 0.0  # time.time() until which the bytes had so far are enough
    walls_in_row: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0


def pace_file(work: Path, address: str, proxy: str | None) -> Path:
    """Where the state of an address lies. The name of a proxy is hashed: it may hold a password."""
    name = address if proxy is None else f"{address}\0{proxy}"
    return work / "pace" / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.json"


@dataclass(frozen=True, slots=True)
class Pace:
    """The pace of one address. `bytes_per_s` None: as fast as it goes."""

    path: str
    sleep_s: float
    bytes_per_s: float | None

    def take_turn(self) -> float:
        """Seconds until a fetch may begin. 0: it may now, and the next one `sleep_s` later."""
        with self._held() as state:
            now = time.time()
            # A clock that ran ahead, or a file that is wrong, must not stop everything.
            pause_s = min(state.pause_s, max(self.sleep_s, _LONGEST_WAIT_S))
            if now < state.next_start_at <= now + pause_s + _MOST_SKEW_S:
                return state.next_start_at - now
            state.next_start_at, state.pause_s = now + self.sleep_s, self.sleep_s
            return 0.0

    def charge(self, num_bytes: int) -> None:
        """Wait until `num_bytes` more, that were just had, are no more than the rate allows."""
        if self.bytes_per_s is None or not num_bytes:
            return
        takes_s = num_bytes / self.bytes_per_s
        with self._held() as state:
            now = time.time()
            began = state.bytes_until if state.bytes_until < now + _LONGEST_WAIT_S else now
            state.bytes_until = max(now, began) + takes_s
            wait_s = state.bytes_until - now
        wait_beside_work(wait_s)

    def note(self, *, is_wall: bool) -> int:
        """How many answers in a row told nothing of a video, with this one."""
        with self._held() as state:
            state.walls_in_row = min(state.walls_in_row + 1, 1_000_000) if is_wall else 0
            return state.walls_in_row

    def walls_in_row(self) -> int:
        """How many of the last answers, of all who share the address, were a wall."""
        with self._held() as state:
            return state.walls_in_row

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Be counted as one who asks from this address. The first of them counts walls anew:

        somebody has started a run, and wants to know. Those who come later share what it finds.
        """
        path = Path(self.path).with_suffix(".users")
        path.parent.mkdir(parents=True, exist_ok=True)
        # To be read and written: NFS gives a shared lock of a file to its readers alone.
        with path.open("a+b") as file:
            if flocked(file, fcntl.LOCK_EX):
                with self._held() as state:
                    state.walls_in_row = 0
            if not flocked(file, fcntl.LOCK_SH, wait_s=_LONGEST_COUNT_S):
                raise StageError(f"{path} is held by another process for too long.\nTry again.")
            yield

    @contextlib.contextmanager
    def _held(self) -> Iterator[_State]:
        path = Path(self.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        with open(fd, "r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                state = msgspec.json.decode(file.read(_FILE_BYTES), type=_State)
            except ValueError:  # new, its last writer was killed, or is another version
                state = _State()
            before = asdict(state)
            yield state
            if asdict(state) != before:
                file.seek(0)
                # One write: a kill leaves the old state or the new one, padded to one length.
                file.write(msgspec.json.encode(state).ljust(_FILE_BYTES - 1) + b"\n")
                file.truncate(_FILE_BYTES)  # what a longer one of another hand had
