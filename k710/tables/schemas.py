"""The tables that stages leave for each other: their columns, their .sql, and who builds them."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

__all__ = [
    "ANNOTATIONS",
    "COPIES",
    "DROPPED",
    "INDEX",
    "LEAKAGE",
    "MANIFEST",
    "OUTCOMES",
    "PLAN",
    "SOURCES",
    "TABLES",
    "TRIES",
    "Table",
    "read_sql",
    "table_path",
]


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A kind of table: `name`.parquet in a work directory, or one file for each shard."""

    name: str
    columns: Mapping[str, str]  # in order, with DuckDB's types
    sql: str  # the .sql file that makes it, as `read_sql` takes it
    command: str  # that builds it
    folder_option: str = "--work"  # of the command: where the table lies
    is_replaced: bool = True  # by the command, also where it can't be read

    def path(self, work: Path) -> Path:
        """Where the table lies in a work directory."""
        return table_path(work, self.name)

    def build_command(self, work: Path) -> str:
        """The command that builds the table of a work directory."""
        return f"{self.command} {self.folder_option} {work}"

    def build_again(self, work: Path) -> str:
        """What to do about a table that can't be used."""
        words = "Build it again" if self.is_replaced else "Remove it, and build it again"
        return f"{words}: {self.build_command(work)}"

    def declaration(self) -> str:
        """The columns as `create table` takes them."""
        return ", ".join(f'"{name}" {kind}' for name, kind in self.columns.items())


def table_path(work: Path, file: str) -> Path:
    """Where a table lies whose path below `work`, without .parquet, is `file`."""
    return work / f"{file}.parquet"


def read_sql(path: str) -> str:
    """The text of a .sql file, named by its path in this project: k710/manifest/verdicts.sql."""
    package, *rest = path.split("/")
    return resources.files(package).joinpath(*rest).read_text(encoding="utf-8")


_BUILD = "k710 build-manifest --annotations DIR"
_SHARD = "k710 shard --views VIEWS"
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
_STAMP = {"mtime_ns": "BIGINT", "inode": "UBIGINT"}  # of the file: tells it from another there
ANNOTATIONS = Table(
    name="annotations",
    columns=_ANNOTATION,
    sql="k710/annotations/annotations.sql",
    command=_BUILD,
)
MANIFEST = Table(
    name="manifest",
    columns={
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
    sql="k710/manifest/manifest.sql",
    command=_BUILD,
)
DROPPED = Table(
    name="dropped",
    columns={
        **_ANNOTATION,
        "reason": "VARCHAR",
        "kept_clip_id": "VARCHAR",
        "held_out_by": "VARCHAR[]",
    },
    sql="k710/manifest/dropped.sql",
    command=_BUILD,
)
LEAKAGE = Table(
    name="leakage",
    columns={
        "a": "VARCHAR",
        "b": "VARCHAR",
        "ids": "BIGINT",
        "clips": "BIGINT",
        "same_label": "BIGINT",
        "other_label": "BIGINT",
    },
    sql="k710/manifest/leakage.sql",
    command=_BUILD,
)
SOURCES = Table(
    name="sources",
    columns=_SOURCE,
    sql="k710/sources/sources.sql",
    command="k710 index --videos DIR",
)
COPIES = Table(
    name="copies",
    columns={**_SOURCE, **_STAMP, "place": "INTEGER", "could_be": "INTEGER", "why": "VARCHAR"},
    sql="k710/sources/copies.sql",
    command="k710 index --videos DIR",
)
PLAN = Table(
    name="plan",
    columns={"clip_id": "VARCHAR", "shard": "INTEGER", "position": "INTEGER"},
    sql="k710/shards/plan.sql",
    command=_SHARD,
    is_replaced=False,
)
OUTCOMES = Table(
    name="outcomes",
    columns={"shard": "INTEGER", "position": "INTEGER", "stored": "BOOLEAN", **_SOURCE},
    sql="k710/shards/outcomes.sql",
    command=_SHARD,
    is_replaced=False,
)
TRIES = Table(
    name="tries",
    columns={"shard": "INTEGER", "position": "INTEGER", "turn": "INTEGER", **_SOURCE, **_STAMP},
    sql="k710/shards/tries.sql",
    command=_SHARD,
    is_replaced=False,
)
INDEX = Table(
    name="index",
    columns={
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
    sql="k710/shards/index.sql",
    command=_SHARD,
    is_replaced=False,
)
TABLES: Mapping[str, Table] = {
    table.name: table
    for table in (
        *(ANNOTATIONS, MANIFEST, DROPPED, LEAKAGE),
        *(SOURCES, COPIES, PLAN, OUTCOMES, TRIES, INDEX),
    )
}
