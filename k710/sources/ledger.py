"""The ledger of downloads: one line of JSON for each attempt, appended as it ends, never changed.

work/ledger/003_of_016.jsonl is that of part 3; 001_of_001.jsonl of a run that has no parts. One
process at a time appends to a file: it holds a lock on it. A last line that a kill cut short does
not count. What the lines say of each clip is in fetched.sql.
"""

import contextlib
import datetime
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import duckdb

from k710.errors import StageError
from k710.files import flocked
from k710.part import Part
from k710.sources.outcomes import rename_statuses
from k710.statuses import Status
from k710.tables.connection import parquet_pattern, run
from k710.tables.schemas import read_sql

__all__ = [
    "Attempt",
    "FetchedFile",
    "Ledger",
    "ledger_dir",
    "ledger_sha256",
    "open_ledger",
    "others_at_work",
    "read_attempts",
]

_COLUMNS = {
    "ended_at": "TIMESTAMP",
    "youtube_id": "VARCHAR",
    "attempt": "INTEGER",
    "clips": "VARCHAR[]",
    "status": "VARCHAR",
    "detail": "VARCHAR",
    "kind": "VARCHAR",
    "files": "STRUCT(uri VARCHAR, num_bytes BIGINT, starts_at_s DOUBLE, clips VARCHAR[])[]",
    "num_bytes": "BIGINT",
    "seconds": "DOUBLE",
    "is_wall": "BOOLEAN",
    "keep": "BOOLEAN",
    "tool": "VARCHAR",
}


def ledger_dir(work: Path) -> Path:
    """Where the ledger's files lie."""
    return work / "ledger"


_LOOK_S = 2.0  # another may just be looking at the file
_WAIT_S = 120.0  # NFS servers keep the locks of a machine that died for a while


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """A file that is there: a whole video (`clips` empty: it has every window), or a section."""

    uri: str
    num_bytes: int
    starts_at_s: float  # time in the video of the file's first frame
    clips: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at one video, and what became of it: a line of the ledger."""

    youtube_id: str
    attempt: int
    clips: tuple[str, ...]  # that it was for
    status: Status
    detail: str | None
    kind: str | None  # whole, sections; None: it didn't come to that
    files: tuple[FetchedFile, ...]
    num_bytes: int  # had from the network, kept or not
    seconds: float
    is_wall: bool
    keep: bool


@dataclass(frozen=True, slots=True)
class Ledger:
    """A file that this process alone appends to."""

    fd: int
    tool: str

    def append(self, attempt: Attempt) -> None:
        """Add the line of an attempt. OSError where the disk is full."""
        ended_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
        line = {"ended_at": ended_at, **asdict(attempt), "tool": self.tool}
        data = json.dumps(line).encode() + b"\n"
        while data:  # a disk that is nearly full takes a part, and says so at the next
            data = data[os.write(self.fd, data) :]


@contextlib.contextmanager
def open_ledger(work: Path, part: Part, *, tool: str) -> Iterator[Ledger]:
    """The ledger of a part, to append to. StageError where it, or parts of others, are at work."""
    folder = ledger_dir(work)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{part.name}.jsonl", "a+b", buffering=0) as file:
        wait_s = _WAIT_S if part.of > 1 else _LOOK_S  # a part may have been queued again
        if not flocked(file, fcntl.LOCK_EX, wait_s=wait_s):
            raise StageError(
                f"Part {part} is being downloaded to {work} by another process.\n"
                "Wait until it has ended."
            )
        for other in others_at_work(work, part):
            if other.of != part.of:
                raise StageError(
                    f"Part {other} is being downloaded to {work} by another process, and this is "
                    f"part {part}: they would fetch the same videos.\n"
                    "Wait until it has ended, or use the same number of parts."
                )
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(size - 1)
            if file.read(1) != b"\n":
                file.write(b"\n")  # after a line that a kill cut short
        yield Ledger(file.fileno(), tool)


def others_at_work(work: Path, part: Part) -> list[Part]:
    """The other parts that are being downloaded now."""
    found = []
    for path in sorted(ledger_dir(work).glob("*_of_*.jsonl")):
        number, _, of = path.stem.partition("_of_")
        other = Part(int(number), int(of))
        if other != part:
            with path.open("rb") as file:
                if not flocked(file, fcntl.LOCK_SH):
                    found.append(other)
    return found


def ledger_sha256(work: Path) -> str:
    """A hash of how far the ledger's files go; they only ever grow."""
    paths = sorted(ledger_dir(work).glob("*.jsonl"))
    lines = [f"{path.name} {path.stat().st_size}\n" for path in paths]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_attempts(con: duckdb.DuckDBPyConnection, work: Path) -> None:
    """Make `attempts` a table on `con`: one row for each line of the ledger."""
    columns = ", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())
    run(con, f"create or replace temp table attempts ({columns})")
    files = [parquet_pattern(path) for path in sorted(ledger_dir(work).glob("*.jsonl"))]
    if files:
        run(
            con,
            f"insert into attempts\n{read_sql('k710/sources/attempts.sql')}",
            {"files": files, "columns": _COLUMNS},
        )
        rename_statuses(con, "attempts")
