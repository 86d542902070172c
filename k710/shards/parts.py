"""Several runs of `k710 shard` on one shared disk, each of which makes its part of the shards.

    parts/003_of_016.lock    held while that part is at work
    parts/003_of_016.json    written at its end: what it made
    parts/003_of_016/        where its tables spill
    parts/round.json         from the first part on, until all are joined: what the plan was made of

While a part is at work it shares the lock of the work directory with the other parts, so that no
other command changes what they read. The first one plans, and says so in round.json; those that
start later go by that plan, be it hours later, until all are joined.
"""

import contextlib
import fcntl
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from k710.errors import StageError, printable, shown
from k710.files import flocked, locked, write_json
from k710.part import Part

__all__ = [
    "begin_round",
    "end_round",
    "locked_without_parts",
    "part_locked",
    "planning",
    "record_part",
    "round_is_open",
    "staging_of_round",
    "unfinished",
]

_SOMEBODY = "another process"
_WAIT_S = 120.0  # for others that plan: they start at the same moment
_WRITTEN_BY_PARTS = "parts of k710 shard: parts/*.lock say which"


# --- locks


@contextlib.contextmanager
def part_locked(
    work: Path, part: Part, *, when_first: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Hold the lock of one part; StageError names who is at work that can't be beside it.

    That is the same part, parts of another number, and commands that need all of `work`: it waits
    for those two minutes, and for the same part too, whose machine may have just died: an NFS
    server keeps its lock for a while. `when_first` is called by the first of those at work, while
    no other may begin.
    """
    folder = work / "parts"
    with (work / ".lock").open("a+", encoding="utf-8") as shared:
        if not flocked(shared, fcntl.LOCK_SH, wait_s=_WAIT_S):
            raise StageError(_in_use(work, _line(shared)))
        folder.mkdir(exist_ok=True)
        with (folder / f"{part.name}.lock").open("a+", encoding="utf-8") as file:
            if not flocked(file, fcntl.LOCK_EX, wait_s=_WAIT_S):
                raise StageError(_in_use(work, f"part {part}, {_line(file)}"))
            file.truncate(0)  # what a killed one left: a line says that this one has begun
            with planning(work):
                # Those that wait to plan, as an array does that starts at once, have not begun.
                others = {o: who for o, who in _at_work(work).items() if o != part}
                begun = {other: who for other, who in others.items() if who}
                for other, who in begun.items():
                    if other.of != part.of:
                        raise StageError(_in_use(work, f"part {other}, {who}"))
                _write_line(shared, _WRITTEN_BY_PARTS)
                _write_line(file, f"process {os.getpid()} on {socket.gethostname()}")
                if not begun:
                    when_first()
            try:
                yield
            finally:
                file.truncate(0)


@contextlib.contextmanager
def planning(work: Path) -> Iterator[None]:
    """Hold the lock under which parts plan, waiting for others that do."""
    with (work / "parts" / ".lock").open("a+", encoding="utf-8") as file:
        if not flocked(file, fcntl.LOCK_EX, wait_s=_WAIT_S):
            raise StageError(_in_use(work, f"another part that plans, {_line(file)}"))
        _write_line(file, f"process {os.getpid()} on {socket.gethostname()}")
        try:
            yield
        finally:
            file.truncate(0)


@contextlib.contextmanager
def locked_without_parts(work: Path) -> Iterator[None]:
    """Hold the one lock of `work`; StageError names the parts at work where they are why not."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(work))
        except StageError as error:
            parts = _at_work(work)
            if not parts:
                raise
            some = list(parts.items())[:5]
            named = ", ".join(f"part {part} ({who or _SOMEBODY})" for part, who in some)
            more = f" and {len(parts) - 5} more" if len(parts) > 5 else ""
            raise StageError(_in_use(work, f"{named}{more}")) from error
        yield


def _at_work(work: Path) -> dict[Part, str]:
    """The parts at work now, each with who it is; "" where it has not begun."""
    found = {}
    for path in sorted((work / "parts").glob("*_of_*.lock")):
        try:
            part = Part.parse(path.stem.replace("_of_", "/"))
        except ValueError:
            continue
        with path.open("a+", encoding="utf-8") as file:
            if not flocked(file, fcntl.LOCK_SH):
                file.seek(0)
                found[part] = file.read().strip()
    return found


def _line(file: Any) -> str:
    file.seek(0)
    return file.read().strip() or _SOMEBODY


def _write_line(file: Any, line: str) -> None:
    file.truncate(0)
    file.write(line + "\n")
    file.flush()


def _in_use(work: Path, who: str) -> str:
    return f"{work} is in use by {who}.\nWait until it has ended, or choose another --work."


# --- the round


def round_is_open(work: Path, part: Part, wish: Mapping[str, Any], *, write: bool) -> bool:
    """Whether an earlier part has planned for just this `wish`; the caller holds `planning`.

    If `write`, it is noted where there are now so many parts as `part` says. StageError where parts
    that aren't joined yet were started with other options.
    """
    opened = _read_round(work)
    if opened is None:
        return False
    differing = [name for name in wish if opened.wish.get(name) != wish[name]]
    if differing:
        words = ", ".join(
            f"{name} {shown(opened.wish.get(name))} (now {shown(wish[name])})" for name in differing
        )
        raise StageError(
            f"The parts of this run were started with {words}.\n"
            f"Start part {part} like those; or join them first, with --finish instead of --part; "
            f"or remove {work}/parts if no part is at work."
        )
    if write and opened.of != part.of:
        begin_round(work, part, wish)
    return True


def begin_round(work: Path, part: Part, wish: Mapping[str, Any]) -> None:
    """Note that the plan is made, and for what; the caller holds `planning`."""
    write_json(work / "parts" / "round.json", asdict(_Round(part.of, dict(wish))))


def end_round(work: Path) -> None:
    """Forget that there were parts, but for what each made; the caller holds the lock of `work`."""
    folder = work / "parts"
    for path in [folder / "round.json", folder / ".lock", *folder.glob("*_of_*.lock")]:
        path.unlink(missing_ok=True)
    for path in folder.glob("*_of_*/"):  # where a part that was killed spilled
        if re.fullmatch(r"[0-9]+_of_[0-9]+", path.name):
            shutil.rmtree(path, ignore_errors=True)


def staging_of_round(work: Path) -> str | None:
    """Where the parts that aren't joined yet stage, each in a folder of its own."""
    opened = _read_round(work)
    return None if opened is None else str(opened.wish.get("staging"))


def record_part(
    work: Path, part: Part, *, views: Sequence[str], made: Sequence[int], seconds: float
) -> None:
    """Leave what a part made beside its lock."""
    record = {
        "part": str(part),
        "views": list(views),
        "shards_made": sorted(made),
        "seconds": round(seconds, 3),
        "host": socket.gethostname(),
    }
    write_json(work / "parts" / f"{part.name}.json", record)


def unfinished(work: Path, views: Sequence[str], missing: Sequence[int]) -> StageError:
    """The error that shards of these views are `missing`, with the commands that make them."""
    opened = _read_round(work)
    command = f"k710 shard --views {','.join(views)} --work {work}"
    if opened is None:
        lines = [f"Make them: {command}"]
    else:
        parts = {shard % opened.of + 1 for shard in missing}
        lines = ["Run the parts again that lack some, with the options they had:"]
        lines += [f"    {command} --part {Part(n, opened.of)}" for n in sorted(parts)[:20]]
        lines += [f"    and {len(parts) - 20} more"] if len(parts) > 20 else []
    named = ", ".join(f"{shard:06d}" for shard in list(missing)[:5])
    more = ", ..." if len(missing) > 5 else ""
    are = "shards are" if len(missing) > 1 else "shard is"
    text = f"{len(missing):,} {are} not whole in {work}/shards: {named}{more}."
    return StageError("\n".join([text, *lines]))


@dataclass(frozen=True, slots=True)
class _Round:
    """What round.json says."""

    of: Annotated[int, msgspec.Meta(ge=1, le=9999)]  # parts
    wish: dict[str, Any]  # what the plan was made for


def _read_round(work: Path) -> _Round | None:
    path = work / "parts" / "round.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Round)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise StageError(
            f"{path} is not what k710 writes there ({printable(str(error))}).\n"
            f"Remove it if no part is at work: they plan as they did."
        ) from error
