"""Tables on disk: one .sql file makes one Parquet file, and a sidecar says of what.

`<table>.parquet` is zstd, totally ordered: the same inputs give the same bytes.
`<table>.parquet.json`, its sidecar, gets its name last; a table whose sidecar is missing or tells
of other bytes does not count. Until then it is `<table>.parquet.json.next`, and counts if the bytes
of the table are those that it tells of.
"""

import contextlib
import datetime
import functools
import glob
import hashlib
import json
import logging
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import duckdb

from k710.errors import SchemaError, StageError
from k710.files import disk_full, num_bytes_of, replacing, sha256_of, write_json
from k710.machine import usable_cores

__all__ = [
    "SCHEMAS",
    "Sidecar",
    "TableSpec",
    "built_by",
    "connect",
    "disown",
    "is_done",
    "open_table",
    "parquet_pattern",
    "read_sidecar",
    "read_sql",
    "settle",
    "table_path",
    "write_table",
]

log = logging.getLogger(__name__)
MAX_THREADS = 256

_ANNOTATION = {
    "dataset": "VARCHAR",
    "split": "VARCHAR",
    "youtube_id": "VARCHAR",
    "time_start": "INTEGER",
    "time_end": "INTEGER",
    "label_raw": "VARCHAR",
    "label": "SMALLINT",
    "source_file": "VARCHAR",
    "source_line": "INTEGER",
}
_SOURCE = {
    "clip_id": "VARCHAR",
    "status": "VARCHAR",
    "detail": "VARCHAR",
    "uri": "VARCHAR",
    "member": "VARCHAR",
    "trimmed": "BOOLEAN",
    "starts_at_s": "DOUBLE",
    "bytes": "BIGINT",
    "sha256": "VARCHAR",
    "width": "INTEGER",
    "height": "INTEGER",
    "fps": "DOUBLE",
    "num_frames": "INTEGER",
    "duration_s": "DOUBLE",
    "codec": "VARCHAR",
    "tool": "VARCHAR",
}
SCHEMAS: Mapping[str, Mapping[str, str]] = {
    "annotations": _ANNOTATION,
    "manifest": {
        "view": "VARCHAR",
        "clip_id": "VARCHAR",
        "youtube_id": "VARCHAR",
        "time_start": "INTEGER",
        "time_end": "INTEGER",
        "label": "SMALLINT",
        "label_name": "VARCHAR",
        "dataset": "VARCHAR",
        "found_in": "VARCHAR[]",
    },
    "dropped": {
        **_ANNOTATION,
        "reason": "VARCHAR",
        "kept_clip_id": "VARCHAR",
        "held_out_by": "VARCHAR[]",
    },
    "leakage": {
        "a": "VARCHAR",
        "b": "VARCHAR",
        "ids": "BIGINT",
        "clips": "BIGINT",
        "same_label": "BIGINT",
        "other_label": "BIGINT",
    },
    "sources": _SOURCE,
    "plan": {"clip_id": "VARCHAR", "shard": "INTEGER", "position": "INTEGER"},
    "outcomes": {"shard": "INTEGER", "position": "INTEGER", "stored": "BOOLEAN", **_SOURCE},
    "index": {
        "clip_id": "VARCHAR",
        "shard": "INTEGER",
        "offset": "BIGINT",
        "bytes": "BIGINT",
        "sha256": "VARCHAR",
        "num_frames": "INTEGER",
        "fps": "DOUBLE",
        "width": "INTEGER",
        "height": "INTEGER",
        "gop": "INTEGER",
        "duration_s": "DOUBLE",
    },
    "predictions": {
        "view": "VARCHAR",
        "clip_id": "VARCHAR",
        "label": "SMALLINT",
        "top5": "SMALLINT[]",
        "score5": "FLOAT[]",
        "views": "SMALLINT",
    },
}
"""The columns of every table, in order, with DuckDB's types."""
_BUILT_BY = {
    "sources": "k710 index --videos DIR",
    "plan": "k710 shard --views VIEWS",
    "outcomes": "k710 shard --views VIEWS",
    "index": "k710 shard --views VIEWS",
    "predictions": "k710 evaluate CKPT --view VIEW",
}


