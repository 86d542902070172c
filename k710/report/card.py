"""A dataset card for the Hugging Face hub: what the tables hold, and how they are made again.

Its words are in card_template.md, its values come from the tables and their sidecars alone, never
from the time, the machine or its paths: the same tables give the same bytes.

Not covered: shards. The videos are not ours to pass on, so no config names them.
"""

import hashlib
import json
import os
import re
import shlex
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from k710.errors import StageError, printable
from k710.files import replacing, word_os_errors
from k710.labels.orders import class_names, labels_sha256
from k710.manifest.read import open_tables
from k710.report.status import read_status
from k710.shards.plan import Planned, read_planned, seconds_per_shard
from k710.sources.outcomes import done_shards
from k710.tables.connection import connect_to_read, run
from k710.tables.reading import open_table
from k710.tables.schemas import DROPPED, MANIFEST, PLAN, SOURCES, TABLES, Table
from k710.tables.sidecar import Sidecar, read_sidecar
from k710.video.encode import Encoding, bytes_per_second

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["PUBLISHED", "Card", "card_text", "size_category", "write_card"]

PUBLISHED = ("manifest", "annotations", "dropped", "leakage", "index")
"""The tables that may lie beside the card on the hub. The others tell of paths on this machine."""
_MARK = re.compile(r"^<!-- k710 card (\w+): .* -->\n", re.M)
_ENDS_CODE = re.compile(r"[`|<>]")  # what would end a code span or a cell
_MARKUP = re.compile(r"([\\`*_{}\[\]<>|#~&$])")  # what Markdown would read as more than text
_DROPPED = """
select split, reason, count(*) from dropped group by split, reason order by split desc, reason
"""
_PLACES = """
select list(distinct shard), count(*) > count(distinct clip_id) from plan
"""


@dataclass(frozen=True, slots=True)
class Card:
    """A card that was written."""

    path: str
    tables: tuple[str, ...]  # files that belong beside it


def write_card(
    work: str | os.PathLike[str] = "work",
    *,
    output: str | os.PathLike[str] | None = None,
    repo_id: str | None = None,
    force: bool = False,
) -> Card:
    """Write the card of a work directory to its README.md, or to `output`; returns where it lies.

    `repo_id`, like ORG/NAME, is where the tables will be on the hub. StageError where the manifest
    isn't built, or a file is in the way that k710 did not write or that was changed since, which
    `force` replaces.
    """
    text, tables = card_text(work, repo_id=repo_id)
    path = Path(output) if output is not None else Path(work) / "README.md"
    with word_os_errors(path):
        if path.is_dir():
            raise StageError(f"{path} is a folder.\nName a file with --output.")
        if not force and path.exists():
            _refuse_to_replace(path)
        with replacing(path) as partial:
            partial.write_text(text, encoding="utf-8")
    return Card(str(path), tables)


def card_text(
    work: str | os.PathLike[str] = "work", *, repo_id: str | None = None
) -> tuple[str, tuple[str, ...]]:
    """The text of the card, and the names of the files that belong beside it. It writes nothing.

    ValueError where `repo_id` is none; StageError where the manifest isn't built.
    """
    _refuse_bad_name(repo_id)
    work = Path(work)
    with word_os_errors(work), connect_to_read() as con:
        open_tables(con, work, MANIFEST, DROPPED)
        dropped = run(con, _DROPPED)
    shards, plan = done_shards(work), read_sidecar(PLAN.path(work))
    tables = {name: _check_table(work, TABLES[name]) for name in PUBLISHED}
    manifest, annotations, leakage, index = (
        tables[name] for name in ("manifest", "annotations", "leakage", "index")
    )
    assert manifest is not None and annotations is not None  # they were opened
    is_of_other_manifest = any(
        sidecar.inputs.get("manifest") != manifest.sha256
        for sidecar in (*shards.values(), *([plan] if plan is not None else []))
    )
    if leakage and leakage.inputs.get("annotations") != annotations.sha256:
        tables["leakage"] = None  # of a build that was stopped half-way
    if index and (is_of_other_manifest or index.notes.get("shards") != sorted(shards)):
        tables["index"] = None  # of another manifest, or of before the last shards
    published = {name: sidecar for name, sidecar in tables.items() if sidecar is not None}
    status, planned = read_status(work=work), read_planned(work)
    body = _template().render(
        repo_id=repo_id or "ORG/NAME",
        size=size_category(status.clips),
        status=status,
        tables=published,
        dropped=dropped,
        is_indexed=SOURCES.path(work).is_file(),
        labels_sha256=labels_sha256(),
        class_names=class_names(),
        shards=list(shards.values()),
        made_with=_encodings(shards),
        is_of_other_manifest=is_of_other_manifest,
        planned=planned if shards and not is_of_other_manifest else None,
        shard_size=_shard_size,
        doubts=_why_other_shards(work, shards, planned) if "index" in published else [],
    )
    mark = f"<!-- k710 card {_hash(body)}: another run replaces this file if it is as written -->\n"
    return body + mark, tuple(f"{name}.parquet" for name in published)


