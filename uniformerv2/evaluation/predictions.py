"""predictions.parquet: what a model says of each clip of a view, and what can be read out of it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from k710.files import word_os_errors
from k710.labels.orders import class_names
from k710.tables.connection import connect, connect_to_read, run
from k710.tables.reading import open_table
from k710.tables.schemas import MANIFEST, Table, read_sql
from k710.tables.sidecar import TableSpec, write_table
from uniformerv2.dataset.clips import ViewIndex
from uniformerv2.evaluation.scoring import Scores

__all__ = [
    "PREDICTIONS",
    "ClassAccuracy",
    "Confusion",
    "class_accuracies",
    "confusions",
    "hash_list",
    "write_predictions",
]

PREDICTIONS = Table(
    name="predictions",
    columns={
        "view": "VARCHAR",
        "clip_id": "VARCHAR",
        "label": "SMALLINT",
        "top5": "SMALLINT[]",
        "score5": "FLOAT[]",
        "views": "SMALLINT",
    },
    sql="uniformerv2/evaluation/predictions.sql",
    command="k710 evaluate CKPT --view VIEW",
    folder_option="--out",
)


@dataclass(frozen=True, slots=True)
class ClassAccuracy:
    """One class of a test."""

    name: str
    clips: int
    top1: float
    top5: float


@dataclass(frozen=True, slots=True)
class Confusion:
    """Clips of one class that were taken for another's."""

    name: str
    taken_for: str
    clips: int
    share: float  # of the class


def write_predictions(
    folder: Path, view: ViewIndex, scores: Scores, num_views: int, made_of: dict[str, str]
) -> Path:
    """Write predictions.parquet of what the model says to `folder`; returns its path."""
    scored = pa.table(
        {
            "clip_id": [view.clip_ids[row] for row in scores.rows.tolist()],
            "label": scores.labels,
            "top5": scores.top.tolist(),
            "score5": scores.sums.tolist(),
        }
    )
    values = {"view": view.name, "views": num_views}
    spec = TableSpec(PREDICTIONS, params=values, inputs=made_of)
    with word_os_errors(folder), connect(folder, memory_limit="1GB") as con:
        con.register("scored", scored)
        return write_table(con, folder, spec, values=values)


def hash_list(work: Path, view_name: str) -> tuple[int, str]:
    """How many clips a view has, and a hash of them and their labels."""
    with connect_to_read() as con:
        open_table(con, work, MANIFEST)
        rows = run(con, read_sql("uniformerv2/evaluation/listed_clips.sql"), {"view": view_name})
    text = "".join(f"{clip_id} {label}\n" for clip_id, label in rows)
    return len(rows), hashlib.sha256(text.encode()).hexdigest()


def class_accuracies(predictions: Path) -> list[ClassAccuracy]:
    """Each class that has clips in a predictions.parquet, the worst first."""
    names = class_names()
    return [
        ClassAccuracy(names[label], clips, top1, top5)
        for label, clips, top1, top5 in _read(predictions, "class_accuracy")
    ]


def confusions(predictions: Path, most: int = 20) -> list[Confusion]:
    """The pairs of classes that are taken for each other most often, in a predictions.parquet."""
    names = class_names()
    rows = _read(predictions, "confusions")[:most]
    return [Confusion(names[a], names[b], clips, share) for a, b, clips, share in rows]


def _read(predictions: Path, sql: str) -> list[Any]:
    with connect_to_read() as con:
        open_table(con, predictions.parent, PREDICTIONS)
        return run(con, read_sql(f"uniformerv2/evaluation/{sql}.sql"))
