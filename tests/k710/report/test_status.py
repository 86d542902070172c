"""What has come of the clips of each view: every clip is counted once, whatever befell it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from k710.demo.lists import write_demo_lists
from k710.errors import StageError
from k710.manifest.build import build_manifest
from k710.report.status import ViewStatus, read_status
from support.list_files import vid
from support.small_manifest import clip, manifest_of
from support.small_shards import TRAIN, VAL, all_made, build, copy_of, name_of, rows_of
from support.small_tables import put_shard, put_table

STATES = {
    "ok": "to_shard",
    "truncated": "to_shard",
    "missing": "pending",
    "transient": "pending",
    "blocked": "pending",
    "failed": "pending",
    "gone": "final",
    "private": "final",
    "age": "final",
    "region": "final",
    "empty": "final",
    "damaged": "final",
}
CLASSES = ("archery", "bowling", "yoga")
CLIPS = [(CLASSES[number % 3], f"v{number}", 0, 10) for number in range(9)]
NAMES = [clip(short_id) for _, short_id, _, _ in CLIPS]


def put_sources(work: Path, **statuses: str) -> None:
    """sources.parquet: the status of each clip, with a copy where that says that there is one."""
    rows = [
        {
            "clip_id": clip(name),
            "status": status,
            "uri": f"/{clip(name)}.mp4" if STATES[status] == "to_shard" else None,
        }
        for name, status in statuses.items()
    ]
    put_table(work, "sources", rows)


def view_of(work: Path, view: str = "k400/train") -> ViewStatus:
    (found,) = read_status([view], work=work).views
    return found


def counts(view: ViewStatus) -> tuple[int, int, int, int]:
    return view.stored, view.to_shard, view.pending, view.final


# --- the law: each clip is one of four


CLIP = st.tuples(
    st.sampled_from([None, *STATES]),  # None: no row in sources.parquet
    st.booleans(),  # a copy
    st.sampled_from([None, True, False]),  # stored, not stored, in no shard
)


@pytest.mark.parametrize("examples", [6, pytest.param(60, marks=pytest.mark.slow)])
def test_the_four_states_close_whatever_the_tables_say(
    tmp_path_factory: pytest.TempPathFactory, examples: int
) -> None:
    @settings(max_examples=examples)
    @given(clips=st.lists(CLIP, min_size=len(CLIPS), max_size=len(CLIPS)))
    def law(clips: Sequence[tuple[str | None, bool, bool | None]]) -> None:
        work = manifest_of(tmp_path_factory.mktemp("law"), *CLIPS, k600_val=CLIPS[:4])
        named = list(zip(NAMES, clips, strict=True))
        rows = [
            {"clip_id": name, "status": status, "uri": "/copy" if copy else None}
            for name, (status, copy, _) in named
            if status is not None
        ]
        put_table(work, "sources", rows)
        outcomes = [
            {"clip_id": name, "stored": stored, "status": status or "missing", "uri": "/copy"}
            for name, (status, _, stored) in named
            if stored is not None
        ]
        put_shard(work, *outcomes)
        found = read_status(work=work)
        in_manifest = rows_of(work, "manifest", "view, clip_id")
        stored = {name for name, (_, _, is_stored) in named if is_stored}
        assert (found.clips, found.stored) == (len(CLIPS), len(stored))
        for view in found.views:
            names = [name for of_view, name in in_manifest if of_view == view.view]
            assert view.clips == sum(counts(view)) == len(names)
            assert view.stored == len(stored & set(names))
            assert view.clips == sum(count.clips for count in view.statuses)
            for state in ("stored", "to_shard", "pending", "final"):
                of_state = sum(count.clips for count in view.statuses if count.state == state)
                assert of_state == getattr(view, state)
                assert of_state == sum(getattr(one, state) for one in view.classes)
            assert sum(count.share for count in view.statuses) == pytest.approx(1, abs=1e-5)

    law()


@pytest.mark.parametrize("status", STATES)
def test_each_status_is_in_its_state(tmp_path: Path, status: str) -> None:
    work = manifest_of(tmp_path, CLIPS[0])
    put_sources(work, v0=status)
    (count,) = view_of(work).statuses
    assert (count.state, count.status, count.clips, count.share) == (STATES[status], status, 1, 1.0)


# --- on the way from a manifest to shards


def test_without_videos_all_are_missing(tmp_path: Path) -> None:
    work = build(tmp_path)
    found = read_status(work=work)
    assert [view.view for view in found.views] == [
        *("k710/train", "k710/val", "k400/train", "k400/val")
    ]
    assert [counts(view) for view in found.views] == 2 * [(0, 0, 12, 0), (0, 0, 2, 0)]
    assert (found.clips, found.stored, found.shards, found.shard_bytes) == (14, 0, 0, 0)


@pytest.fixture(scope="module")
def done() -> Path:
    """A work directory with all its shards made, never written to."""
    return all_made()


def test_copies_are_to_shard_and_then_stored(done: Path, tmp_path: Path) -> None:
    found = read_status(["k400/val", "k400/train", "k400/val"], work=done)
    assert [(view.view, counts(view)) for view in found.views] == [
        ("k400/val", (len(VAL), 0, 0, 0)),
        ("k400/train", (len(TRAIN), 0, 0, 0)),
    ]
    assert found.shards > 1
    assert found.shard_bytes == sum(p.stat().st_size for p in (done / "shards").glob("*.tar"))
    work = copy_of(done, tmp_path / "work")
    for path in [*(work / "outcomes").iterdir(), *(work / "shards").iterdir()]:
        path.unlink()
    assert counts(view_of(work)) == (0, len(TRAIN), 0, 0)


def test_shards_are_counted_as_they_lie_there(done: Path, tmp_path: Path) -> None:
    work = copy_of(done, tmp_path / "work")
    (work / "shards" / "000000.tar").unlink()
    lost = sum(row[1] == 0 for row in rows_of(done, "index", "clip_id, shard"))
    found = read_status(["k400/train", "k400/val"], work=work)
    assert sum(view.to_shard for view in found.views) == lost > 0
    (work / "index.parquet").unlink()
    assert read_status(["k400/train", "k400/val"], work=work) == found


def test_what_is_stored_is_stored_though_sources_is_of_before(done: Path, tmp_path: Path) -> None:
    work = copy_of(done, tmp_path / "work")
    put_table(work, "sources", [{"clip_id": name_of(VAL[0]), "status": "missing"}])
    view = view_of(work, "k400/val")
    assert counts(view) == (2, 0, 0, 0)
    assert [(count.state, count.status) for count in view.statuses] == [("stored", "ok")]


def test_nothing_is_written(done: Path) -> None:
    def all_files() -> dict[str, tuple[int, int]]:
        stats = {str(path): path.stat() for path in done.rglob("*")}
        return {path: (stat.st_mtime_ns, stat.st_size) for path, stat in stats.items()}

    before = all_files()
    read_status(work=done)
    assert all_files() == before


# --- windows that are cut short


def test_a_clip_too_short_to_store_is_dead_until_there_is_another_copy(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, *CLIPS[:2])
    put_sources(work, v0="truncated", v1="truncated")
    assert counts(view_of(work)) == (0, 2, 0, 0), "no shard run has looked at them"
    outcomes = [
        {"clip_id": NAMES[0], "stored": False, "uri": f"/{NAMES[0]}.mp4"},
        {"clip_id": NAMES[1], "stored": True, "uri": f"/{NAMES[1]}.mp4"},
    ]
    put_shard(work, *({"status": "truncated", "tool": "shard av 1", **one} for one in outcomes))
    assert counts(view_of(work)) == (1, 0, 0, 1)
    longer = {"clip_id": NAMES[0], "status": "truncated", "uri": f"/longer/{NAMES[0]}.mp4"}
    put_table(work, "sources", [longer])
    assert counts(view_of(work)) == (1, 1, 0, 0)


# --- why


def test_the_most_frequent_messages_are_given(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, *CLIPS, k600_train=CLIPS[:1])
    messages = ["c", "c", "c", "b", "a", "a", "d", None]
    rows: list[dict[str, Any]] = [
        {"clip_id": name, "status": "gone", "detail": text}
        for name, text in zip(NAMES, messages, strict=False)
    ]
    put_table(work, "sources", [*rows, {"clip_id": NAMES[8], "status": "blocked", "detail": "z"}])
    found = read_status(["k400/train", "k600/train"], work=work)
    gone, blocked = found.views[0].statuses[1], found.views[0].statuses[0]
    assert (gone.state, gone.status, gone.clips, gone.share) == ("final", "gone", 8, 0.888889)
    assert [(message.text, message.clips) for message in gone.messages] == [
        ("c", 3),
        ("a", 2),
        ("b", 1),
    ]
    assert [message.text for message in blocked.messages] == ["z"]
    assert [message.clips for message in found.views[1].statuses[0].messages] == [1]
    told = [(message.status, message.text, message.clips) for message in found.messages]
    assert told == [("gone", "c", 3), ("gone", "a", 2), ("gone", "b", 1), ("blocked", "z", 1)]


def test_what_is_stored_says_nothing(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, CLIPS[0])
    row = {"clip_id": NAMES[0], "status": "truncated", "uri": "/a", "detail": "8.1 of 10 s"}
    put_table(work, "sources", [row])
    put_shard(work, {**row, "stored": True})
    found = read_status(work=work)
    assert found.messages == ()
    assert [count.messages for count in found.views[0].statuses] == [()]


# --- classes


def test_the_class_of_which_least_is_stored_comes_first(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, *CLIPS)
    put_sources(work, v0="gone", v2="private", v5="damaged", v8="missing", v1="ok", v4="blocked")
    told = [(c.label_name, c.clips, c.final, c.share_final) for c in view_of(work).classes]
    assert told == [("yoga", 3, 2, 0.666667), ("archery", 3, 1, 0.333333), ("bowling", 3, 0, 0.0)]
    bowling = view_of(work).classes[2]
    assert (bowling.stored, bowling.to_shard, bowling.pending) == (0, 1, 2)
    outcomes = [{"clip_id": NAMES[n], "stored": True, "status": "ok"} for n in (2, 5, 0)]
    put_shard(work, *outcomes)
    told = [(c.label_name, c.stored, c.share_stored, c.share_final) for c in view_of(work).classes]
    assert told == [
        ("bowling", 0, 0.0, 0.0),
        ("archery", 1, 0.333333, 0.0),
        ("yoga", 2, 0.666667, 0.0),
    ]


def test_a_k710_view_without_clips_is_there(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, *CLIPS)
    found = read_status(work=work)
    assert [(view.view, view.clips) for view in found.views] == [
        *(("k710/train", 9), ("k710/val", 0), ("k400/train", 9))
    ]
    assert (found.views[1].statuses, found.views[1].classes) == ((), ())


def test_a_test_list_without_labels_has_no_classes(tmp_path: Path) -> None:
    write_demo_lists(tmp_path / "annotations")
    build_manifest(tmp_path / "annotations", work=tmp_path / "work")
    view = view_of(tmp_path / "work", "k700/test")
    assert view.clips > 0 and view.classes == ()
    assert view_of(tmp_path / "work", "k600/test").classes


# --- what is wrong


def test_an_unknown_view_is_told_with_the_nearest(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, CLIPS[0])
    with pytest.raises(StageError) as told:
        read_status(["k400/train", "k400/trian\x1b"], work=work)
    assert str(told.value) == (
        f"There is no view 'k400/trian\\x1b' in {work}. Nearest: k400/train.\n"
        "There are k400/train, k710/train, k710/val."
    )


@pytest.mark.parametrize("views", ["k400/train", []])
def test_views_are_a_list(tmp_path: Path, views: Any) -> None:
    with pytest.raises(ValueError, match="views must be a list of names"):
        read_status(views, work=tmp_path)


def test_without_a_manifest_the_command_that_builds_it_is_told(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="Build it: k710 build-manifest"):
        read_status(work=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_sources_without_sidecar_do_not_pass_for_none(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, CLIPS[0])
    put_sources(work, v0="ok")
    (work / "sources.parquet.json").unlink()
    with pytest.raises(StageError, match=r"no finished .*sources\.parquet"):
        read_status(work=work)


def test_clips_that_left_the_manifest_do_not_count(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, CLIPS[0])
    row = {"clip_id": f"{vid('other')}_000000_000010", "status": "ok", "uri": "/a"}
    put_table(work, "sources", [row])
    put_shard(work, {**row, "stored": True})
    assert counts(view_of(work)) == (0, 0, 1, 0)
