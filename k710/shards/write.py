"""One shard on disk: its tar, its part of the index, and how each of its clips fared.

    shards/000000.tar           <clip_id>.mp4 and <clip_id>.json of each clip that is kept
    shards/000000.parquet       its rows of index.parquet
    tries/000000.parquet        one row per copy that was tried for a place
    outcomes/000000.parquet     one row per place, kept or not

The sidecar of the last is written last: with it the shard is done. A shard of which no clip is kept
has no tar, since readers take an empty one for damaged.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from k710.files import replacing
from k710.labels.orders import class_names, labels_sha256
from k710.shards.clip import Outcome
from k710.shards.encode_clip import ClipSettings
from k710.shards.staging import read_all
from k710.sources.outcomes import shard_name, tar_path
from k710.tables.clip_ids import require_clip_id
from k710.tables.connection import run
from k710.tables.schemas import INDEX, OUTCOMES, TRIES, Table, read_sql
from k710.tables.sidecar import TableSpec, write_table

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["ChangedBytes", "add_member", "sample_texts", "write_shard"]

_ARROW = {
    "VARCHAR": pa.string(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "UBIGINT": pa.uint64(),
}


class ChangedBytes(Exception):
    """The bytes of a clip are not those that were seen before, or gone; `position` says whose."""

    def __init__(self, position: int, *, are_gone: bool) -> None:
        super().__init__(position)
        self.position = position
        self.are_gone = are_gone


def write_shard(
    con: duckdb.DuckDBPyConnection,
    work: Path,
    shard: int,
    outcomes: Sequence[Outcome],
    *,
    settings: ClipSettings,
    manifest_sha256: str,
) -> None:
    """Write the files of a shard from what is staged.

    `outcomes` are all of its places, in their order. `manifest` must be a table on `con`.
    ChangedBytes where a clip's bytes are other than its outcome says: nothing is written then.
    """
    stored = [outcome for outcome in outcomes if outcome.stored is not None]
    for folder in ("shards", "tries", "outcomes"):
        (work / folder).mkdir(exist_ok=True)
    tar = tar_path(work, shard)
    offsets: list[int] = []
    tar_bytes, tar_sha256 = None, None
    if stored:
        with replacing(tar) as partial, _HashedFile(partial) as file:
            offsets = _write_tar(con, file, stored)
            tar_bytes, tar_sha256 = file.tell(), file.digest.hexdigest()
    else:
        tar.unlink(missing_ok=True)  # of a run that was killed, when there was something to store
    inputs = {"manifest": manifest_sha256, "labels": labels_sha256()}
    if tar_sha256 is not None:
        inputs["tar"] = tar_sha256
    made_with = {"encoding": settings.encoding.params(), "versions": dict(settings.versions)}
    name = shard_name(shard)
    placed = zip(stored, offsets, strict=True)
    _register(con, INDEX, [_index_row(outcome, offset) for outcome, offset in placed])
    write_table(con, work, TableSpec(INDEX, made_with, inputs, file=f"shards/{name}"))
    _register(con, TRIES, [row for outcome in outcomes for row in _try_rows(outcome)])
    write_table(con, work, TableSpec(TRIES, made_with, inputs, file=f"tries/{name}"))
    _register(con, OUTCOMES, [_outcome_row(outcome) for outcome in outcomes])
    notes = {"tar_bytes": tar_bytes, "tar_sha256": tar_sha256, "num_stored": len(stored)}
    spec = TableSpec(OUTCOMES, made_with, inputs, notes=notes, file=f"outcomes/{name}")
    write_table(con, work, spec)
    con.unregister("rows")


class _HashedFile(io.BufferedWriter):
    """A new file that is hashed as it is written."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "w"))
        self.digest = hashlib.sha256()

    def write(self, data: "ReadableBuffer") -> int:
        self.digest.update(data)
        return super().write(data)


def _write_tar(
    con: duckdb.DuckDBPyConnection, file: _HashedFile, stored: Sequence[Outcome]
) -> list[int]:
    """Write the tar of these clips; returns where the bytes of each begin."""
    offsets = []
    texts = [text for _, text in sample_texts(con, [one.source.clip_id for one in stored])]
    data = read_all([outcome.data_at or "" for outcome in stored])
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar, closing(data):
        for outcome, text, video in zip(stored, texts, data, strict=True):
            clip_id = require_clip_id(outcome.source.clip_id)
            offsets.append(add_member(tar, f"{clip_id}.mp4", _check(outcome, video)))
            add_member(tar, f"{clip_id}.json", text)
    return offsets


def add_member(tar: tarfile.TarFile, name: str, data: bytes) -> int:
    """Append a file without time or owner to a USTAR archive; returns where its bytes begin."""
    header = tarfile.TarInfo(name)
    header.size = len(data)
    offset = tar.offset + tarfile.BLOCKSIZE
    tar.addfile(header, io.BytesIO(data))
    return offset


def _check(outcome: Outcome, data: bytes | None) -> bytes:
    assert outcome.stored is not None
    if data is None or hashlib.sha256(data).hexdigest() != outcome.stored.sha256:
        raise ChangedBytes(outcome.clip.position, are_gone=data is None)
    return data


def sample_texts(
    con: duckdb.DuckDBPyConnection, clip_ids: Sequence[str]
) -> Iterator[tuple[str, bytes]]:
    """Yield each clip_id that `manifest`, a table on `con`, has, and the JSON of its labels."""
    names = class_names()
    values = {"clip_ids": list(clip_ids)}
    for clip_id, label, views, labels in run(con, read_sql("k710/shards/samples.sql"), values):
        sample = {
            "clip_id": clip_id,
            "label": label,
            "label_name": None if label is None else names[label],
            "views": dict(zip(views, labels, strict=True)),
        }
        yield clip_id, json.dumps(sample, separators=(",", ":")).encode()


def _index_row(outcome: Outcome, offset: int) -> tuple[object, ...]:
    assert outcome.stored is not None
    return (outcome.source.clip_id, outcome.clip.shard, offset, *astuple(outcome.stored))


def _outcome_row(outcome: Outcome) -> tuple[object, ...]:
    clip = outcome.clip
    return (clip.shard, clip.position, outcome.stored is not None, *outcome.source.row())


def _try_rows(outcome: Outcome) -> Iterator[tuple[object, ...]]:
    clip = outcome.clip
    for turn, source in enumerate(outcome.tries):
        yield clip.shard, clip.position, turn, *source.stamped_row()


def _register(
    con: duckdb.DuckDBPyConnection, table: Table, rows: Sequence[tuple[object, ...]]
) -> None:
    """Make `rows` a table on `con`; each row has the values of the columns in their order."""
    schema = pa.schema([(name, _ARROW[kind]) for name, kind in table.columns.items()])
    columns = [[row[number] for row in rows] for number in range(len(schema))]
    con.register("rows", pa.table(columns, schema=schema))
