"""Which clip comes to which shard, decided before any is made, and never changed after.

The plan depends on the clips wanted, a seed, and the seconds that a shard holds. A clip that can't
be had leaves its place empty and moves no other.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import duckdb

from k710.errors import SchemaError, StageError, printable, shown
from k710.sources.outcomes import done_shards
from k710.tables.connection import make_table, run
from k710.tables.reading import read_tables
from k710.tables.schemas import PLAN, read_sql, table_path
from k710.tables.sidecar import TableSpec, read_sidecar, require_shape, write_table
from k710.video.encode import Encoding, bytes_per_second

__all__ = [
    "Generation",
    "Planned",
    "Wish",
    "extend_plan",
    "open_plan",
    "read_planned",
    "refuse_other_versions",
    "seconds_per_shard",
]


@dataclass(frozen=True, slots=True)
class Wish:
    """What decides a plan, beside what was planned before, the manifest and its copies."""

    views: tuple[str, ...]
    encoding: Encoding
    seconds_per_shard: int
    seed: int
    retry: bool  # a clip that failed before gets another place
    found_only: bool  # a clip without a copy gets no place yet

    def params(self) -> dict[str, Any]:
        """All of it as plain values, fit for JSON."""
        return {
            "views": sorted(self.views),
            "encoding": self.encoding.params(),
            "seconds_per_shard": self.seconds_per_shard,
            "seed": self.seed,
            "retry": self.retry,
            "found_only": self.found_only,
        }


@dataclass(frozen=True, slots=True)
class Generation:
    """The shards that one run added to the plan."""

    views: Sequence[str]
    seed: str
    first_shard: int
    seconds_per_shard: int
    found_only: bool = False  # clips without a copy were left out


@dataclass(frozen=True, slots=True)
class Planned:
    """What a plan was made of."""

    encoding: Encoding
    generations: tuple[Generation, ...]

    def views(self) -> set[str]:
        """The views whose clips were ever planned."""
        return {view for generation in self.generations for view in generation.views}

    def is_found_only(self) -> bool:
        """Whether some clips were left out because they had no copy."""
        return any(generation.found_only for generation in self.generations)


@dataclass(frozen=True, slots=True)
class _EncodingParams:
    profile: str
    short_side: int
    fps: str | None
    audio: bool

    def encoding(self, path: Path) -> Encoding:
        """The encoding; SchemaError, which names the plan at `path`, where there is none such."""
        try:
            fps = None if self.fps is None else Fraction(self.fps)
            return Encoding(self.profile, self.short_side, fps, self.audio)
        except (ValueError, ZeroDivisionError) as error:
            raise SchemaError(
                f"{path}.json is not what this version writes: {printable(str(error))}."
            ) from error


@dataclass(frozen=True, slots=True)
class _Params:
    encoding: _EncodingParams
    generations: tuple[Generation, ...]


@dataclass(frozen=True, slots=True)
class _OfPlan:
    """What the sidecar of the plan says."""

    params: _Params


def seconds_per_shard(shard_bytes: int, encoding: Encoding) -> int:
    """How many seconds of clips make about `shard_bytes`."""
    return max(1, round(shard_bytes / bytes_per_second(encoding)))


def extend_plan(con: duckdb.DuckDBPyConnection, work: Path, wish: Wish, *, write: bool) -> None:
    """Make `plan` a table on `con` in which each clip of the views has a place; keep it on disk.

    `manifest`, `sources` and `outcomes` must be there. With `write` False the disk stays as it is.
    StageError where clips were planned for another encoding.
    """
    _open_planned(con, work)
    path = PLAN.path(work)
    former = read_sidecar(path) if path.is_file() else None
    read_planned(work)  # or say what is wrong with what it was made of
    made_with = [shard.params for shard in done_shards(work).values()]
    for params in (*([former.params] if former else ()), *made_with[:1]):
        _refuse_other_encoding(work, params["encoding"], wish.encoding)
    fresh = {"views": list(wish.views), "retry": wish.retry, "found_only": wish.found_only}
    sql = read_sql("k710/shards/fresh.sql")
    make_table(con, "fresh", sql, fresh)
    counted = (
        "select (select count(*) from fresh), (select coalesce(max(shard) + 1, 0) from planned)"
    )
    ((num_fresh, first_shard),) = run(con, counted)
    values = {
        "seed": str(wish.seed),
        "first_shard": first_shard,
        "seconds_per_shard": wish.seconds_per_shard,
    }
    generation = asdict(Generation(sorted(wish.views), **values, found_only=wish.found_only))
    spec = TableSpec(
        PLAN,
        params={
            "encoding": wish.encoding.params(),
            "generations": [*(former.params["generations"] if former else ()), generation],
        },
        inputs=_inputs(work),
        uses=("k710/shards/fresh.sql",),
    )
    if write and (num_fresh or former is None):
        write_table(con, work, spec, values=values)
    make_table(con, "plan", spec.sql(), values)


def open_plan(con: duckdb.DuckDBPyConnection, work: Path) -> None:
    """Make `plan` a table on `con`: just what was planned before."""
    _open_planned(con, work)
    run(con, "create or replace temp table plan as from planned")


def read_planned(work: Path) -> Planned | None:
    """Read what the plan on disk was made of; None where there is none."""
    path = PLAN.path(work)
    sidecar = read_sidecar(path)
    if sidecar is None:
        return None
    params = require_shape(sidecar, path, _OfPlan).params
    return Planned(params.encoding.encoding(path), params.generations)


def _open_planned(con: duckdb.DuckDBPyConnection, work: Path) -> None:
    """Make `planned` the plan on disk, empty where there is none."""
    path = PLAN.path(work)
    if path.exists() and read_sidecar(path) is None:
        raise StageError(
            f"{path} lacks its {path.name}.json, which says what it was made of.\n"
            f"Put that back. Or remove {path.name}: the same command plans the same clips again, "
            "and what is in shards stays there."
        )
    read_tables(con, work, "planned", PLAN, [path] if path.exists() else [])


def _inputs(work: Path) -> dict[str, str]:
    inputs = {}
    for table in ("manifest", "sources"):
        sidecar = read_sidecar(table_path(work, table))
        assert sidecar is not None  # it was opened
        inputs[table] = sidecar.sha256
    return inputs


def _refuse_other_encoding(work: Path, planned: Mapping[str, Any], encoding: Encoding) -> None:
    differing = _list_differences(planned, encoding.params())
    if differing:
        raise StageError(
            f"The shards in {work} are made with {differing}.\n"
            "All shards of a work directory are made alike: use the same options, another --work, "
            f"or remove shards/, outcomes/ and plan.parquet in {work}."
        )


def refuse_other_versions(work: Path, shards: Sequence[int], versions: Mapping[str, str]) -> None:
    """StageError where one of `shards` was planned together with shards that others made.

    The shards of one plan are of one version; those that later runs append may be of another.
    """
    planned = read_planned(work)
    begins = sorted({0, *(made.first_shard for made in planned.generations)}) if planned else [0]
    wanted = {bisect_right(begins, shard) for shard in shards}
    for shard, sidecar in done_shards(work).items():
        made_with = sidecar.params["versions"]
        if bisect_right(begins, shard) in wanted and made_with != versions:
            differing = _list_differences(made_with, versions)
            raise StageError(
                f"Shards of the same plan in {work} were made with {differing}: other bytes.\n"
                f"Go on with those: pip install av=={made_with.get('av')}; or use another --work."
            )


def _list_differences(former: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {shown(former.get(name))} (now {shown(asked.get(name))})"
        for name in sorted({*former, *asked})
        if former.get(name) != asked.get(name)
    )
