"""Which clip comes to which shard: a seeded permutation that never changes."""

import itertools
import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st

from k710.errors import SchemaError, StageError
from k710.shards.plan import read_planned, seconds_per_shard
from k710.shards.run import make_shards
from k710.sources.index import index_videos
from k710.tables.schemas import read_sql
from k710.video.encode import Encoding
from support.small_shards import (
    TRAIN,
    VAL,
    all_made,
    build,
    copy_of,
    name_of,
    rows_of,
    shard,
    without_copies,
    write_videos,
)
from support.small_tables import put_table

Plan = list[tuple[str, int, int]]


def planned(
    clips: dict[str, int],
    *,
    seed: int = 0,
    first: int = 0,
    per_shard: int = 30,
    before: Plan | None = None,
) -> Plan:
    """The rows of plan.sql for clips with their seconds."""
    with _connection().cursor() as con:
        fresh = pa.table(
            {
                "clip_id": pa.array(clips, pa.string()),
                "time_start": pa.array([0] * len(clips), pa.int32()),
                "time_end": pa.array(clips.values(), pa.int32()),
            }
        )
        con.register("fresh", fresh)
        con.execute(
            "create or replace temp table planned "
            "(clip_id varchar, shard integer, position integer)"
        )
        if before:
            con.executemany("insert into planned values (?, ?, ?)", before)
        values = {"seed": str(seed), "first_shard": first, "seconds_per_shard": per_shard}
        return con.execute(read_sql("k710/shards/plan.sql"), values).fetchall()


@cache
def _connection() -> Any:
    """To start another for each plan takes longer than the plan."""
    return duckdb.connect()


CLIPS = st.dictionaries(
    st.text("abcdef-_", min_size=1, max_size=4), st.integers(1, 20), max_size=60
)


@settings(max_examples=50)
@given(clips=CLIPS, seed=st.integers(0, 3), per_shard=st.integers(1, 100))
def test_each_clip_has_one_place_and_places_have_no_gaps(
    clips: dict[str, int], seed: int, per_shard: int
) -> None:
    plan = planned(clips, seed=seed, per_shard=per_shard)
    assert sorted(clip for clip, _, _ in plan) == sorted(clips)
    assert plan == sorted(plan, key=lambda row: row[1:])
    by_shard = Counter(shard for _, shard, _ in plan)
    for number, size in by_shard.items():
        assert [p for _, s, p in plan if s == number] == list(range(size))
    longest = max(clips.values(), default=0)
    for number in by_shard:
        seconds = sum(clips[clip] for clip, s, _ in plan if s == number)
        assert seconds < per_shard + longest


@settings(max_examples=20)
@given(clips=CLIPS)
def test_the_order_in_which_clips_come_does_not_matter(clips: dict[str, int]) -> None:
    assert planned(clips) == planned(dict(reversed(clips.items())))


def test_the_seed_decides_the_order_and_classes_do_not() -> None:
    clips = {f"{label}{number}": 10 for label in "abcd" for number in range(50)}
    one, other = planned(clips), planned(clips, seed=1)
    assert one != other
    neighbours = sum(a[0][0] == b[0][0] for a, b in itertools.pairwise(one))
    assert 20 < neighbours < 80, "about a quarter of 199, as of a random order"


def test_what_is_planned_keeps_its_place() -> None:
    before = planned({"a": 10, "b": 10, "c": 10}, per_shard=10)
    plan = planned({"d": 10, "e": 10}, first=3, per_shard=10, before=before)
    assert plan[:3] == before
    assert {row[1] for row in plan[3:]} == {3, 4}


def test_the_plan_knows_nothing_of_copies(tmp_path: Path) -> None:
    without = build(tmp_path / "none")
    index_videos([write_videos(tmp_path / "few", TRAIN[:1])], work=without)
    shard(without)
    assert rows_of(all_made(), "plan") == rows_of(without, "plan")


def test_more_views_append(tmp_path: Path) -> None:
    work = without_copies(tmp_path)
    shard(work, ["k400/val"])
    before = rows_of(work, "plan")
    assert {row[0] for row in before} == {name_of(row) for row in VAL}
    shard(work, ["k400/train", "k710/val"])
    assert rows_of(work, "plan")[: len(before)] == before
    assert len(rows_of(work, "plan")) == len(TRAIN) + len(VAL)


def test_shards_hold_about_the_bytes_asked_for() -> None:
    balanced = seconds_per_shard(512_000_000, Encoding())
    assert 3000 < balanced < 12000
    assert seconds_per_shard(512_000_000, Encoding("intra")) < balanced
    assert seconds_per_shard(512_000_000, Encoding(short_side=160)) > balanced
    assert seconds_per_shard(1, Encoding()) == 1


def test_a_plan_without_its_sidecar_is_no_plan(tmp_path: Path) -> None:
    work = copy_of(all_made(), tmp_path / "work")
    before = rows_of(work, "plan")
    (work / "plan.parquet.json").unlink()
    with pytest.raises(StageError, match=r"lacks its plan\.parquet\.json.*\n.*remove plan"):
        shard(work)
    (work / "plan.parquet").unlink()
    assert shard(work).shards_made == ()
    assert rows_of(work, "plan") == before
    assert (work / "plan.parquet.json").is_file()


def test_wrong_views_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="views must be a list"):
        make_shards("k400/train", work=tmp_path)


def test_a_plan_of_before_found_only_is_read(tmp_path: Path) -> None:
    work = copy_of(all_made(), tmp_path / "work")
    sidecar = work / "plan.parquet.json"
    text = json.loads(sidecar.read_text())
    for generation in text["params"]["generations"]:
        del generation["found_only"]
    sidecar.write_text(json.dumps(text))
    planned = read_planned(work)
    assert planned is not None and not planned.is_found_only()
    assert shard(work).shards_made == ()


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"encoding": {"profile": "nice", "short_side": 320, "fps": None, "audio": False}},
        {"encoding": {"profile": "balanced", "short_side": 320, "fps": "1/0", "audio": False}},
        {"generations": [{"views": 5}]},
    ],
)
def test_a_plan_of_nothing_known_is_said(tmp_path: Path, params: dict[str, Any]) -> None:
    encoding = {"profile": "balanced", "short_side": 320, "fps": None, "audio": False}
    whole = {"encoding": encoding, "generations": [], **params} if params else {}
    put_table(tmp_path, "plan", [], params=whole)
    with pytest.raises(SchemaError, match=r"plan\.parquet\.json is not what this version writes"):
        read_planned(tmp_path)
