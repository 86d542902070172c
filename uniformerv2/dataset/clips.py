"""The clips of a view that are in shards: where their bytes lie, and their classes."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from k710.errors import SchemaError, StageError, shown
from k710.tables.connection import connect_to_read, run
from k710.tables.reading import open_table
from k710.tables.schemas import INDEX, MANIFEST, read_sql
from k710.tables.views import require_views

__all__ = ["ViewIndex", "read_view"]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class ViewIndex:
    """One row per clip, by shard and by place in it; all arrays have that length."""

    name: str
    clip_ids: list[str]
    labels: Ints  # row of K710; -1 where the list has none
    shards: Ints
    offsets: Ints  # of the clip's video in its tar, bytes
    num_bytes: Ints
    num_frames: Ints
    heights: Ints  # of the frames, pixels
    widths: Ints
    digests: npt.NDArray[np.bytes_]  # SHA-256 of the clip's bytes, in hexadecimal
    num_wanted: int  # clips of the view, those in no shard too
    sha256: str  # of clips, places and labels: what is equal gives the same order

    @property
    def shard_sizes(self) -> Ints:
        """The number of the view's clips in each of its shards, by shard."""
        sizes: Ints = np.unique(self.shards, return_counts=True)[1].astype(np.int64)
        return sizes


def read_view(work: str | Path, name: str) -> ViewIndex:
    """Read which clips of a view are in shards.

    Args:
        work: A work directory with manifest.parquet and index.parquet.
        name: The view, like "k400/train".

    Returns:
        One row per clip, by shard and by place in it.

    Raises:
        StageError: A table is not built, there is no such view, or none of its clips is in a shard.
        SchemaError: The index has what no clip can have.
    """
    work = Path(work)
    with connect_to_read() as con:
        for table in (MANIFEST, INDEX):
            open_table(con, work, table)
        require_views(con, work, [name])
        ((num_wanted,),) = run(
            con, "select count(*) from manifest where view = $name", {"name": name}
        )
        rows = con.execute(read_sql("uniformerv2/dataset/stored.sql"), {"view": name}).fetchnumpy()
    if not len(rows["clip_id"]):
        raise StageError(
            f"None of the {num_wanted:,} clips of {name} is in a shard.\n"
            f"Make them: k710 shard --work {work} --views {name}"
        )
    _check(rows)
    digest = hashlib.sha256()
    clip_ids = [str(clip_id) for clip_id in rows["clip_id"]]
    digest.update("\n".join(clip_ids).encode())
    columns: dict[str, Ints] = {}
    for column in ("label", "shard", "offset", "bytes", "num_frames", "height", "width"):
        columns[column] = np.ascontiguousarray(rows[column], dtype=np.int64)
        digest.update(columns[column].astype("<i8").tobytes())
    return ViewIndex(
        name=name,
        clip_ids=clip_ids,
        labels=columns["label"],
        shards=columns["shard"],
        offsets=columns["offset"],
        num_bytes=columns["bytes"],
        num_frames=columns["num_frames"],
        heights=columns["height"],
        widths=columns["width"],
        digests=np.asarray(rows["sha256"], dtype="S64"),
        num_wanted=num_wanted,
        sha256=digest.hexdigest(),
    )


# What a clip can have, at least and at most: others would ask for all memory, or another's bytes.
_RANGES = {
    "offset": (512, 1 << 50),
    "bytes": (1, 1 << 32),
    "num_frames": (1, 1 << 24),
    "height": (1, 16384),
    "width": (1, 16384),
}


def _check(rows: Mapping[str, Any]) -> None:
    """SchemaError, with the clip's name, where a row can't be of a clip in a shard."""
    for column, (least, most) in _RANGES.items():
        values = np.ma.filled(rows[column], -1)
        wrong = np.flatnonzero((values < least) | (values > most))
        if len(wrong):
            clip_id, value = rows["clip_id"][wrong[0]], values[wrong[0]]
            raise SchemaError(
                f"index.parquet says of {shown(clip_id)} that its {column} is {value}: "
                f"it must be from {least} to {most}. k710 verify tells more."
            )
    is_hash = re.compile("[0-9a-f]{64}").fullmatch
    for clip_id, text in zip(rows["clip_id"], rows["sha256"], strict=True):
        if not is_hash(str(text)):
            raise SchemaError(f"index.parquet has no SHA-256 of {shown(clip_id)}: {shown(text)}.")
