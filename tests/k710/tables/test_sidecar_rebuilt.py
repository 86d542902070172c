"""Done means one thing: a table of other rules, another SQL or another version is made again."""

import json
from pathlib import Path

import pytest

import k710
from k710.tables.schemas import TABLES
from k710.tables.sidecar import read_sidecar
from support.small_shards import FEW, copy_of, ready, shard

BUILT = ("annotations", "manifest", "dropped", "leakage")  # by build_manifest
SHARDED = ("sources", "copies", "index")  # by make_shards


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = ready(tmp_path_factory.mktemp("made"), **FEW)
    shard(work)
    return work


@pytest.mark.parametrize("name", [*BUILT, *SHARDED])
def test_a_table_of_other_rules_is_made_again(made: Path, tmp_path: Path, name: str) -> None:
    work = copy_of(made, tmp_path / "work")
    path = TABLES[name].path(work)
    tars = {tar: tar.stat().st_mtime_ns for tar in (work / "shards").glob("*.tar")}
    before = read_sidecar(path)
    assert before is not None
    sidecar = path.with_name(path.name + ".json")
    other = {"fingerprint": "f" * 64, "sql_sha256": "0" * 64, "versions": {"k710": "0.0.1"}}
    sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), **other}))
    if name in BUILT:
        k710.build_manifest(made.parent / "annotations", work=work)
    else:
        shard(work)
    after = read_sidecar(path)
    assert after is not None
    assert (after.fingerprint, after.sql_sha256) == (before.fingerprint, before.sql_sha256)
    assert after.versions == before.versions and after.sha256 == before.sha256
    # No clip is encoded again.
    assert {tar: tar.stat().st_mtime_ns for tar in tars} == tars


def test_every_table_that_can_be_made_again_is_tested() -> None:
    # What is planned or encoded is never made again: plan, and the outcomes and tries of shards.
    assert set(TABLES) - {*BUILT, *SHARDED} == {"plan", "outcomes", "tries"}
