"""Which copy is taken for which clip, what is counted, and what a second run changes."""

import itertools
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings, strategies as st

from k710.errors import SourceError, StageError
from k710.sources.index import IndexSummary, index_videos
from k710.tables.sidecar import read_sidecar
from support.list_files import vid
from support.small_manifest import (
    clip,
    forget,
    manifest_of,
    open_work,
    pack,
    paths,
    put,
    record,
    sources,
)

A = ("archery", "a", 0, 10)
B = ("bowling", "b", 5, 15)


def counts(summary: IndexSummary) -> dict[str, tuple[int, int]]:
    return {view.view: (view.found, view.missing) for view in summary.views}


def columns(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("status", "uri", "bytes", "trimmed", "starts_at_s", "tool"))


# --- names


def test_clips_are_found_in_any_published_layout(tmp_path: Path) -> None:
    ids = ["-a", "_b", "c", "d", "e", "f", "g"]
    work = manifest_of(tmp_path, *(("massaging person's head", i, 0, 10) for i in ids))
    videos = put(
        tmp_path / "videos",
        {
            f"train/massaging person's head/{clip('-a')}.mp4": 1,
            f"train/massaging_person's_head/{clip('_b')}.MP4": 1,
            f"massaging_persons_head/{clip('c')}.mkv": 1,
            f"vol_07/{vid('d')}.webm": 1,
            f"{clip('e')}.avi": 1,
        },
    )
    pack(videos / "k400" / "train_1.tar", {f"./x/{clip('f')}.mov": 1})
    pack(videos / "train_2.tar.gz", {f"{vid('g')}.m4v": 1})
    index_videos([videos], work=work)
    assert paths(work, videos) == {
        clip("-a"): f"train/massaging person's head/{clip('-a')}.mp4",
        clip("_b"): f"train/massaging_person's_head/{clip('_b')}.MP4",
        clip("c"): f"massaging_persons_head/{clip('c')}.mkv",
        clip("d"): f"vol_07/{vid('d')}.webm",
        clip("e"): f"{clip('e')}.avi",
        clip("f"): f"k400/train_1.tar:./x/{clip('f')}.mov",
        clip("g"): f"train_2.tar.gz:{vid('g')}.m4v",
    }


def test_rows_of_found_and_missing_clips(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, A, B, ("yoga", "c", 3, 13))
    videos = put(tmp_path / "videos", {f"{clip('a')}.mp4": 7, f"{vid('b')}.mp4": 8})
    index_videos([videos], work=work)
    a, b, c = sources(work).values()
    assert columns(a) == ("ok", f"{videos}/{clip('a')}.mp4", 7, True, 0.0, "index")
    assert columns(b) == ("ok", f"{videos}/{vid('b')}.mp4", 8, None, None, "index")
    assert columns(c) == ("missing", None, None, None, None, "index")
    unknown = ("detail", "member", "sha256", "width", "height", "fps", "num_frames", "codec")
    assert {row[name] for row in (a, b, c) for name in unknown} == {None}


def test_other_windows_and_other_cases_are_no_copies(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, A)
    names = (clip("a", 1), clip("A"), clip("a", 0, 11), vid("A"), vid("a")[1:], f"x{clip('a')}")
    put(tmp_path / "videos", {f"{name}.mp4": 1 for name in names})
    summary = index_videos([tmp_path / "videos"], work=work)
    assert (summary.videos, summary.unknown) == (6, 6)
    assert summary.unknown_first == tuple(
        sorted(f"{tmp_path}/videos/{name}.mp4" for name in names)[:5]
    )
    assert counts(summary)["k400/train"] == (0, 1)


