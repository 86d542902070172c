"""Whatever is not as it was written is found, and its shard named."""

import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from k710.errors import StageError
from k710.files import sha256_of
from k710.shards.verify import Fault, verify_shards
from k710.sources.index import index_videos
from k710.tables.schemas import INDEX
from support.small_shards import (
    FEW,
    TRAIN,
    VAL,
    all_made,
    build,
    copy_of,
    name_of,
    ready,
    rows_of,
    shard,
    tars,
    write_videos,
)
from support.small_tables import rewrite_table


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of(all_made(), tmp_path_factory.mktemp("verify") / "work")


def faults(work: Path, *, deep: bool = False) -> tuple[Fault, ...]:
    return verify_shards(work=work, deep=deep, workers=1).faults


def test_sound_shards_have_no_faults(done: Path) -> None:
    verified = verify_shards(work=done, deep=True, workers=2)
    assert verified.faults == ()
    assert verified.clips == len(TRAIN) + len(VAL)
    tars = list((done / "shards").glob("*.tar"))
    assert verified.shards == len(tars)
    assert verified.bytes == sum(path.stat().st_size for path in tars)


def files_of_shards(work: Path) -> dict[int, list[Path]]:
    """The tar and the table of each shard."""
    tables = sorted((work / "shards").glob("*.parquet"))
    return {int(path.stem): [path.with_suffix(".tar"), path] for path in tables}


def check_flips(work: Path, flips: Mapping[Path, tuple[int, int]]) -> None:
    """With each file's byte at a place changed by a mask, each shard is named, and no other."""
    sound = {path: path.read_bytes() for path in flips}
    for path, (at, mask) in flips.items():
        data = bytearray(sound[path])
        data[at] ^= mask
        path.write_bytes(data)
    try:
        found = faults(work)
    finally:
        for path, content in sound.items():
            path.write_bytes(content)
    first = {fault.shard: fault.what for fault in reversed(found)}
    named = {int(path.stem): f"shards/{path.name}" for path in flips}
    assert {shard for shard in first if shard is not None} == set(named)
    assert all(name in str(first[shard]) for shard, name in named.items())


def check_drawn_flips(work: Path, data: st.DataObject) -> None:
    """One byte of each shard, in its tar or in its table, anywhere."""
    flips = {}
    for paths in files_of_shards(work).values():
        path = data.draw(st.sampled_from(paths))
        at = data.draw(st.integers(0, path.stat().st_size - 1))
        flips[path] = at, data.draw(st.integers(1, 255))
    check_flips(work, flips)


@settings(max_examples=6)
@given(data=st.data())
def test_one_flipped_byte_anywhere_in_a_shard_is_found(done: Path, data: st.DataObject) -> None:
    check_drawn_flips(done, data)


@pytest.mark.slow
@settings(max_examples=100)
@given(data=st.data())
def test_many_flipped_bytes_are_found(done: Path, data: st.DataObject) -> None:
    check_drawn_flips(done, data)