@dataclass(frozen=True, slots=True)
class TableSpec:
    """What a table is made of. Equal fingerprints mean equal rows, whichever machine made them."""

    table: str
    params: dict[str, Any]  # what the user chose
    inputs: dict[str, str]  # name -> SHA-256
    uses: tuple[str, ...] = ()  # .sql files whose results the table's own .sql reads
    notes: dict[str, Any] = field(default_factory=dict)  # for the sidecar only
    file: str | None = None  # its path below the work directory, without .parquet; None: `table`

    def path(self, work: Path) -> Path:
        """Where the table lies in a work directory."""
        return table_path(work, self.file or self.table)

    def sql(self) -> str:
        """The text of the table's own .sql file."""
        return read_sql(self.table)

    def sql_sha256(self) -> str:
        """A hash of every .sql file that is used."""
        text = "\0".join(read_sql(name) for name in ("macros", *self.uses, self.table))
        return hashlib.sha256(text.encode()).hexdigest()

    def fingerprint(self) -> str:
        """A hash of all that decides the table's rows."""
        made_of = [_version(), self.table, self.sql_sha256(), self.params, self.inputs]
        return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What `<table>.parquet.json` says of its table."""

    fingerprint: str
    sha256: str
    rows: int
    schema: dict[str, str]
    params: dict[str, Any]
    inputs: dict[str, str]
    sql_sha256: str
    notes: dict[str, Any]  # what else the stage found out, fit for JSON
    versions: dict[str, str]
    created_at: str


def table_path(work: Path, table: str) -> Path:
    """Where `table` lies in a work directory."""
    return work / f"{table}.parquet"


def built_by(table: str) -> str:
    """The command that makes `table`."""
    return _BUILT_BY.get(table, "k710 build-manifest --annotations DIR")


def read_sql(name: str) -> str:
    """The text of <name>.sql, in whichever room it lies."""
    for package in ("k710", "uniformerv2"):
        for room in resources.files(package).iterdir():
            path = room.joinpath(f"{name}.sql")
            if path.is_file():
                return path.read_text(encoding="utf-8")
    raise FileNotFoundError(f"{name}.sql")


def read_sidecar(path: Path) -> Sidecar | None:
    """The sidecar of the table at `path`; None where there is none that this version can read."""
    coming, settled = _coming_sidecar_path(path), _sidecar_path(path)
    while coming.exists():
        # A process was killed, or is at work, between table and sidecar: the bytes tell whose they
        # are. If that was while they were read, they are read again.
        before = [_stamp(one) for one in (path, coming, settled)]
        sha256 = sha256_of(path) if before[0] else ""
        found = [s for s in (_parsed(coming), _parsed(settled)) if s and s.sha256 == sha256]
        if [_stamp(one) for one in (path, coming, settled)] == before:
            return found[0] if found else None
    return _parsed(settled)


def settle(work: Path) -> None:
    """Bring to its end what a killed process began: each table has its one sidecar, or none.

    The caller holds the lock of `work`.
    """
    ending = ".parquet.json.next"
    for folder in (work, work / "shards", work / "outcomes"):
        for coming in sorted(folder.glob(f"*{ending}")):
            path = coming.with_name(coming.name.removesuffix(".json.next"))
            if read_sidecar(path) == _parsed(coming):
                coming.replace(_sidecar_path(path))
            else:
                coming.unlink()


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        seen = path.stat()
    except OSError:
        return None
    return seen.st_ino, seen.st_size, seen.st_mtime_ns


def disown(path: Path) -> None:
    """Make the table at `path` count as not built: its sidecars go."""
    for sidecar in (_coming_sidecar_path(path), _sidecar_path(path)):
        sidecar.unlink(missing_ok=True)


def _parsed(path: Path) -> Sidecar | None:
    try:
        sidecar = Sidecar(**json.loads(path.read_text(encoding="utf-8")))
        dicts = (sidecar.schema, sidecar.params, sidecar.inputs, sidecar.notes)
        return sidecar if all(isinstance(value, dict) for value in dicts) else None
    except (OSError, ValueError, TypeError):
        return None


def is_done(work: Path, spec: TableSpec) -> bool:
    """Whether the table of `spec` lies in `work`, made from just this, its bytes untouched."""
    path = spec.path(work)
    sidecar = read_sidecar(path)
    if sidecar is None or sidecar.fingerprint != spec.fingerprint() or not path.is_file():
        return False
    return sha256_of(path) == sidecar.sha256


@contextlib.contextmanager
def connect(work: Path, *, memory_limit: str, threads: int | None = None) -> Iterator[Any]:
    """A DuckDB connection that spills into `work` and keeps the whole process near `memory_limit`.

    Inside the block a full disk, or a limit that is too small, becomes a StageError, and Ctrl-C a
    KeyboardInterrupt wherever it comes. ValueError where `threads` is out of range.
    """
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        raise ValueError(f"threads must be from 1 to {MAX_THREADS}, and is {threads}")
    spill = Path(os.path.abspath(work)) / ".spill"  # DuckDB would expand a ~
    shutil.rmtree(spill, ignore_errors=True)  # of a process that was killed
    settings: dict[str, Any] = {
        # The rest is for Python, Arrow's read-ahead and what DuckDB does not count.
        "memory_limit": f"{int(_bytes(memory_limit) * 0.6)}B",
        "temp_directory": str(spill),
        "autoinstall_known_extensions": False,
    }
    # Memory grows with threads: full-size lists peak at 0.88, 0.96 and 1.02 GB with 2, 4 and 8.
    settings["threads"] = threads or min(4, usable_cores())
    try:
        with duckdb.connect(config=settings) as con:
            con.execute(read_sql("macros")).fetchall()
            yield con
    except (duckdb.Error, RuntimeError) as error:
        # Ctrl-C inside a query comes out as whatever was under way. (A path may say "interrupted".)
        if re.search("KeyboardInterrupt|Query interrupted|INTERRUPT Error", str(error)):
            raise KeyboardInterrupt from error
        worded = _worded(error, work, memory_limit)
        if worded is None:
            raise
        raise worded from error
    finally:
        shutil.rmtree(spill, ignore_errors=True)


def _worded(error: Exception, work: Path, memory_limit: str) -> StageError | None:
    """What to tell the user of an error of DuckDB; None where it is a bug of ours."""
    what = _first_line(error)
    if isinstance(error, duckdb.OutOfMemoryException):
        if "max_temp_directory_size" in str(error):
            return disk_full(work, "spill space")
        return StageError(
            f"--memory-limit {memory_limit} is too small for these lists ({what}).\n"
            "Give more, or fewer --threads: each thread needs some for itself."
        )
    if isinstance(error, duckdb.IOException | duckdb.FatalException):
        if re.search(r"no space|disk quota|file too large|could not write", what, re.IGNORECASE):
            return disk_full(work, what)
        return StageError(f"{what}.\nMend that, or choose another --work than {work}.")
    return None


def write_table(
    con: Any,
    work: Path,
    spec: TableSpec,
    *,
    values: Mapping[str, Any] | None = None,
    notes: Callable[[], Mapping[str, Any]] = dict,
) -> Path:
    """Run the table's SQL on `con`, its inputs being tables there, and put it in `work`.

    `values` are the SQL's $parameters. `notes` is called when the rows are written but the old
    table still stands: what it raises leaves that alone, what it returns goes into the sidecar.
    Table and sidecar are replaced one after the other, each whole. The new sidecar lies beside them
    meanwhile, so that a kill at any line leaves the old table or the new one, with its sidecar.
    """
    out = spec.path(work)
    with replacing(out) as partial:
        # DuckDB marks a column as required where it happens to know that it has no null: what it
        # knows depends on what was there before, and the same rows must give the same bytes.
        con.execute("set disabled_optimizers = 'statistics_propagation'").fetchall()
        con.execute(
            # Level 1 writes a tenth faster than the default, and no larger.
            f"copy (\n{spec.sql()}\n) to $out "
            "(format parquet, compression zstd, compression_level 1)",
            {**(values or {}), "out": os.path.abspath(partial)},
        ).fetchall()
        con.execute("reset disabled_optimizers").fetchall()
        schema = _schema_of(con, partial)
        if schema != SCHEMAS[spec.table]:
            raise AssertionError(f"{spec.table}.sql makes {schema}")
        rows = con.execute(
            "select num_rows from parquet_file_metadata($path)", {"path": parquet_pattern(partial)}
        ).fetchall()[0][0]
        sidecar = Sidecar(
            fingerprint=spec.fingerprint(),
            sha256=sha256_of(partial),
            rows=rows,
            schema=schema,
            params=spec.params,
            inputs=spec.inputs,
            sql_sha256=spec.sql_sha256(),
            notes={**spec.notes, **notes()},
            versions={
                "k710": _version(),
                "duckdb": duckdb.__version__,
                "python": platform.python_version(),
            },
            created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )
        write_json(_coming_sidecar_path(out), asdict(sidecar))
    _coming_sidecar_path(out).replace(_sidecar_path(out))
    log.info("wrote %s: %d rows", out, rows)
    return out


def open_table(con: Any, work: Path, table: str) -> Sidecar:
    """Make the table of `work` a view of its own name on `con`; returns its sidecar.

    StageError where it isn't built, SchemaError where another version built it.
    """
    path = table_path(work, table)
    sidecar = read_sidecar(path)
    if sidecar is None or not path.is_file():
        raise StageError(f"There is no finished {path}.\nBuild it: {built_by(table)} --work {work}")
    try:
        _refuse_other_schema(path, table, _schema_of(con, path))
    except duckdb.Error as error:
        raise StageError(
            f"{path} can't be read ({_first_line(error)}).\n"
            f"Remove it, and build it again: {built_by(table)} --work {work}"
        ) from error
    con.read_parquet(parquet_pattern(path), file_row_number=True).create_view(table, replace=True)
    return sidecar


def _schema_of(con: Any, path: Path) -> dict[str, str]:
    relation = con.read_parquet(parquet_pattern(path))
    return dict(zip(relation.columns, map(str, relation.types), strict=True))


def _refuse_other_schema(path: Path, table: str, found: dict[str, str]) -> None:
    for column, kind in SCHEMAS[table].items():
        if found.get(column) != kind:
            has = found.get(column, "missing")
            raise SchemaError(
                f"{path}: column {column} should be {kind} and is {has}.\n"
                "Another version wrote this table. "
                f"Build it again: {built_by(table)}"
            )


def parquet_pattern(path: Path) -> str:
    """What DuckDB's readers take for just this file."""
    return glob.escape(os.path.abspath(path))


def _sidecar_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _coming_sidecar_path(path: Path) -> Path:
    return path.with_name(path.name + ".json.next")


def _bytes(size: str) -> int:
    try:
        return num_bytes_of(size)
    except ValueError as error:
        raise StageError(f"--memory-limit {error}") from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


@functools.cache
def _version() -> str:
    return metadata.version("k710")
