"""The ledger of downloads: one line of JSON for each attempt, appended as it ends, never changed.

work/ledger/003_of_016.jsonl is that of part 3; 001_of_001.jsonl of a run that has no parts. One
process at a time appends to a file: it holds a lock on it. A last line that a kill cut short does
not count, nor does one of another shape, which is said. What the lines say of each clip is in
fetched.sql; what a failure's words mean is up to refusals.py whenever they are read.
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
import pyarrow as pa

from k710.errors import StageError
from k710.files import flocked
from k710.part import Part
from k710.sources.refusals import status_today
from k710.statuses import FORMER_NAMES, Status
from k710.tables.connection import first_line, make_table, parquet_pattern, run
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
    "reread_statuses",
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
    site: str  # what was asked: the template of addresses, `without_secrets`


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
    for path in _files(work):
        try:
            other = Part.parse(path.stem.replace("_of_", "/"))
        except ValueError:  # a name that is none of ours
            continue
        if other != part:
            with path.open("rb") as file:
                if not flocked(file, fcntl.LOCK_SH):
                    found.append(other)
    return found


def ledger_sha256(work: Path) -> str:
    """A hash of how far the ledger's files go; they only ever grow."""
    lines = [f"{path.name} {path.stat().st_size}\n" for path in _files(work)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _files(work: Path) -> list[Path]:
    return [path for path in sorted(ledger_dir(work).glob("*.jsonl")) if path.is_file()]


def read_attempts(con: duckdb.DuckDBPyConnection, work: Path) -> list[str]:
    """Make `attempts` a table on `con`: one row for each line of the ledger; returns remarks.

    A status is what the words mean today. StageError where a file can't be read.
    """
    columns = ", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())
    declared = f"file varchar, line bigint, is_good boolean, {columns}"
    run(con, f"create or replace temp table lines ({declared})")
    values = {"columns": _COLUMNS, "statuses": [*Status, *FORMER_NAMES]}
    for path in _files(work):
        of_file = {"name": path.name, "path": parquet_pattern(path)}
        path.open("rb").close()  # an OSError is worded elsewhere
        try:
            sql = f"insert into lines\n{read_sql('k710/sources/ledger_lines.sql')}"
            run(con, sql, {**values, **of_file})
        except duckdb.InvalidInputException as error:  # a line that is no line's length
            raise StageError(
                f"{path} can't be read ({first_line(error)}).\nMend it, or move it away."
            ) from error
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    make_table(con, "attempts", read_sql("k710/sources/attempts.sql"), {"now": now})
    wrong = run(con, read_sql("k710/sources/wrong_lines.sql"))
    run(con, "drop table lines")
    reread_statuses(con, "attempts", unexplained="is_unexplained")
    return [
        f"{num:,} of the lines in {path} are no attempts that k710 wrote, and don't count; the "
        f"first is line {line:,}."
        for name, num, line in wrong
        for path in [ledger_dir(work) / name]
    ]


def reread_statuses(
    con: duckdb.DuckDBPyConnection,
    table: str,
    *,
    where: str = "true",
    unexplained: str | None = None,
) -> None:
    """Set `status` in those rows of a temporary table to what their `detail` means today.

    `unexplained` is a column that is set to whether the site gave no known reason.
    """
    said = run(con, f"select distinct status, detail from {table} where {where}")
    rows = [(*words, status_today(*words)) for words in said]
    changed = [
        (status, words, made.status.value, made.is_unexplained)
        for status, words, made in rows
        if status != made.status or made.is_unexplained
    ]
    if not changed:
        return
    columns = [pa.array(list(column)) for column in zip(*changed, strict=True)]
    con.register("reread", pa.table(columns, names=["old", "words", "new", "is_so"]))
    also = "" if unexplained is None else f", {unexplained} = is_so"
    run(
        con,
        f"update {table} set status = new{also} from reread "
        f"where status = old and detail is not distinct from words and {where}",
    )
    con.unregister("reread")