def places(path: Path) -> list[int]:
    """A byte of every kind that a file of a shard has."""
    size = path.stat().st_size
    if path.suffix == ".parquet":  # magic, pages, footer, its length, magic
        return [0, size // 4, size - 40, size - 7, size - 1]
    with tarfile.open(path) as tar:
        members = tar.getmembers()
    found = [size - 1, size - 1024]  # of the end
    for member in members[:2]:  # a clip and its .json
        header, data = member.offset, member.offset_data
        found += [header, header + 125, header + 150, data, data + member.size - 1]
        if member.size % 512:
            found.append(data + member.size)  # what fills its last block
    return found


def test_a_flipped_byte_of_every_kind_is_found(done: Path) -> None:
    queues = {
        shard: [(path, at) for path in paths for at in places(path)]
        for shard, paths in files_of_shards(done).items()
    }
    # Each kind in some shard: every shard begins with another.
    for number in range(-(-max(map(len, queues.values())) // len(queues))):
        flips = {}
        for place, kinds in enumerate(queues.values()):
            path, at = kinds[(number * len(queues) + place) % len(kinds)]
            flips[path] = at, 1
        check_flips(done, flips)


@pytest.mark.parametrize("end", [-1, -512, -10_240, 512, 1])
def test_a_shard_cut_short_is_found(done: Path, tmp_path: Path, end: int) -> None:
    work = copy_of(done, tmp_path / "work")
    path = work / "shards" / "000001.tar"
    path.write_bytes(path.read_bytes()[:end])
    assert [fault.shard for fault in faults(work)] == [1]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("shards/000000.tar", "shards/000000.tar is missing"),
        ("shards/000000.parquet", "There is no finished shards/000000.parquet"),
        ("shards/000000.parquet.json", "There is no finished shards/000000.parquet"),
        ("outcomes/000000.parquet", "There is no finished outcomes/000000.parquet"),
        ("index.parquet", "There is no finished index.parquet"),
    ],
)
def test_a_missing_file_is_found(done: Path, tmp_path: Path, name: str, words: str) -> None:
    work = copy_of(done, tmp_path / "work")
    (work / name).unlink()
    assert words in [fault.what for fault in faults(work)]


def swap(work: Path, one: str, other: str) -> None:
    for ending in ("", ".json"):
        a, b = work / f"{one}{ending}", work / f"{other}{ending}"
        content = a.read_bytes()
        a.write_bytes(b.read_bytes())
        b.write_bytes(content)


def test_a_shard_whose_run_was_killed_before_its_last_name_is_verified(
    done: Path, tmp_path: Path
) -> None:
    work = copy_of(done, tmp_path / "work")
    sidecar = work / "outcomes/000000.parquet.json"
    sidecar.rename(f"{sidecar}.next")
    assert faults(work) == ()
    assert verify_shards(work=work).unfinished == 0
    tar = work / "shards" / "000000.tar"
    sound = tar.read_bytes()
    tar.write_bytes(sound[:5000] + bytes([sound[5000] ^ 1]) + sound[5001:])
    assert [fault.shard for fault in faults(work)] == [0]
    tar.write_bytes(sound)
    shard(work)
    assert sidecar.exists() and not list(work.rglob("*.next"))
    assert tars(work) == tars(done)


def test_shards_that_changed_places_are_found(done: Path, tmp_path: Path) -> None:
    work = copy_of(done, tmp_path / "work")
    for folder in ("shards", "outcomes"):
        swap(work, f"{folder}/000000.parquet", f"{folder}/000001.parquet")
    whats = [fault.what for fault in faults(work)]
    assert "the clips of outcomes/000000.parquet are not those of the plan" in whats


def test_an_index_of_other_shards_is_found(done: Path, tmp_path: Path) -> None:
    work = copy_of(done, tmp_path / "work")
    for ending in ("", ".json"):
        part = (work / f"shards/000000.parquet{ending}").read_bytes()
        (work / f"index.parquet{ending}").write_bytes(part)
    assert [fault.shard for fault in faults(work)] == [None]
    assert "index.parquet is not that of all shards" in faults(work)[0].what


def test_an_index_that_lacks_rows_is_found(done: Path, tmp_path: Path) -> None:
    work = copy_of(done, tmp_path / "work")
    part = (work / "shards/000000.parquet").read_bytes()
    (work / "index.parquet").write_bytes(part)
    sidecar = json.loads((work / "index.parquet.json").read_text())
    sidecar["sha256"] = sha256_of(work / "index.parquet")
    (work / "index.parquet.json").write_text(json.dumps(sidecar))
    assert "index.parquet differs from the shards' own tables" in faults(work)[0].what


def lie(work: Path, column: str, value: str) -> None:
    """Change a column of shard 0's own table, and make all hashes fit."""
    import duckdb

    path = work / "shards" / "000000.parquet"
    columns = ", ".join(f'"{name}"' for name in INDEX.columns)
    with duckdb.connect() as con:
        con.execute("create table t as from read_parquet($path)", {"path": str(path)})
        con.execute(f'update t set "{column}" = {value}')
        con.execute(f"copy (select {columns} from t) to '{path}' (format parquet)")
        everything = str(work / "shards" / "*.parquet")
        index = work / "index.parquet"
        con.execute(f"copy (from '{everything}' order by clip_id) to '{index}' (format parquet)")
    for table in (path, index):
        sidecar = json.loads(Path(f"{table}.json").read_text())
        sidecar["sha256"] = sha256_of(table)
        Path(f"{table}.json").write_text(json.dumps(sidecar))


def test_an_offset_that_is_wrong_is_found(done: Path, tmp_path: Path) -> None:
    work = copy_of(done, tmp_path / "work")
    lie(work, "offset", '"offset" + 512')
    assert "does not lie where the index says" in faults(work)[0].what


@pytest.mark.parametrize(
    ("column", "words"),
    [("num_frames", "has 20 frames, and the index says 21"), ("width", "is 72x48, and the index")],
)
def test_what_only_decoding_tells_needs_deep(
    done: Path, tmp_path: Path, column: str, words: str
) -> None:
    work = copy_of(done, tmp_path / "work")
    lie(work, column, f"{column} + 1")
    assert faults(work) == ()
    found = faults(work, deep=True)
    assert found and all(fault.shard == 0 and words in fault.what for fault in found)


@pytest.mark.parametrize("name", ["plan.parquet", "outcomes/000000.parquet.json"])
def test_bytes_that_say_what_should_be_are_checked_too(
    done: Path, tmp_path: Path, name: str
) -> None:
    work = copy_of(done, tmp_path / "work")
    path = work / name
    path.write_bytes(path.read_bytes()[:-40])
    if name == "plan.parquet":
        (fault,) = faults(work)
        assert "plan.parquet is not the table that plan.parquet.json tells of" in fault.what
        assert f"build it again: k710 shard --views VIEWS --work {work}" in fault.what
    else:
        assert [fault.shard for fault in faults(work)] == [0]


def relabel(work: Path, sql: str) -> None:
    """Change the manifest as whoever made it could have: everything else says it is the one."""
    rewrite_table(work / "manifest.parquet", sql)


def test_labels_in_the_shards_are_those_of_the_manifest(done: Path, tmp_path: Path) -> None:
    work = copy_of(done, tmp_path / "work")
    clip_id = name_of(TRAIN[0])
    relabel(
        work,
        f"select * replace (if(clip_id = '{clip_id}', 5, label)::smallint as label) from whole",
    )
    (fault,) = faults(work)
    assert f"{clip_id}.json says " in fault.what and "the manifest otherwise" in fault.what


@pytest.mark.parametrize(
    "sql",
    [
        "select * from whole where view <> 'k710/train'",
        "select * from whole where clip_id not like 'a%'",
        "from whole union all by name select * replace ('k700/train' as view) from whole "
        "where view = 'k400/train'",
    ],
)
def test_a_manifest_of_other_views_is_no_fault_of_the_shards(
    done: Path, tmp_path: Path, sql: str
) -> None:
    work = copy_of(done, tmp_path / "work")
    relabel(work, sql)
    assert faults(work) == ()


def test_a_json_in_a_shard_that_is_another_is_found(done: Path, tmp_path: Path) -> None:
    work = copy_of(done, tmp_path / "work")
    tar = work / "shards" / "000000.tar"
    data = tar.read_bytes()
    for former, other in ((b'"label":', b'"lable":'), (b'{"clip_id"', b'["clip_id"')):
        tar.write_bytes(data.replace(former, other, 1))
        outcomes = work / "outcomes" / "000000.parquet.json"
        said = json.loads(outcomes.read_text())
        said["notes"]["tar_sha256"] = said["inputs"]["tar"] = sha256_of(tar)
        outcomes.write_text(json.dumps(said))
        (fault,) = faults(work)
        assert fault.shard == 0 and "the manifest otherwise" in fault.what


def test_a_tar_that_is_in_no_plan_is_found(done: Path, tmp_path: Path) -> None:
    work = copy_of(done, tmp_path / "work")
    (work / "shards" / "000099.tar").write_bytes(b"")
    assert [fault.what for fault in faults(work)] == ["shards/000099.tar is in no plan"]


def test_a_run_that_was_stopped_is_no_fault(done: Path, tmp_path: Path) -> None:
    work = copy_of(done, tmp_path / "work")
    for path in [*work.glob("index.parquet*"), *work.glob("outcomes/000001.*")]:
        path.unlink()
    verified = verify_shards(work=work)
    assert verified.faults == ()
    assert verified.unfinished == verified.shards + 1


def test_other_folders_with_similar_names_are_not_read(done: Path, tmp_path: Path) -> None:
    copy_of(done, tmp_path / "w1")
    work = ready(tmp_path / "in", **FEW)
    work = work.rename(tmp_path / "w[1]")
    shard(work)
    assert len(rows_of(work, "index")) == len(FEW["train"]) + len(FEW["val"])
    assert faults(work, deep=True) == ()


def test_a_mistyped_folder_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StageError):
        verify_shards(work=tmp_path / "wrok")
    with pytest.raises(StageError):
        shard(tmp_path / "wrok")
    assert not (tmp_path / "wrok").exists()


def test_missing_clips_and_unfinished_shards_are_no_faults(tmp_path: Path) -> None:
    rows = FEW["train"]
    work = build(tmp_path, **FEW)
    index_videos([write_videos(tmp_path / "few", rows[::2])], work=work)
    shard(work)
    assert len(rows_of(work, "index")) == len(rows[::2])
    assert faults(work, deep=True) == ()
    for path in work.glob("*/000000.*"):
        path.unlink()
    verified = verify_shards(work=work)
    assert verified.unfinished == 1


def test_no_shards_is_said(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="k710 shard --views"):
        verify_shards(work=tmp_path)
