"""Tables of rows that a test names, as the stages would have left them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from k710.files import write_json
from k710.tables.schemas import TABLES, table_path
from k710.tables.sidecar import Sidecar
from support.small_manifest import table


def put_table(
    work: Path,
    name: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    file: str | None = None,
    notes: Mapping[str, Any] | None = None,
    params: Mapping[str, Any] | None = None,
) -> None:
    """Write a table of these rows, and a sidecar that says it is done."""
    path = table_path(work, file or name)
    path.parent.mkdir(exist_ok=True)
    pq.write_table(table(name, rows), path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    sidecar = Sidecar(
        "",
        sha256,
        len(rows),
        dict(TABLES[name].columns),
        dict(params or {}),
        {},
        "",
        dict(notes or {}),
        {},
        "",
    )
    write_json(path.with_name(path.name + ".json"), asdict(sidecar))


def put_shard(work: Path, *outcomes: Mapping[str, Any], number: int = 0) -> None:
    """A shard that is done, of these outcomes."""
    stored = sum(outcome["stored"] for outcome in outcomes)
    file = f"{number:06d}"
    put_table(work, "index", [], file=f"shards/{file}")
    if stored:
        (work / "shards" / f"{file}.tar").write_bytes(bytes(100))
    notes = {"tar_bytes": 100 if stored else None, "tar_sha256": None, "num_stored": stored}
    params: Mapping[str, Any] = {"encoding": {}, "versions": {}}
    rows = [{"shard": number, "position": n, **one} for n, one in enumerate(outcomes)]
    put_table(work, "outcomes", rows, file=f"outcomes/{file}", notes=notes, params=params)


def rewrite_table(path: Path, sql: str) -> None:
    """Put the rows of a select from `whole`, the table as it is, in its place.

    Its sidecar tells of the new bytes, as that of a stranger's table would.
    """
    with duckdb.connect() as con:
        con.read_parquet(str(path)).create_view("whole")
        other = path.with_name("other.parquet")
        con.execute(f"copy ({sql}) to '{other}' (format parquet)")
        columns = con.read_parquet(str(other))
        schema = dict(zip(columns.columns, map(str, columns.types), strict=True))
    other.replace(path)
    own_bytes(path, schema=schema)


def own_bytes(path: Path, **changes: Any) -> None:
    """Make the sidecar of a table tell of its bytes as they are now, and say `changes` as well."""
    sidecar = path.with_name(path.name + ".json")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    said = {**json.loads(sidecar.read_text()), "sha256": sha256, **changes}
    sidecar.write_text(json.dumps(said))
