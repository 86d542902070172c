"""From views to shards: every clip once, every failure told, the same bytes however it went."""

import gc
import json
import shutil
import tarfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import webdataset

from k710.errors import StageError
from k710.files import locked, sha256_of
from k710.part import Part
from k710.shards.run import make_shards
from k710.shards.verify import verify_shards
from k710.sources.index import index_videos
from k710.tables.schemas import TABLES
from k710.video.encode import Encoding
from k710.video.frames import read_frames
from k710.video.profiles import PROFILES
from support.list_files import vid
from support.small_manifest import manifest_of, refresh
from support.small_shards import (
    FEW,
    FPS,
    SECONDS,
    TRAIN,
    VAL,
    all_made,
    all_ready,
    build,
    copy_of,
    name_of,
    ready,
    rows_of,
    shard,
    statuses,
    tars,
    write_video,
    write_videos,
)

EVERY = {name_of(row) for row in [*TRAIN, *VAL]}


@pytest.fixture(scope="module")
def done() -> Path:
    """A work directory with all its shards made, never written to."""
    return all_made()


# --- what comes out


def test_each_clip_is_stored_once(done: Path) -> None:
    index = rows_of(done, "index", "clip_id, shard, num_frames, fps, width, height, duration_s")
    assert [row[0] for row in index] == sorted(EVERY)
    assert len({row[1] for row in index}) > 1
    for row in index:
        assert row[2:] == (SECONDS * FPS, FPS, 72, 48, SECONDS)
    assert set(statuses(done).values()) == {"ok"}


def test_one_read_at_its_offset_gets_a_clip(done: Path) -> None:
    for clip_id, number, offset, size in rows_of(done, "index", 'clip_id, shard, "offset", bytes'):
        path = done / "shards" / f"{number:06d}.tar"
        data = path.read_bytes()[offset : offset + size]
        assert read_frames(data, [0, SECONDS * FPS - 1]).shape == (2, 48, 72, 3)
        with tarfile.open(path) as tar:
            member = tar.extractfile(f"{clip_id}.mp4")
            assert member is not None and member.read() == data


def test_tars_tell_nothing_of_when_and_where(done: Path) -> None:
    for path in (done / "shards").glob("*.tar"):
        with tarfile.open(path) as tar:
            for member in tar:
                assert (member.mtime, member.uid, member.gid, member.mode) == (0, 0, 0, 0o644)
                assert (member.uname, member.gname, member.type) == ("", "", tarfile.REGTYPE)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_plain_webdataset_reads_whole_shards_and_so_mixes_views(done: Path) -> None:
    urls = sorted(str(path) for path in (done / "shards").glob("*.tar"))
    samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode())
    gc.collect()  # webdataset leaves files open: that is no matter of other tests
    assert {sample["__key__"] for sample in samples} == EVERY
    for sample in samples:
        assert sample["json"]["clip_id"] == sample["__key__"]
        assert read_frames(sample["mp4"], [5]).shape == (1, 48, 72, 3)


def test_the_json_has_the_label_of_every_view(done: Path) -> None:
    for number in range(2):
        with tarfile.open(done / "shards" / f"{number:06d}.tar") as tar:
            for name in [name for name in tar.getnames() if name.endswith(".json")]:
                member = tar.extractfile(name)
                assert member is not None
                sample = json.load(member)
                (row,) = (row for row in [*TRAIN, *VAL] if name_of(row) == sample["clip_id"])
                split = "val" if row in VAL else "train"
                assert sample["label_name"] == row[0]
                label = sample["label"]
                assert sample["views"] == {f"k400/{split}": label, f"k710/{split}": label}


def test_tables_have_their_schemas(done: Path) -> None:
    for table in ("sources", "plan", "index"):
        sidecar = json.loads((done / f"{table}.parquet.json").read_text())
        assert sidecar["schema"] == TABLES[table].columns
    outcomes = sorted((done / "outcomes").glob("*.parquet"))
    assert len(outcomes) == len(list((done / "shards").glob("*.tar")))
    assert not (done / "staging").exists()


