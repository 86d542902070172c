"""Tables on disk: one .sql file makes one Parquet file, and a sidecar says of what.

`<table>.parquet` is zstd, totally ordered: the same inputs give the same bytes.
`<table>.parquet.json`, its sidecar, gets its name last; a table whose sidecar is missing or tells
of other bytes does not count. Until then it is `<table>.parquet.json.next`, and counts if the bytes
of the table are those that it tells of.
"""

import datetime
import hashlib
import json
import logging
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import duckdb
import msgspec

import k710
from k710.errors import SchemaError, printable
from k710.files import replacing, sha256_of, write_json
from k710.tables.connection import parquet_pattern, run
from k710.tables.schemas import Table, read_sql, table_path

__all__ = [
    "Identity",
    "Sidecar",
    "TableSpec",
    "disown",
    "identity_of",
    "is_done",
    "read_sidecar",
    "require_shape",
    "settle",
    "write_table",
]

T = TypeVar("T")

log = logging.getLogger(__name__)

Identity: TypeAlias = tuple[int, int, int]
"""Inode, size and time of change of a file."""


@dataclass(frozen=True, slots=True)
class TableSpec:
    """What a table is made of. Equal fingerprints mean equal rows, whichever machine made them."""

    table: Table
    params: dict[str, Any]  # what the user chose
    inputs: dict[str, str]  # name -> SHA-256
    uses: tuple[str, ...] = ()  # .sql files whose results the table's own .sql reads: their paths
    notes: dict[str, Any] = field(default_factory=dict)  # for the sidecar only
    file: str | None = None  # its path below the work directory, without .parquet; None: `table`

    def path(self, work: Path) -> Path:
        """Where the table lies in a work directory."""
        return table_path(work, self.file or self.table.name)

    def sql(self) -> str:
        """The text of the table's own .sql file."""
        return read_sql(self.table.sql)

    def sql_sha256(self) -> str:
        """A hash of every .sql file that is used."""
        paths = ("k710/tables/macros.sql", *self.uses, self.table.sql)
        text = "\0".join(read_sql(path) for path in paths)
        return hashlib.sha256(text.encode()).hexdigest()

    def fingerprint(self) -> str:
        """A hash of all that decides the table's rows."""
        made_of = [k710.__version__, self.table.name, self.sql_sha256(), self.params, self.inputs]
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


def read_sidecar(path: Path) -> Sidecar | None:
    """The sidecar of the table at `path`; None where there is none that this version can read."""
    coming, settled = _coming_sidecar_path(path), _sidecar_path(path)
    while coming.exists():
        # A process was killed, or is at work, between table and sidecar: the bytes tell whose they
        # are. If that was while they were read, they are read again.
        before = [identity_of(one) for one in (path, coming, settled)]
        sha256 = sha256_of(path) if before[0] else ""
        found = [s for s in (_parsed(coming), _parsed(settled)) if s and s.sha256 == sha256]
        if [identity_of(one) for one in (path, coming, settled)] == before:
            return found[0] if found else None
    return _parsed(settled)


def require_shape(sidecar: Sidecar, path: Path, shape: type[T]) -> T:
    """Take what the sidecar of the table at `path` must say as `shape`, fields of a sidecar.

    SchemaError where it says something else, and where it is silent.
    """
    try:
        return msgspec.convert(asdict(sidecar), shape)
    except msgspec.ValidationError as error:
        raise SchemaError(
            f"{path}.json is not what this version writes ({printable(str(error))}).\n"
            "Remove it and its table, and build that again."
        ) from error


def settle(work: Path) -> None:
    """Bring to its end what a killed process began: each table has its one sidecar, or none.

    The caller holds the lock of `work`.
    """
    ending = ".parquet.json.next"
    for folder in (work, *(work / name for name in ("shards", "tries", "outcomes"))):
        for coming in sorted(folder.glob(f"*{ending}")):
            path = coming.with_name(coming.name.removesuffix(".json.next"))
            if read_sidecar(path) == _parsed(coming):
                coming.replace(_sidecar_path(path))
            else:
                coming.unlink()


def identity_of(file: Path | int) -> Identity | None:
    """Which file a path, or a descriptor, leads to now: what replaces it has another identity."""
    try:
        seen = os.stat(file)
    except OSError:
        return None
    return seen.st_ino, seen.st_size, seen.st_mtime_ns


def disown(path: Path) -> None:
    """Make the table at `path` count as not built: its sidecars go."""
    for sidecar in (_coming_sidecar_path(path), _sidecar_path(path)):
        sidecar.unlink(missing_ok=True)


def _parsed(path: Path) -> Sidecar | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Sidecar)
    except (OSError, ValueError):
        return None


def is_done(work: Path, spec: TableSpec) -> bool:
    """Whether the table of `spec` lies in `work`, made from just this, its bytes untouched."""
    path = spec.path(work)
    sidecar = read_sidecar(path)
    if sidecar is None or sidecar.fingerprint != spec.fingerprint() or not path.is_file():
        return False
    return sha256_of(path) == sidecar.sha256


def write_table(
    con: duckdb.DuckDBPyConnection,
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
        run(con, "set disabled_optimizers = 'statistics_propagation'")
        run(
            con,
            # Level 1 writes a tenth faster than the default, and no larger.
            f"copy (\n{spec.sql()}\n) to $out "
            "(format parquet, compression zstd, compression_level 1)",
            {**(values or {}), "out": os.path.abspath(partial)},
        )
        run(con, "reset disabled_optimizers")
        schema = _schema_of(con, partial)
        if schema != spec.table.columns:
            raise AssertionError(f"{spec.table.sql} makes {schema}")
        count = "select num_rows from parquet_file_metadata($path)"
        ((rows,),) = run(con, count, {"path": parquet_pattern(partial)})
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
                "k710": k710.__version__,
                "duckdb": duckdb.__version__,
                "python": platform.python_version(),
            },
            created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )
        write_json(_coming_sidecar_path(out), asdict(sidecar))
    _coming_sidecar_path(out).replace(_sidecar_path(out))
    log.info("wrote %s: %d rows", out, rows)
    return out


def _schema_of(con: duckdb.DuckDBPyConnection, path: Path) -> dict[str, str]:
    relation = con.read_parquet(parquet_pattern(path))
    return dict(zip(relation.columns, map(str, relation.types), strict=True))


def _sidecar_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _coming_sidecar_path(path: Path) -> Path:
    return path.with_name(path.name + ".json.next")