@cache
def _template() -> "Template":
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
        # No value breaks its line, whatever table it comes from.
        finalize=lambda value: printable(value) if isinstance(value, str) else value,
    )
    environment.filters |= {
        "counted": lambda num, noun: f"{num:,} {noun}{'' if num == 1 else 's'}",
        "escaped": lambda text: _MARKUP.sub(r"\\\1", printable(text)),
        "inert": lambda text: _ENDS_CODE.sub(_as_number, printable(str(text))),
        "literal": json.dumps,
        "percent": "{:.2%}".format,
        "quoted": lambda text: shlex.quote(printable(str(text))),
        "thousands": "{:,}".format,
    }
    text = resources.files("k710.report").joinpath("card_template.md").read_text(encoding="utf-8")
    return environment.from_string(text)


def _as_number(match: re.Match[str]) -> str:
    return f"\\x{ord(match[0]):02x}"


def _refuse_to_replace(path: Path) -> None:
    text = path.read_bytes().decode("utf-8", errors="replace")
    mark = _MARK.search(text)
    if mark is None:
        what = "was not written by k710"
    elif _hash(_MARK.sub("", text)) != mark[1]:
        what = "was changed since k710 wrote it"
    else:
        return
    raise StageError(
        f"{path} {what}: it is left as it is.\n"
        "Replace it with --force, or choose another file with --output."
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _refuse_bad_name(repo_id: str | None) -> None:
    """ValueError where the hub, by its own rules, would refuse a repository of that name."""
    if repo_id is None:
        return
    part = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
    if (
        not re.fullmatch(f"{part}/{part}", repo_id)
        or re.search(r"--|\.\.", repo_id)
        or repo_id.endswith(".git")
    ):
        raise ValueError(
            f"{repo_id!r} is no name of a repository on the hub: write it like ORG/NAME, with "
            "letters, digits, - _ and ."
        )


def _check_table(work: Path, table: Table) -> Sidecar | None:
    """The sidecar of a table that is there; StageError where it tells of other bytes."""
    path = table.path(work)
    if read_sidecar(path) is None or not path.is_file():
        return None
    with connect_to_read() as con:
        return open_table(con, work, table)


def size_category(num: int) -> str:
    """The hub's name for a data set of so many examples: `100K<n<1M`."""
    names = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")
    for place, name in enumerate(names):
        if num < 1000 * 10**place:
            return f"{names[place - 1]}<n<{name}" if place else f"n<{name}"
    return f"n>{names[-1]}"


# --- shards


def _encodings(shards: dict[int, Sidecar]) -> list[Any]:
    """Each pair of settings and versions that shards were encoded with, in a fixed order."""
    pairs = {
        json.dumps([shard.params["encoding"], shard.params["versions"]], sort_keys=True)
        for shard in shards.values()
    }
    return [json.loads(pair) for pair in sorted(pairs)]


def _shard_size(seconds: int, encoding: Encoding) -> str:
    """A size for `--shard-size` that makes shards of just so many seconds, in megabytes if any."""
    num_bytes = round(seconds * bytes_per_second(encoding))
    megabytes = round(num_bytes / 1e6)
    if megabytes and seconds_per_shard(megabytes * 1_000_000, encoding) == seconds:
        return f"{megabytes}MB"
    return str(num_bytes)


def _why_other_shards(work: Path, shards: dict[int, Sidecar], planned: Planned | None) -> list[str]:
    """Why the same commands may lay the same videos into other shards; [] where they don't."""
    path = PLAN.path(work)
    if planned is None or not path.is_file():
        return ["the plan is not there"]
    with connect_to_read() as con:
        open_table(con, work, PLAN)
        ((places, is_twice),) = run(con, _PLACES)
    reasons = {
        "some were planned for only what had a copy then (`--found-only`)": (
            planned.is_found_only()
        ),
        "some have clips that failed before, and got another place (another copy, or `--retry`)": (
            is_twice
        ),
        "some that were planned are not made": set(places or ()) != set(shards),
        "not all were made by the same versions": len(
            {json.dumps(shard.params["versions"], sort_keys=True) for shard in shards.values()}
        )
        > 1,
    }
    return [reason for reason, is_so in reasons.items() if is_so]