def test_every_status_in_one_run(tmp_path: Path) -> None:
    rows = TRAIN[:6]
    work = build(tmp_path, train=rows)
    paths = [tmp_path / "v" / f"{name_of(row)}.mp4" for row in rows]
    write_video(paths[0])
    write_video(paths[1], SECONDS * 0.6)
    write_video(paths[2], SECONDS * 0.4)
    broken = bytearray(write_video(paths[3]).read_bytes())
    middle = broken.index(b"mdat") + 2000
    broken[middle : middle + 500] = bytes(500)
    paths[3].write_bytes(broken)
    paths[4].write_bytes(b"")
    index_videos([tmp_path / "v"], work=work)
    summary = shard(work, ["k400/train"])
    found = {row[0]: row[1:] for row in rows_of(work, "sources", "clip_id, status, detail")}
    assert [found[name_of(row)][0] for row in rows] == [
        *("ok", "truncated", "truncated", "damaged", "empty", "missing")
    ]
    assert found[name_of(rows[2])][1] == "0.8 of 2 s"
    stored = {row[0] for row in rows_of(work, "index", "clip_id")}
    assert stored == {name_of(row) for row in rows[:2]}
    assert {fate.status: (fate.clips, fate.stored) for fate in summary.fates} == {
        "ok": (1, 1),
        "truncated": (2, 1),
        "damaged": (1, 0),
        "empty": (1, 0),
        "missing": (1, 0),
    }
    assert verify_shards(work=work, deep=True, workers=1).faults == ()


def test_a_shard_of_which_nothing_could_be_had_has_no_tar(tmp_path: Path) -> None:
    work = build(tmp_path)
    (tmp_path / "empty").mkdir()
    index_videos([tmp_path / "empty"], work=work)
    shard(work)
    assert not list((work / "shards").glob("*.tar"))
    assert rows_of(work, "index") == []
    assert shard(work).shards_made == ()
    assert verify_shards(work=work).faults == ()


# --- the same bytes


