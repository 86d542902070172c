"""Evidence for the 15 merged names: one clip, named differently by two datasets."""

import csv
import os
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from k710.files import manifests_dir
from k710.labels.orders import published_spelling
from k710.manifest.read import open_tables
from k710.tables.connection import run
from k710.tables.schemas import ANNOTATIONS, read_sql

__all__ = ["NamePair", "label_evidence"]


@dataclass(frozen=True, slots=True)
class NamePair:
    """Two names, and how many clips (same id, same window) carry both, each in one dataset."""

    name_a: str
    name_b: str
    merged: bool  # one class in K710
    clips: int  # distinct clips
    k400_k600: int  # of these, the ones that differ between these two datasets
    k400_k700: int
    k600_k700: int


def label_evidence(*, work: str | os.PathLike[str] = "work") -> list[NamePair]:
    """Every pair of names that two datasets give to one clip: the 15 merged pairs first.

    Counted from the names in annotations.parquet of `work`, over all splits; merged pairs are there
    with 0 clips too. It writes nothing. StageError where nothing is built.
    """
    with (manifests_dir() / "aliases.csv").open(encoding="utf-8", newline="") as file:
        merges = [(line["alias"], line["label"]) for line in csv.DictReader(file)]
    merged = pa.table({"alias": [a for a, _ in merges], "label_name": [b for _, b in merges]})
    with duckdb.connect() as con:
        open_tables(con, Path(work), ANNOTATIONS)
        distinct = con.execute(
            "select distinct label_raw from annotations where label_raw is not null order by all"
        )
        raw = [row[0] for row in distinct.fetchall()]
        names = [published_spelling(name) for name in raw]
        con.register("spellings", pa.table({"label_raw": raw, "name": names}))
        con.register("merges", merged)
        return [NamePair(*row) for row in run(con, read_sql("k710/manifest/evidence.sql"))]
