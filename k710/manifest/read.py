"""Read what build_manifest made: a view as a DataFrame, the fate of an id, names that disagree."""

import csv
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from k710.errors import SourceError, StageError, shown
from k710.files import manifests_dir
from k710.labels.orders import class_names, published_spelling
from k710.tables.connection import connect_to_read, run
from k710.tables.reading import open_table
from k710.tables.schemas import ANNOTATIONS, DROPPED, MANIFEST, Table, read_sql
from k710.tables.views import require_views

if TYPE_CHECKING:  # a second of start-up that `explain` needn't pay
    import pandas

__all__ = ["ExplainedRow", "NamePair", "explain", "label_evidence", "load_view", "open_tables"]


@dataclass(frozen=True, slots=True)
class ExplainedRow:
    """One annotation row, and what became of it."""

    list_name: str  # dataset/split
    time_start: int  # s
    time_end: int  # s
    label_raw: str | None  # as the list has it
    label: int | None  # K710 row
    label_name: str | None  # name of that row
    in_list_view: bool  # False: an exact duplicate of a row of the same list
    k710_view: str | None  # where it belongs by its split; None: test rows and unlabelled ones
    reason: str | None  # why it isn't there; None: it is
    kept_clip_id: str | None  # the clip that is there in its place
    held_out_by: list[str] | None  # the val and test lists that hold the id
    source_file: str
    source_line: int

    @property
    def verdict(self) -> str:
        """What became of the row, in words."""
        if self.k710_view is None:
            words = "in no k710 view" + (
                "" if self.list_name.endswith("/test") else ": it has no label"
            )
        elif self.reason is None:
            words = f"in {self.k710_view}"
        elif self.reason == "held_out":
            words = f"not in {self.k710_view}: its id is in {', '.join(self.held_out_by or ())}"
        else:
            same = "this id" if self.reason == "duplicate_id" else "this clip"
            words = f"not in {self.k710_view}: {self.kept_clip_id} stands there for {same}"
        return words + (
            "" if self.in_list_view else f"; not in {self.list_name}: an exact duplicate"
        )


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


def load_view(view: str, *, work: str | os.PathLike[str] = "work") -> "pandas.DataFrame":
    """Read the clips of one view, such as `k710/train`: the manifest's columns, one row a clip.

    `label` is a K710 row (Int16, <NA> in unlabelled test lists); rows are ordered by id and window.
    It writes nothing. StageError where nothing is built, or the view isn't in it.
    """
    with connect_to_read() as con:
        open_tables(con, Path(work), MANIFEST)
        require_views(con, Path(work), [view], may_be_empty=True)
        rows = con.execute(read_sql("k710/manifest/view.sql"), {"view": view})
        frame: pandas.DataFrame = rows.df()
        return frame.astype({"label": "Int16"})


def explain(youtube_id: str, *, work: str | os.PathLike[str] = "work") -> list[ExplainedRow]:
    """Look up each annotation row of a YouTube id, and what became of it, in the lists' order.

    It writes nothing. SourceError where no list has the id, StageError where nothing is built.
    """
    with connect_to_read() as con:
        open_tables(con, Path(work), ANNOTATIONS, MANIFEST, DROPPED)
        values = {"youtube_id": youtube_id, "label_names": list(class_names())}
        rows = run(con, read_sql("k710/manifest/explain.sql"), values)
        if not rows:
            raise SourceError(_unknown_id(con, youtube_id))
    return [ExplainedRow(*row) for row in rows]


def label_evidence(*, work: str | os.PathLike[str] = "work") -> list[NamePair]:
    """Find every pair of names that two datasets give to one clip: the 15 merged pairs first.

    Counted from the names in annotations.parquet of `work`, over all splits; merged pairs are there
    with 0 clips too. It writes nothing. StageError where nothing is built.
    """
    with (manifests_dir() / "aliases.csv").open(encoding="utf-8", newline="") as file:
        aliases = list(csv.DictReader(file))
    with connect_to_read() as con:
        open_tables(con, Path(work), ANNOTATIONS)
        rows = run(con, "select distinct label_raw from annotations where label_raw is not null")
        raw = [name for (name,) in rows]
        values = {
            "raw": raw,
            "spellings": [published_spelling(name) for name in raw],
            "aliases": [line["alias"] for line in aliases],
            "labels": [line["label"] for line in aliases],
        }
        return [NamePair(*row) for row in run(con, read_sql("k710/manifest/evidence.sql"), values)]


def open_tables(con: duckdb.DuckDBPyConnection, work: Path, *tables: Table) -> None:
    """Make tables of `work` views on `con`; StageError where they don't belong together."""
    sidecars = {table: open_table(con, work, table) for table in tables}
    annotations = open_table(con, work, ANNOTATIONS) if tables else None
    rules = [sidecars[table].params for table in (MANIFEST, DROPPED) if table in sidecars]
    made_of_others = any(
        sidecar.inputs.get("annotations") != annotations.sha256
        for table, sidecar in sidecars.items()
        if table is not ANNOTATIONS and annotations is not None
    )
    if made_of_others or any(params != rules[0] for params in rules):
        raise StageError(
            f"The tables in {work} don't belong together: a build was stopped half-way.\n"
            f"Finish it: k710 build-manifest --annotations DIR --work {work}"
        )


def _unknown_id(con: duckdb.DuckDBPyConnection, youtube_id: str) -> str:
    text = f"No annotation row has the id {shown(youtube_id)}."
    similar = run(
        con,
        "select distinct youtube_id from annotations where lower(youtube_id) = lower($youtube_id) "
        "order by youtube_id",
        {"youtube_id": youtube_id},
    )
    if similar:
        return (
            f"{text}\nLetter case matters in ids: there is {', '.join(row[0] for row in similar)}."
        )
    return (
        f"{text}\nAn id is 11 characters, like -aU-xCCzkT0: the part after v= in a video's address."
    )