@pytest.mark.parametrize("options", [{"workers": 2}, {"staging_bytes": 1}])
def test_neither_workers_nor_staging_change_a_byte(
    done: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    work = copy_of(all_ready(), tmp_path / "work")
    shard(work, **options)
    assert tars(work) == tars(done)


@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
def test_archives_give_the_same_bytes_as_folders(done: Path, tmp_path: Path, kind: str) -> None:
    work = build(tmp_path)
    folder = write_videos(tmp_path / "videos", [*TRAIN, *VAL])
    with tarfile.open(tmp_path / f"all.{kind}", "w:gz" if kind == "tar.gz" else "w") as tar:
        tar.add(folder, "part_0")
    shutil.rmtree(folder)
    index_videos([tmp_path / f"all.{kind}"], work=work)
    shard(work)
    assert tars(work) == tars(done)


def test_a_second_run_does_nothing(done: Path, tmp_path: Path) -> None:
    work = copy_of(done, tmp_path / "work")
    before = {path: path.stat().st_mtime_ns for path in work.rglob("*.*") if path.is_file()}
    assert shard(work).shards_made == ()
    assert shard(work, ["k710/train"]).shards_made == ()
    after = {path: path.stat().st_mtime_ns for path in work.rglob("*.*") if path.is_file()}
    assert {path for path in before if before[path] != after.get(path)} <= {work / ".lock"}


def test_a_removed_shard_is_made_again_byte_for_byte(done: Path, tmp_path: Path) -> None:
    work = copy_of(done, tmp_path / "work")
    (work / "shards" / "000001.tar").unlink()
    assert shard(work).shards_made == (1,)
    assert tars(work) == tars(done)


# --- later runs


def test_more_views_append_and_rewrite_nothing(tmp_path: Path) -> None:
    work = copy_of(all_ready(), tmp_path / "work")
    shard(work, ["k710/val"])
    before = tars(work)
    summary = shard(work, ["k710/val", "k400/train"])
    assert 0 not in summary.shards_made
    after = tars(work)
    for name, data in before.items():
        if name[0] == "0":
            assert after[name] == data
    assert {row[0] for row in rows_of(work, "index", "clip_id")} == EVERY


@pytest.fixture(scope="module")
def with_hole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its shards were made while there were no copies of VAL; those lie in more/ beside it."""
    folder = tmp_path_factory.mktemp("hole")
    work = build(folder)
    index_videos([write_videos(folder / "few", TRAIN)], work=work)
    shard(work)
    write_videos(folder / "more", VAL)
    return work


@pytest.fixture(scope="module")
def appended(with_hole: Path) -> Path:
    """The same work directory, with shards of VAL too."""
    work = copy_of(with_hole, with_hole.with_name("appended"))
    index_videos([with_hole.with_name("more")], work=work)
    shard(work)
    return work


def test_a_copy_that_turns_up_later_is_appended(
    with_hole: Path, appended: Path, tmp_path: Path
) -> None:
    assert statuses(with_hole)[name_of(VAL[0])] == "missing"
    before, after = tars(with_hole), tars(appended)
    new = [name for name in after if name.endswith(".tar") and name not in before]
    assert min(new) > max(name for name in before if name.endswith(".tar"))
    assert {row[0] for row in rows_of(appended, "index", "clip_id")} == EVERY
    assert all(after[name] == before[name] for name in before if name.endswith(".tar"))
    assert shard(copy_of(appended, tmp_path / "work")).shards_made == ()


def test_what_failed_is_tried_again_only_if_asked_or_changed(tmp_path: Path) -> None:
    work = build(tmp_path, **FEW)
    folder = write_videos(tmp_path / "v", [*FEW["train"], *FEW["val"]])
    (path,) = folder.rglob(f"{name_of(VAL[0])}.mp4")
    sound = path.read_bytes()
    path.write_bytes(sound[:-2000])
    index_videos([folder], work=work)
    shard(work)
    assert statuses(work)[name_of(VAL[0])] == "damaged"
    index_videos([folder], work=work)
    assert statuses(work)[name_of(VAL[0])] == "damaged", "index does not forget"
    assert shard(work).shards_made == ()
    assert len(shard(work, retry=True).shards_made) == 1
    assert statuses(work)[name_of(VAL[0])] == "damaged"
    path.write_bytes(sound)
    index_videos([folder], work=work)
    assert len(shard(work).shards_made) == 1
    assert statuses(work)[name_of(VAL[0])] == "ok"


def test_stored_clips_stay_stored_when_their_copies_are_gone(done: Path, tmp_path: Path) -> None:
    work = copy_of(done, tmp_path / "work")
    (tmp_path / "nothing").mkdir()
    index_videos([done.parent / "videos"], work=work)
    index_videos([tmp_path / "nothing"], work=work)
    assert set(statuses(work).values()) == {"ok"}


@pytest.mark.parametrize(
    "encoding", [Encoding("intra"), Encoding(short_side=32), Encoding(fps=Fraction(5))]
)
def test_other_settings_are_refused(done: Path, tmp_path: Path, encoding: Encoding) -> None:
    work = copy_of(done, tmp_path / "work")
    with pytest.raises(StageError, match=r"are made with .* \(now "):
        shard(work, encoding=encoding)
    assert tars(work) == tars(done)


def test_a_removed_shard_with_a_hole_is_made_with_that_hole(appended: Path, tmp_path: Path) -> None:
    work = copy_of(appended, tmp_path / "work")
    before = tars(work)
    for path in (work / "shards").glob("*.tar"):
        path.unlink()
    shard(work)
    assert tars(work) == before
    assert verify_shards(work=work, deep=True, workers=1).faults == ()


def test_a_tar_of_a_killed_run_goes_where_nothing_can_be_had_any_more(tmp_path: Path) -> None:
    work = ready(tmp_path, **FEW)
    shard(work)
    for path in [*work.glob("outcomes/*"), *work.glob("shards/*.parquet*")]:
        path.unlink()
    shutil.rmtree(tmp_path / "videos")
    index_videos([tmp_path], work=work)  # not what lies in the work directory
    shard(work)
    assert not list((work / "shards").glob("*.tar"))
    assert shard(work).shards_made == ()
    assert verify_shards(work=work).faults == ()


def test_retry_tries_what_the_probe_gave_up(tmp_path: Path) -> None:
    work = build(tmp_path, **FEW)
    folder = write_videos(tmp_path / "v", [*FEW["train"], *FEW["val"]])
    (path,) = folder.rglob(f"{name_of(VAL[0])}.mp4")
    sound = path.read_bytes()
    path.write_bytes(sound[:-3000] + bytes(3000))
    index_videos([folder], work=work, probe=True)
    assert statuses(work)[name_of(VAL[0])] == "damaged"
    shard(work)
    path.write_bytes(sound)
    assert len(shard(work, retry=True).shards_made) == 1
    assert statuses(work)[name_of(VAL[0])] == "ok"


def test_a_sound_copy_is_taken_where_the_better_one_is_damaged(tmp_path: Path) -> None:
    work = build(tmp_path, **FEW)
    folder = write_videos(tmp_path / "v", [*FEW["train"], *FEW["val"]])
    (path,) = folder.rglob(f"{name_of(VAL[0])}.mp4")
    sound = path.read_bytes()
    path.write_bytes(sound[:-3000] + bytes(3000))
    index_videos([folder], work=work)
    shard(work)
    assert statuses(work)[name_of(VAL[0])] == "damaged"
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / path.name).write_bytes(sound)
    index_videos([tmp_path / "w"], work=work)
    assert len(shard(work).shards_made) == 1
    assert statuses(work)[name_of(VAL[0])] == "ok"
    index_videos([folder], work=work)
    assert statuses(work)[name_of(VAL[0])] == "ok"


def test_one_plan_is_made_by_one_version(done: Path, tmp_path: Path) -> None:
    work = copy_of(done, tmp_path / "work")
    path = work / "outcomes" / "000000.parquet.json"
    sidecar = json.loads(path.read_text())
    sidecar["params"]["versions"]["av"] = "15.0.0"
    path.write_text(json.dumps(sidecar))
    assert shard(work).shards_made == ()
    (work / "shards" / "000001.tar").unlink()
    with pytest.raises(StageError, match=r"av '15.0.0' \(now [\s\S]*pip install av==15.0.0"):
        shard(work)


# --- copy


def test_copy_takes_the_bytes_as_they_are(tmp_path: Path) -> None:
    plain = ready(tmp_path / "plain", **FEW)
    shard(plain, encoding=Encoding("copy"))
    probed = ready(tmp_path / "probed", probe=True, workers=1, **FEW)
    shard(probed, encoding=Encoding("copy"))
    for work in (plain, probed):
        for path in (work.parent / "videos").rglob("*.mp4"):
            (row,) = (row for row in rows_of(work, "index") if row[0] == path.stem)
            tar = work / "shards" / f"{row[1]:06d}.tar"
            assert tar.read_bytes()[row[2] : row[2] + row[3]] == path.read_bytes()
            assert row[5:] == (SECONDS * FPS, FPS, 72, 48, None, SECONDS)
        assert verify_shards(work=work, deep=True, workers=1).faults == ()
    assert tars(plain) == tars(probed)


@pytest.mark.parametrize("probe", [False, True])
@pytest.mark.parametrize("profile", ["balanced", "copy"])
def test_what_is_longer_is_cut_unless_it_is_named_after_its_window(
    tmp_path: Path, profile: str, probe: bool
) -> None:
    rows = TRAIN[:2]
    work = build(tmp_path, train=rows)
    write_video(tmp_path / "v" / f"{name_of(rows[0])}.mp4", 5)
    write_video(tmp_path / "v" / f"{vid(rows[1][1])}.mp4", rows[1][3] + 4)
    index_videos([tmp_path / "v"], work=work, probe=probe, workers=1)
    shard(work, ["k400/train"], encoding=Encoding(profile))
    frames = rows_of(work, "index", "clip_id, num_frames, gop")
    assert frames == [(name_of(rows[1]), SECONDS * FPS, PROFILES["balanced"].gop)]
    told = {row[0]: row[1:] for row in rows_of(work, "sources", "clip_id, status, detail, trimmed")}
    status, detail, trimmed = told[name_of(rows[0])]
    assert (status, trimmed) == ("mismatched", True)
    assert "last 5.0 s" in detail and "after 2 s" in detail
    assert told[name_of(rows[1])] == ("ok", None, False)


def test_a_file_that_changed_since_it_was_probed_is_looked_at_again(tmp_path: Path) -> None:
    work = ready(tmp_path, probe=True, workers=1, **FEW)
    (path,) = (work.parent / "videos").rglob(f"{name_of(TRAIN[0])}.mp4")
    data = bytearray(path.read_bytes())
    data[data.index(b"mdat") + 1500 : data.index(b"mdat") + 1900] = bytes(400)
    path.write_bytes(data)
    shard(work, encoding=Encoding("copy"))
    assert statuses(work)[name_of(TRAIN[0])] == "damaged"
    assert name_of(TRAIN[0]) not in {row[0] for row in rows_of(work, "index", "clip_id")}
    assert verify_shards(work=work, deep=True, workers=1).faults == ()


# --- files named by their id alone


def test_a_bare_file_is_decided_by_its_length(tmp_path: Path) -> None:
    rows = [("archery", "a", 1, 3), ("yoga", "b", 1, 3)]
    work = build(tmp_path, train=rows)
    write_video(tmp_path / "v" / f"{vid('a')}.mp4", 2.3)
    write_video(tmp_path / "v" / f"{vid('b')}.mp4", 8)
    index_videos([tmp_path / "v"], work=work)
    shard(work, ["k400/train"])
    found = {row[0]: row[1:] for row in rows_of(work, "sources", "clip_id, trimmed, starts_at_s")}
    assert found[name_of(rows[0])] == (True, 1.0)
    assert found[name_of(rows[1])] == (False, 0.0)
    assert rows_of(work, "index", "num_frames") == [(20,), (20,)]


def test_one_trimmed_file_is_never_two_windows(tmp_path: Path) -> None:
    rows = [("archery", "a", 1, 3), ("yoga", "a", 11, 13), ("bowling", "b", 0, 2)]
    work = build(tmp_path, train=rows)
    write_video(tmp_path / "v" / f"{vid('a')}.mp4", 2)
    write_video(tmp_path / "v" / f"{vid('b')}.mp4", 2)
    index_videos([tmp_path / "v"], work=work)
    shard(work, ["k400/train"])
    assert [statuses(work)[name_of(row)] for row in rows] == ["missing", "missing", "ok"]
    (detail,) = (d for c, d in rows_of(work, "sources", "clip_id, detail") if c == name_of(rows[0]))
    assert "could be any of 2 windows" in detail and name_of(rows[0]) in detail


def test_several_windows_of_one_whole_video(tmp_path: Path) -> None:
    rows = [("archery", "a", 1, 3), ("yoga", "a", 5, 7), ("bowling", "a", 7, 9)]
    work = build(tmp_path, train=rows)
    with tarfile.open(tmp_path / "videos.tgz", "w:gz") as tar:
        tar.add(write_video(tmp_path / "x.mp4", 8), f"./deep/{vid('a')}.mp4")
    index_videos([tmp_path / "videos.tgz"], work=work)
    shard(work, ["k400/train"])
    assert [statuses(work)[name_of(row)] for row in rows] == ["ok", "ok", "truncated"]


def test_archives_of_one_name_are_not_mixed_up(tmp_path: Path) -> None:
    work = build(tmp_path, **FEW)
    rows = [*FEW["train"], *FEW["val"]]
    for number, row in enumerate(rows):
        archive = tmp_path / "videos" / f"vol_{number:02d}" / "part_0.tar.gz"
        archive.parent.mkdir(parents=True)
        video = write_video(tmp_path / "x.mp4", seed=number)
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(video, f"{name_of(row)}.mp4")
    index_videos([tmp_path / "videos"], work=work)
    shard(work, encoding=Encoding("copy"), workers=2)
    assert set(statuses(work).values()) == {"ok"}
    stored = dict(rows_of(work, "index", "clip_id, sha256"))
    for number, row in enumerate(rows):
        video = write_video(tmp_path / "x.mp4", seed=number)
        assert stored[name_of(row)] == sha256_of(video), row


# --- what goes wrong


def test_a_clip_that_hangs_is_ours_and_costs_no_other(tmp_path: Path) -> None:
    work = copy_of(all_ready(), tmp_path / "work")
    # One worker: while a second one starts, the first has time to be done.
    summary = shard(work, ["k400/val"], timeout_s=1e-6, workers=1)
    assert set(statuses(work)[name_of(row)] for row in VAL) <= {"failed", "ok"}
    assert {fate.status for fate in summary.fates} >= {"failed"}
    shard(work, ["k400/val"], retry=True)
    assert {statuses(work)[name_of(row)] for row in VAL} == {"ok"}


def test_copies_that_vanish_are_missing(tmp_path: Path) -> None:
    work = ready(tmp_path, **FEW)
    for path in (work.parent / "videos").rglob(f"{name_of(TRAIN[0])}.mp4"):
        path.unlink()
    shard(work)
    found = {row[0]: row[1:] for row in rows_of(work, "sources", "clip_id, status, detail")}
    assert found[name_of(TRAIN[0])] == ("missing", "can't be read: No such file or directory")


def test_copies_that_were_away_and_are_there_again_are_had_next(tmp_path: Path) -> None:
    work = ready(tmp_path, **FEW)
    videos = work.parent / "videos"
    videos.rename(tmp_path / "away")
    shard(work)
    assert set(statuses(work).values()) == {"missing"}
    (tmp_path / "away").rename(videos)
    index_videos([videos], work=work)
    shard(work)
    stored = {row[0] for row in rows_of(work, "index", "clip_id")}
    assert stored == {name_of(row) for row in [*FEW["train"], *FEW["val"]]}
    assert shard(work).shards_made == ()


def test_what_is_advised_lets_another_encoding_be_made(tmp_path: Path) -> None:
    work = ready(tmp_path, **FEW)
    shard(work)
    with pytest.raises(StageError, match=r"or remove shards/, outcomes/ and plan\.parquet"):
        shard(work, encoding=Encoding("intra"))
    for folder in ("shards", "outcomes"):
        shutil.rmtree(work / folder)
    (work / "plan.parquet").unlink()
    shard(work, encoding=Encoding("intra"))
    assert set(statuses(work).values()) == {"ok"}


def test_an_archive_that_is_cut_short_costs_what_it_lacks(tmp_path: Path) -> None:
    work = build(tmp_path)
    archive = tmp_path / "all.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(write_videos(tmp_path / "videos", [*TRAIN, *VAL]), "all")
    index_videos([archive], work=work)
    archive.write_bytes(archive.read_bytes()[:-20_000])
    shard(work)
    found = statuses(work)
    assert set(found.values()) == {"ok", "damaged"}
    assert len(rows_of(work, "index")) == sum(status == "ok" for status in found.values())
    assert verify_shards(work=work, deep=True, workers=1).faults == ()


def test_sources_of_another_manifest_are_refused(tmp_path: Path) -> None:
    work = copy_of(all_ready(), tmp_path / "work")
    build(tmp_path, train=TRAIN[:4])
    with pytest.raises(StageError, match="of another manifest"):
        shard(work)


def test_a_manifest_that_changed_half_way_leaves_its_places_empty(
    done: Path, tmp_path: Path
) -> None:
    work = copy_of(done, tmp_path / "work")
    for name in ("000001.tar", "000001.parquet"):
        (work / "shards" / name).unlink()
    before = rows_of(work, "plan")
    gone = {clip_id for clip_id, number, _ in before if number == 1}
    rows = [row for row in TRAIN if name_of(row) not in gone]
    kept = [row for row in TRAIN if name_of(row) in gone][:1]
    build(tmp_path, train=[*rows, *kept])
    index_videos([done.parent / "videos"], work=work)
    shard(work)
    assert rows_of(work, "plan") == before
    assert verify_shards(work=work, deep=True, workers=1).faults == ()
    details = rows_of(work, "outcomes/000001", "clip_id, detail")
    assert sum(detail == "no longer in the manifest" for _, detail in details) == len(gone) - len(
        [row for row in [*kept, *VAL] if name_of(row) in gone]
    )


def test_sources_say_what_became_of_clips_after_a_kill_between(tmp_path: Path) -> None:
    work = ready(tmp_path, **FEW)
    (path,) = (work.parent / "videos").rglob(f"{name_of(TRAIN[0])}.mp4")
    path.write_bytes(path.read_bytes()[:-3000])
    stale = {
        name: (work / name).read_bytes() for name in ("sources.parquet", "sources.parquet.json")
    }
    shard(work)
    for name, data in stale.items():
        (work / name).write_bytes(data)
    assert statuses(work)[name_of(TRAIN[0])] == "ok"
    shard(work)
    assert statuses(work)[name_of(TRAIN[0])] == "damaged"


def test_what_is_not_built_is_said(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="k710 build-manifest"):
        shard(tmp_path / "none")
    work = build(tmp_path)
    with pytest.raises(StageError, match="k710 index --videos"):
        shard(work)


def test_unknown_views_are_refused(done: Path) -> None:
    with pytest.raises(StageError, match=r"no view 'k400/trains'[\s\S]*k400/train, k400/val"):
        make_shards(["k400/trains"], work=done)


def test_a_work_directory_in_use_is_refused(done: Path) -> None:
    with locked(done), pytest.raises(StageError, match="in use"):
        shard(done)


@pytest.mark.parametrize(
    "options", [{"workers": 0}, {"timeout_s": float("nan")}, {"shard_bytes": 0}]
)
def test_wrong_numbers_are_refused(done: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        shard(done, **options)


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    work = copy_of(all_ready(), tmp_path / "work")
    before = sorted(work.rglob("*"))
    summary = shard(work, dry_run=True)
    assert sorted(work.rglob("*")) == before
    assert (summary.clips_to_make, summary.clips_without_copy) == (len(EVERY), 0)
    assert summary.hours_to_make == len(EVERY) * SECONDS / 3600
    assert summary.shards_made == ()


@pytest.mark.parametrize("options", [{}, {"part": Part(9, 16)}, {"part": Part(1, 16)}])
def test_a_dry_run_with_nothing_left_to_make(
    done: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    summary = shard(copy_of(done, tmp_path / "work"), dry_run=True, **options)
    made = summary.clips_to_make, summary.clips_without_copy, summary.hours_to_make
    assert (*made, summary.estimated_bytes, summary.clips_undecided) == (0, 0, 0, 0, 0)


def test_a_folder_that_can_not_be_written_is_said(tmp_path: Path) -> None:
    work = copy_of(all_ready(), tmp_path / "work")
    (work / "shards").write_text("in the way")
    with pytest.raises(StageError, match=f"{work}/shards"):
        shard(work)
    assert not list(work.rglob("*.tmp"))


def test_names_that_look_like_options_or_paths(tmp_path: Path) -> None:
    rows = [("archery", "--rf_______", 0, 2), ("yoga", "-_-________", 0, 2)]
    work = build(tmp_path, train=rows)
    index_videos([write_videos(tmp_path / "a'b [c] $(x)", rows)], work=work)
    shard(work, ["k400/train"])
    assert {row[0] for row in rows_of(work, "index", "clip_id")} == {name_of(row) for row in rows}


def test_a_view_without_a_row_is_refused_before_a_plan_pins_the_encoding(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, ("archery", "a", 0, 10))
    refresh(work)
    with pytest.raises(StageError, match="There is no view 'k710/val'"):
        shard(work, ["k710/val"])
    assert not (work / "plan.parquet").exists()
