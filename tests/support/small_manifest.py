"""A manifest, copies of its clips, and what sources.parquet says: for tests of the index."""

import atexit
import io
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from k710.manifest.build import build_manifest
from k710.sources.seen import see
from k710.sources.table import refresh_sources, source_tables, write_sources
from k710.tables.connection import connect
from k710.tables.schemas import OUTCOMES, TABLES, TRIES
from k710.tables.sidecar import TableSpec, write_table
from support.list_files import Row, vid, write_lists

_BUILT = Path(tempfile.mkdtemp())
atexit.register(shutil.rmtree, _BUILT, ignore_errors=True)
ARROW = {
    "VARCHAR": pa.string(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "UBIGINT": pa.uint64(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
}


def clip(name: str, start: int = 0, end: int | None = None) -> str:
    """The clip_id of the video `name`; 10 s unless `end` is given."""
    return f"{vid(name)}_{start:06d}_{start + 10 if end is None else end:06d}"


def manifest_of(folder: Path, *rows: Row, **lists: Sequence[Row]) -> Path:
    """A work directory with a manifest of k400/train `rows` and of `lists`, named k600_val."""
    named = {name.replace("_", "/"): tuple(of_list) for name, of_list in lists.items()}
    if rows:
        named["k400/train"] = rows
    shutil.copytree(_built(tuple(named.items())), folder / "work", dirs_exist_ok=True)
    return folder / "work"


@cache  # building takes longer than most of the tests
def _built(lists: tuple[tuple[str, tuple[Row, ...]], ...]) -> Path:
    folder = _BUILT / str(len(list(_BUILT.iterdir())))
    write_lists(folder / "annotations", dict(lists))
    build_manifest(folder / "annotations", work=folder / "work", threads=1)
    return folder / "work"


def put(folder: Path, files: Mapping[str, int]) -> Path:
    """Write files below `folder`, which is made: name -> size in bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, size in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))
    return folder


def pack(path: Path, files: Mapping[str, int]) -> Path:
    """A tar (packed if called .gz) with these members: name -> size in bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as tar:
        for name, size in files.items():
            member = tarfile.TarInfo(name)
            member.size = size
            tar.addfile(member, io.BytesIO(bytes(size)))
    return path


def sources(work: Path) -> dict[str, dict[str, Any]]:
    """sources.parquet: clip_id -> its row."""
    with duckdb.connect() as con:
        rows = con.read_parquet(str(work / "sources.parquet"))
        names = list(rows.columns)
        found = [dict(zip(names, row, strict=True)) for row in rows.fetchall()]
    assert [row["clip_id"] for row in found] == sorted({row["clip_id"] for row in found})
    return {row.pop("clip_id"): row for row in found}


def paths(work: Path, root: Path) -> dict[str, str | None]:
    """clip_id -> its copy, below `root`; a member after a colon."""
    found = {}
    for clip_id, row in sources(work).items():
        uri = None if row["uri"] is None else str(Path(row["uri"]).relative_to(root))
        found[clip_id] = uri if row["member"] is None else f"{uri}:{row['member']}"
    return found


@contextmanager
def open_work(work: Path) -> Iterator[Any]:
    with connect(work, memory_limit="1GB", threads=1) as con:
        yield con


def refresh(work: Path) -> None:
    with open_work(work) as con:
        refresh_sources(con, work)


def copies(work: Path) -> list[dict[str, Any]]:
    """copies.parquet: its rows, in order."""
    with duckdb.connect() as con:
        rows = con.read_parquet(str(work / "copies.parquet"))
        names = list(rows.columns)
        return [dict(zip(names, row, strict=True)) for row in rows.fetchall()]


def rivals_in(work: Path) -> dict[str, int]:
    """The clips whose copy could be several windows if it turns out trimmed: of how many."""
    return {
        row["clip_id"]: row["could_be"]
        for row in copies(work)
        if row["place"] == 1 and row["could_be"] and row["trimmed"] is None
    }


def record(work: Path, *clip_ids: str, **columns: Any) -> None:
    """Change columns of sources.parquet as a probe, or a download, would."""
    rows = sources(work)
    changed = [{"clip_id": clip_id, **rows[clip_id], **columns} for clip_id in clip_ids]
    with open_work(work) as con, source_tables(con, work) as inputs:
        con.register("changed", table("sources", changed))
        con.execute("insert into probed by name select * from changed").fetchall()
        known = con.execute(
            "select distinct uri, member, bytes, mtime_ns, inode "
            "from former where uri is not null union "
            "select uri, member, bytes, mtime_ns, inode from probed where uri is not null"
        ).fetchall()
        con.execute("delete from former where clip_id in (select clip_id from probed)").fetchall()
        # What has no copy is no probe's, but stands in the table as a download wrote it.
        con.execute("insert into former select * from probed where uri is null").fetchall()
        see(con, [(*row, None, 3) for row in known])
        write_sources(con, work, inputs)


def forget(work: Path) -> None:
    """Remove what an index wrote."""
    for path in work.glob("[sc]o*.parquet*"):  # sources and copies
        path.unlink()


def outcome(work: Path, shard: int, *rows: Mapping[str, Any]) -> None:
    """Write a shard's outcomes and tries; what a row does not say is as sources.parquet has it.

    The stamp of what was tried is none, if a row says none: it may be of any file there.
    """
    known = sources(work)
    filled = [
        {"shard": shard, "position": position, **known[row["clip_id"]], "tool": "shard av 1", **row}
        for position, row in enumerate(rows)
    ]
    tried = [{"turn": 0, **row} for row in filled if row["uri"]]
    made_with = {"encoding": {}, "versions": {}}
    notes = {"tar_bytes": 1, "tar_sha256": "0" * 64, "num_stored": 1}
    for of, values in ((TRIES, tried), (OUTCOMES, filled)):
        (work / of.name).mkdir(exist_ok=True)
        with open_work(work) as con:
            con.register("rows", table(of.name, values))
            write_table(
                con, work, TableSpec(of, made_with, {}, notes=notes, file=f"{of.name}/{shard:06d}")
            )


def table(name: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    schema = pa.schema([(column, ARROW[kind]) for column, kind in TABLES[name].columns.items()])
    return pa.Table.from_pylist(
        [{name: row.get(name) for name in schema.names} for row in rows], schema=schema
    )
