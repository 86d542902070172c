"""One shard on disk: its tar, its part of the index, and how each of its clips fared.

    shards/000000.tar           <clip_id>.mp4 and <clip_id>.json of each clip that is kept
    shards/000000.parquet       its rows of index.parquet
    outcomes/000000.parquet     one row per place, kept or not

The sidecar of the last is written last: with it the shard is done. A shard of which no clip is kept
has no tar, since readers take an empty one for damaged.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from k710.files import replacing
from k710.labels.orders import class_names, labels_sha256
from k710.shards.encode_clip import StoredClip
from k710.shards.staging import read_all
from k710.shards.tars import TarWriter
from k710.sources.outcomes import shard_name, tar_path
from k710.tables.connection import run
from k710.tables.schemas import INDEX, OUTCOMES, Table, read_sql
from k710.tables.sidecar import TableSpec, write_table
from k710.video.probe import Facts

__all__ = [
    "ChangedBytes",
    "Outcome",
    "write_shard",
]

_ARROW = {
    "VARCHAR": pa.string(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the clip of one place fared. Without `stored` the place stays empty."""

    position: int
    clip_id: str
    status: str
    detail: str | None
    uri: str | None
    member: str | None
    trimmed: bool | None
    starts_at_s: float | None
    num_bytes: int | None  # of the source
    sha256: str | None  # of the source
    facts: Facts  # of the source
    tool: str
    stored: StoredClip | None
    data_at: str | None  # the path or URL of the bytes until they are in the tar


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
    encoding: Mapping[str, Any],
    versions: Mapping[str, str],
    manifest_sha256: str,
) -> None:
    """Write the files of a shard from what is staged.

    `outcomes` are all of its places, in their order. `manifest` must be a table on `con`.
    ChangedBytes where a clip's bytes are other than its outcome says: nothing is written then.
    """
    stored = [outcome for outcome in outcomes if outcome.stored is not None]
    for folder in ("shards", "outcomes"):
        (work / folder).mkdir(exist_ok=True)
    tar = tar_path(work, shard)
    rows: list[dict[str, Any]] = []
    tar_bytes, tar_sha256 = None, None
    if stored:
        texts = _sample_texts(con, stored)
        data = read_all([outcome.data_at or "" for outcome in stored])
        with replacing(tar) as partial, partial.open("wb") as file:
            with TarWriter(file) as writer, closing(data):
                for outcome, text, video in zip(stored, texts, data, strict=True):
                    offset = writer.add(f"{outcome.clip_id}.mp4", _checked(outcome, video))
                    writer.add(f"{outcome.clip_id}.json", text)
                    rows.append(_index_row(shard, outcome, offset))
            tar_bytes, tar_sha256 = writer.num_bytes, writer.sha256
    else:
        tar.unlink(missing_ok=True)  # of a run that was killed, when there was something to store
    inputs = {"manifest": manifest_sha256, "labels": labels_sha256()}
    if tar_sha256 is not None:
        inputs["tar"] = tar_sha256
    made_with = {"encoding": dict(encoding), "versions": dict(versions)}
    name = shard_name(shard)
    _register(con, INDEX, rows)
    write_table(con, work, TableSpec(INDEX, made_with, inputs, file=f"shards/{name}"))
    _register(con, OUTCOMES, [_outcome_row(shard, outcome) for outcome in outcomes])
    notes = {"tar_bytes": tar_bytes, "tar_sha256": tar_sha256, "num_stored": len(stored)}
    spec = TableSpec(OUTCOMES, made_with, inputs, notes=notes, file=f"outcomes/{name}")
    write_table(con, work, spec)
    con.unregister("rows")


def _checked(outcome: Outcome, data: bytes | None) -> bytes:
    assert outcome.stored is not None
    if data is None or hashlib.sha256(data).hexdigest() != outcome.stored.sha256:
        raise ChangedBytes(outcome.position, are_gone=data is None)
    return data


def _sample_texts(con: duckdb.DuckDBPyConnection, stored: Sequence[Outcome]) -> Iterator[bytes]:
    """The JSON of each clip: its labels in the views of the manifest."""
    places = pa.table(
        {
            "clip_id": [outcome.clip_id for outcome in stored],
            "position": [outcome.position for outcome in stored],
        }
    )
    con.register("places", places)
    names = class_names()
    for clip_id, _, label, views, labels in run(con, read_sql("k710/shards/samples.sql")):
        sample = {
            "clip_id": clip_id,
            "label": label,
            "label_name": None if label is None else names[label],
            "views": dict(zip(views, labels, strict=True)),
        }
        yield json.dumps(sample, separators=(",", ":")).encode()
    con.unregister("places")


def _index_row(shard: int, outcome: Outcome, offset: int) -> dict[str, Any]:
    clip = outcome.stored
    assert clip is not None
    return {
        "clip_id": outcome.clip_id,
        "shard": shard,
        "offset": offset,
        "bytes": clip.num_bytes,
        "sha256": clip.sha256,
        "num_frames": clip.num_frames,
        "fps": clip.fps,
        "width": clip.width,
        "height": clip.height,
        "gop": clip.gop,
        "duration_s": clip.duration_s,
    }


def _outcome_row(shard: int, outcome: Outcome) -> dict[str, Any]:
    facts = dict(zip((f.name for f in fields(Facts)), astuple(outcome.facts), strict=True))
    return {
        "shard": shard,
        "position": outcome.position,
        "stored": outcome.stored is not None,
        "clip_id": outcome.clip_id,
        "status": outcome.status,
        "detail": outcome.detail,
        "uri": outcome.uri,
        "member": outcome.member,
        "trimmed": outcome.trimmed,
        "starts_at_s": outcome.starts_at_s,
        "bytes": outcome.num_bytes,
        "sha256": outcome.sha256,
        **facts,
        "tool": outcome.tool,
    }


def _register(
    con: duckdb.DuckDBPyConnection, table: Table, rows: Sequence[Mapping[str, Any]]
) -> None:
    schema = pa.schema([(name, _ARROW[kind]) for name, kind in table.columns.items()])
    con.register("rows", pa.Table.from_pylist(list(rows), schema=schema))