NAMES = st.text(
    st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=30
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work directory with the clips a and b."""
    return manifest_of(tmp_path_factory.mktemp("built"), A, ("bowling", "b", 0, 10))


@pytest.mark.parametrize("examples", [3, pytest.param(30, marks=pytest.mark.slow)])
def test_junk_names_are_only_counted(built: Path, examples: int) -> None:
    @settings(max_examples=examples)
    @given(names=st.lists(NAMES, max_size=20), members=st.lists(st.text(max_size=40), max_size=20))
    @example(
        names=["%s", "'", '"; drop table manifest; --', "$roots", "\x1b[31m", "*?[a]"], members=[]
    )
    @example(names=[], members=["", "/", "//", "a/", ".", "..", "\n", "a\0b", clip("a") + "\n"])
    def law(names: list[str], members: list[str]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            forget(built)
            videos = Path(folder, "videos")
            put(videos, {f"{clip('a')}.mp4": 9})
            files = {name[:60] + ".mp4" for name in names if len(name.encode()) < 200}
            put(videos, {name: 1 for name in files if not name.startswith(".")})
            pack(videos / "x.tar", {f"{member}.mp4": 1 for member in members})
            summary = index_videos([videos], work=built)
            assert (summary.used, counts(summary)["k400/train"]) == (1, (1, 1))
            assert summary.videos == summary.used + summary.duplicates + summary.unknown

    law()


# --- which of several


def test_trimmed_first_then_larger_then_by_path(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, A, B)
    videos = put(
        tmp_path / "videos",
        {
            f"whole/{vid('a')}.mp4": 999,
            f"z/{clip('a')}.mp4": 5,
            f"y/{clip('a')}.mkv": 6,
            f"x/{clip('a')}.mkv": 6,
            f"w/{vid('b')}.mp4": 3,
            f"v/{vid('b')}.mp4": 4,
        },
    )
    pack(videos / "t.tar", {f"b/{clip('a')}.mp4": 6, f"a/{clip('a')}.mp4": 6})
    summary = index_videos([videos], work=work)
    assert paths(work, videos) == {
        clip("a"): f"t.tar:a/{clip('a')}.mp4",
        clip("b", 5): f"v/{vid('b')}.mp4",
    }
    assert (summary.videos, summary.used, summary.duplicates) == (8, 2, 6)
    assert next(view for view in summary.views if view.view == "k400/train").duplicates == 6


COPIES = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "z"]),
        st.sampled_from(["m/", "n/", "", "in.tar:", "in.tar:p/", "in.tar.gz:"]),
        st.sampled_from(["clip", "id"]),
        st.sampled_from([".mp4", ".MP4", ".mkv"]),
        st.integers(0, 3),
    ),
    max_size=15,
    unique_by=lambda copy: copy[:4],
)


@pytest.mark.parametrize("examples", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_the_choice_is_a_law_and_does_not_depend_on_order(built: Path, examples: int) -> None:
    @settings(max_examples=examples)
    @given(copies=COPIES, seed=st.integers(0, 99))
    def law(copies: Any, seed: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            forget(built)
            root = Path(folder)
            files: dict[str, int] = {}
            packed: dict[str, dict[str, int]] = {}
            best: dict[str, tuple[Any, ...]] = {}
            for name, where, kind, ending, size in copies:
                file = (clip(name) if kind == "clip" else vid(name)) + ending
                archive, colon, inside = where.rpartition(":")
                if colon:
                    packed.setdefault(archive, {})[inside + file] = size
                else:
                    files[where + file] = size
                uri = archive if colon else where + file
                key = (kind != "clip", -size, uri, inside + file if colon else "")
                best[clip(name)] = min(best.get(clip(name), key), key)
            written = [root / str(turn) for turn in range(2)]
            for turn, videos in enumerate(written):
                videos.mkdir()
                shuffled = random.Random(seed + turn)
                put(videos, dict(shuffled.sample(list(files.items()), len(files))))
                for archive, inside in packed.items():
                    pack(videos / archive, dict(shuffled.sample(list(inside.items()), len(inside))))
                summary = index_videos([videos], work=built, workers=turn + 1)
                found = {
                    clip_id: (row["uri"], row["member"] or "")
                    for clip_id, row in sources(built).items()
                    if row["uri"]
                }
                forget(built)
                assert found == {
                    clip_id: (f"{videos}/{uri}", member)
                    for clip_id, (*_, uri, member) in best.items()
                    if clip_id != clip("z")
                }
                fits = [copy for copy in copies if copy[0] != "z"]
                assert summary.videos == len(copies)
                assert (summary.used, summary.duplicates) == (len(found), len(fits) - len(found))

    law()


def test_a_whole_video_is_the_copy_of_all_its_windows(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, A, ("yoga", "a", 50, 60), ("yoga", "a", 70, 75))
    videos = put(tmp_path / "videos", {f"{vid('a')}.mp4": 5, f"{clip('a', 50)}.mp4": 2})
    summary = index_videos([videos], work=work)
    assert paths(work, videos) == {
        clip("a"): f"{vid('a')}.mp4",
        clip("a", 50): f"{clip('a', 50)}.mp4",
        clip("a", 70, 75): f"{vid('a')}.mp4",
    }
    assert (summary.used, summary.duplicates) == (2, 0)


def test_a_clip_counts_in_each_of_its_views(tmp_path: Path) -> None:
    work = manifest_of(
        tmp_path, k400_train=[A, B], k600_train=[A], k700_test=[("yoga", "t", 0, 10)]
    )
    put(tmp_path / "videos", {f"{clip('a')}.mp4": 1, f"{vid('a')}.mp4": 1})
    summary = index_videos([tmp_path / "videos"], work=work)
    found = {"k400/train": (1, 1), "k600/train": (1, 0), "k710/train": (1, 1), "k700/test": (0, 1)}
    assert counts(summary) == found
    duplicates = {view.view: view.duplicates for view in summary.views}
    assert duplicates == {"k400/train": 1, "k600/train": 1, "k710/train": 1, "k700/test": 0}
    assert (summary.duplicates, summary.unknown, summary.remarks) == (1, 0, ())


# --- again


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    rows = [("archery", f"v{n}", n, n + 10) for n in range(300)]
    work = manifest_of(tmp_path, *rows)
    rng = random.Random(0)
    files = {
        f"{rng.choice('abc')}/{clip(i, start)}.mp4": rng.randrange(3) for _, i, start, _ in rows
    }
    videos = put(tmp_path / "videos", files)
    pack(videos / "x.tar", {f"{vid(i)}.mp4": rng.randrange(3) for _, i, _, _ in rows[:90]})
    index_videos([videos], work=work, workers=1)
    before = (work / "sources.parquet").read_bytes()
    index_videos([videos / "x.tar", videos / "c", videos], work=work, workers=3)
    assert (work / "sources.parquet").read_bytes() == before
    sidecar, manifest = (read_sidecar(work / f"{n}.parquet") for n in ("sources", "manifest"))
    assert sidecar is not None and manifest is not None
    assert sidecar.inputs["manifest"] == manifest.sha256


def test_other_paths_add_up(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, A, B, ("yoga", "c", 0, 10))
    one = put(tmp_path / "one", {f"{clip('a')}.mp4": 5, f"{clip('b', 5)}.mp4": 1})
    two = put(tmp_path / "two", {f"{clip('b', 5)}.mp4": 2, f"{vid('c')}.mp4": 1})
    both = index_videos([two, one], work=work)
    expected = (work / "sources.parquet").read_bytes()
    for order in itertools.permutations([one, two]):
        forget(work)
        last = [index_videos([path], work=work) for path in order][-1]
        assert (work / "sources.parquet").read_bytes() == expected
        assert last.views == both.views or order == (two, one)
    assert counts(both)["k400/train"] == (3, 0)


def test_what_lies_below_the_paths_is_looked_at_anew(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, A, B)
    videos = put(tmp_path / "videos", {f"{clip('a')}.mp4": 5, f"{vid('a')}.mp4": 9})
    other = put(tmp_path / "videos2", {f"{clip('b', 5)}.mp4": 5})
    archive = pack(tmp_path / "more.tar", {f"x/{clip('a')}.mp4": 1})
    index_videos([videos, other, archive], work=work)
    (videos / f"{clip('a')}.mp4").unlink()
    index_videos([videos], work=work)
    assert paths(work, tmp_path) == {
        clip("a"): f"more.tar:x/{clip('a')}.mp4",
        clip("b", 5): f"videos2/{clip('b', 5)}.mp4",
    }
    pack(archive, {f"y/{clip('a')}.mp4": 1})
    index_videos([archive], work=work)
    assert paths(work, tmp_path)[clip("a")] == f"more.tar:y/{clip('a')}.mp4"
    (videos / f"{vid('a')}.mp4").unlink()
    pack(archive, {})
    assert counts(index_videos([videos, archive], work=work))["k400/train"] == (1, 1)


def test_an_unchanged_copy_keeps_what_a_probe_said(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, A, B)
    videos = put(tmp_path / "videos", {f"{vid('a')}.mp4": 5})
    pack(videos / "b.tar", {f"{clip('b', 5)}.mp4": 5})
    index_videos([videos], work=work)
    seen = {"width": 64, "fps": 29.97, "tool": "probe av 1", "sha256": "0" * 64, "duration_s": 9.9}
    record(work, clip("a"), trimmed=False, starts_at_s=0.0, **seen)
    record(work, clip("b", 5), **seen)
    before = sources(work)
    assert before[clip("a")].items() >= seen.items() | {"trimmed": False}.items()
    index_videos([videos], work=work)
    index_videos([put(tmp_path / "elsewhere", {f"{vid('a')}.mp4": 4})], work=work)
    assert sources(work) == before
    put(videos, {f"{vid('a')}.mp4": 6})
    index_videos([videos], work=work)
    after = sources(work)
    assert (after[clip("a")]["status"], after[clip("a")]["width"]) == ("ok", None)
    assert after[clip("a")]["tool"] == "index" and after[clip("b", 5)] == before[clip("b", 5)]


def test_another_manifest_keeps_the_copies(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, A)
    videos = put(tmp_path / "videos", {f"{vid('a')}.mp4": 5})
    index_videos([videos], work=work)
    manifest_of(tmp_path, A, ("yoga", "a", 40, 50))
    (tmp_path / "nothing").mkdir()
    index_videos([tmp_path / "nothing"], work=work)
    assert paths(work, videos) == dict.fromkeys((clip("a"), clip("a", 40)), f"{vid('a')}.mp4")


# --- what can go wrong


def test_damaged_archives_are_remarks(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, A, B)
    path = pack(tmp_path / "videos" / "a.tar", {f"{clip('a')}.mp4": 1, f"{clip('b', 5)}.mp4": 1})
    path.write_bytes(path.read_bytes()[:1530])
    summary = index_videos([tmp_path / "videos"], work=work)
    assert summary.remarks == (f"{path} is cut short.",)
    assert counts(summary)["k400/train"] == (1, 1)


def test_without_a_manifest_it_says_how_to_build_one(tmp_path: Path) -> None:
    with pytest.raises(
        StageError, match=r"manifest\.parquet\.\nBuild it: k710 build-manifest --an"
    ):
        index_videos([tmp_path], work=tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="none can't be read: No such file"):
        index_videos([tmp_path, tmp_path / "none"], work=tmp_path / "work")
    with pytest.raises(ValueError, match="videos is a list of paths, not one"):
        index_videos(str(tmp_path))
    with pytest.raises(ValueError, match="workers must be at least 1, and is 0"):
        index_videos([tmp_path], workers=0)


def test_a_failed_search_leaves_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = manifest_of(tmp_path, A)
    videos = put(tmp_path / "videos", {f"{clip('a')}.mp4": 1})
    index_videos([videos], work=work)
    before = (work / "sources.parquet").read_bytes()

    def stop(what: str, done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index_videos([videos], work=work, on_progress=stop)
    assert (work / "sources.parquet").read_bytes() == before
    with open_work(work) as con:
        assert con.execute("show tables").fetchall() == [("statuses",)]


def test_the_summary_is_json(tmp_path: Path) -> None:
    from dataclasses import asdict

    work = manifest_of(tmp_path, A)
    (tmp_path / "videos").mkdir()
    summary = json.loads(json.dumps(asdict(index_videos([tmp_path / "videos"], work=work))))
    assert summary["views"][0] == {
        "view": "k400/train",
        "clips": 1,
        "found": 0,
        "missing": 1,
        "duplicates": 0,
        "statuses": {"missing": 1},
    }
