"""Which shards are done, and what their tables say of clips."""

from pathlib import Path
from typing import Any

import duckdb
import pytest

from k710.errors import K710Error, SchemaError
from k710.sources.outcomes import (
    done_shards,
    open_index,
    open_outcomes,
    outcomes_sha256,
    read_outcomes,
    shard_name,
    tar_path,
)
from support.small_shards import all_made, copy_of, rows_of, without_copies
from support.small_tables import own_bytes, put_shard


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A work directory of several shards, of this test's own."""
    return copy_of(all_made(), tmp_path / "work")


def test_a_shard_is_done_if_all_of_it_is_there(work: Path) -> None:
    shards = sorted(done_shards(work))
    assert shards == list(range(len(shards))) and len(shards) > 2
    assert all(tar_path(work, shard).is_file() for shard in shards)
    tar_path(work, 0).write_bytes(b"cut short")
    (work / "shards" / f"{shard_name(1)}.parquet.json").unlink()
    (work / "outcomes" / f"{shard_name(2)}.parquet.json").unlink()
    assert sorted(done_shards(work)) == shards[3:]


def test_tables_of_shards_are_read_as_one(work: Path) -> None:
    shards = sorted(done_shards(work))
    with duckdb.connect() as con:
        for chosen in (shards, shards[:1], []):
            open_outcomes(con, work, chosen)
            open_index(con, work, chosen)
            for table in ("outcomes", "index"):
                found = con.execute(f'select distinct shard from "{table}"').fetchall()
                assert sorted(shard for (shard,) in found) == chosen, table
        open_index(con, work, shards)
        names = con.execute('select clip_id from "index" order by 1').fetchall()
    assert names == sorted(rows_of(work, "index", "clip_id"))


def test_what_was_recorded_is_hashed_and_read_of_all_shards_that_are_done(work: Path) -> None:
    before = outcomes_sha256(work)
    with duckdb.connect() as con:
        read_outcomes(con, work)
        everything = con.execute("select count(*) from recorded").fetchall()
        (work / "outcomes" / f"{shard_name(0)}.parquet.json").unlink()
        assert outcomes_sha256(work) != before
        read_outcomes(con, work)
        assert con.execute("select count(*) from recorded").fetchall() < everything


def test_without_shards_there_are_no_outcomes(tmp_path: Path) -> None:
    work = without_copies(tmp_path)
    assert done_shards(work) == {}
    with duckdb.connect() as con:
        read_outcomes(con, work)
        assert con.execute("select count(*) from recorded").fetchall() == [(0,)]


def test_a_table_that_is_none_names_the_command_that_makes_it_again(work: Path) -> None:
    (work / "outcomes" / f"{shard_name(0)}.parquet").write_bytes(b"PAR1 is not enough")
    with (
        duckdb.connect() as con,
        pytest.raises(K710Error, match=r"000000\.parquet is not the table that[\s\S]*k710 shard"),
    ):
        read_outcomes(con, work)


@pytest.mark.parametrize(
    "said",
    [
        {"notes": {}},
        {"notes": {"tar_bytes": "many", "tar_sha256": None, "num_stored": 0}},
        {"params": {"encoding": {}, "versions": 5}},
    ],
)
def test_a_sidecar_of_another_shape_is_said(tmp_path: Path, said: dict[str, Any]) -> None:
    put_shard(tmp_path)
    own_bytes(tmp_path / "outcomes" / "000000.parquet", **said)
    with pytest.raises(SchemaError, match=r"000000\.parquet\.json is not what this version writes"):
        done_shards(tmp_path)
