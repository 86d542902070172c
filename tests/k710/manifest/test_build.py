"""The rules of K710, each as a table in and a table out, and the laws that hold for any input."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings, strategies as st

from k710.annotations.table import LISTS
from k710.errors import SourceError, StageError
from k710.manifest.build import Summary, build_manifest
from k710.manifest.read import load_view
from k710.tables.schemas import TABLES, read_sql
from support.list_files import ANY_LISTS, Lists, vid, write_lists

WriteLists = Callable[[Lists], Path]


def rows(work: Path, sql: str) -> list[tuple[Any, ...]]:
    """The rows of a query in which names stand for the tables of `work`; ids without filling."""
    with duckdb.connect() as con:
        for table in ("annotations", "manifest", "dropped", "leakage"):
            con.read_parquet(str(work / f"{table}.parquet")).create_view(table)
        found = con.execute(sql).fetchall()
    return [tuple(v.rstrip("_") if isinstance(v, str) else v for v in row) for row in found]


@pytest.fixture
def build(lists: WriteLists, tmp_path: Path) -> Callable[..., Path]:
    """Builds K710 from lists, and returns the work folder."""

    def build_one(named: Lists, **options: Any) -> Path:
        build_manifest(lists(named), work=tmp_path / "work", **options)
        return tmp_path / "work"

    return build_one


Build = Callable[..., Path]
TRAIN = "select youtube_id, time_start, dataset from manifest where view = 'k710/train'"
VAL = "select youtube_id, time_start, dataset from manifest where view = 'k710/val'"
VERDICTS = "k710/manifest/verdicts.sql"
DROPPED = "select youtube_id, time_start, dataset, split, reason, kept_clip_id from dropped"


# --- held out


LEAKS: Lists = {
    "k400/train": [
        ("archery", "in_val", 0, 10),
        ("archery", "in_test", 0, 10),
        ("archery", "in_holdout", 0, 10),
        ("archery", "in_own_val", 0, 10),
        ("archery", "clean", 0, 10),
    ],
    "k400/val": [("archery", "in_own_val", 50, 60)],  # another window of the video is a leak too
    "k600/test": [("archery", "in_test", 0, 10)],
    "k600/holdout_test": [("archery", "in_holdout", 0, 10)],
    "k700/val": [("archery", "in_val", 0, 10), ("archery", "in_test", 3, 13)],
}


@pytest.mark.parametrize(
    ("protect", "kept"),
    [
        (("val", "test"), ["clean"]),
        (("val",), ["clean", "in_holdout"]),
        (("test",), ["clean", "in_own_val", "in_val"]),
        ((), ["clean", "in_holdout", "in_own_val", "in_test", "in_val"]),
    ],
)
def test_train_rows_with_a_protected_id_are_held_out(
    build: Build, protect: tuple[str, ...], kept: list[str]
) -> None:
    work = build(LEAKS, protect=protect)
    assert rows(work, TRAIN) == [(name, 0, "k400") for name in kept]


def test_a_held_out_row_names_every_protected_list_that_has_its_id(build: Build) -> None:
    work = build(LEAKS)
    assert rows(work, "select youtube_id, reason, kept_clip_id, held_out_by from dropped") == [
        ("in_holdout", "held_out", None, ["k600/test"]),
        ("in_own_val", "held_out", None, ["k400/val"]),
        ("in_test", "held_out", None, ["k600/test", "k700/val"]),
        ("in_val", "held_out", None, ["k700/val"]),
    ]


def test_only_protected_lists_are_named(build: Build) -> None:
    work = build(LEAKS, protect=("val",))
    assert ("in_test", ["k700/val"]) in rows(work, "select youtube_id, held_out_by from dropped")


def test_where_every_train_row_is_held_out_the_view_is_there_and_empty(
    lists: WriteLists, tmp_path: Path
) -> None:
    row = ("archery", "both", 0, 10)
    summary = build_manifest(lists({"k400/train": [row], "k400/val": [row]}), work=tmp_path / "w")
    assert summary.views["k710/train"] == 0
    assert summary.dropped["k710/train"] == {"held_out": 1}
    assert load_view("k710/train", work=tmp_path / "w").empty


# --- one row per id


def test_the_preferred_dataset_wins_then_the_earliest_window(build: Build) -> None:
    named: Lists = {
        "k400/train": [("archery", "in_all", 1, 11), ("archery", "only_k400", 5, 15)],
        "k600/train": [
            ("archery", "in_all", 2, 12),
            ("archery", "twice", 30, 40),
            ("bowling", "twice", 20, 30),
            ("bowling", "longer", 7, 16),
            ("bowling", "longer", 7, 17),
        ],
        "k700/train": [("archery", "in_all", 3, 13)],
    }
    work = build(named)
    assert rows(work, TRAIN.replace("dataset", "time_end, dataset")) == [
        ("in_all", 3, 13, "k700"),
        ("longer", 7, 16, "k600"),
        ("only_k400", 5, 15, "k400"),
        ("twice", 20, 30, "k600"),
    ]
    assert rows(work, DROPPED) == [
        ("in_all", 1, "k400", "train", "duplicate_id", f"{vid('in_all')}_000003_000013"),
        ("in_all", 2, "k600", "train", "duplicate_id", f"{vid('in_all')}_000003_000013"),
        ("longer", 7, "k600", "train", "duplicate_id", f"{vid('longer')}_000007_000016"),
        ("twice", 30, "k600", "train", "duplicate_id", f"{vid('twice')}_000020_000030"),
    ]


@pytest.mark.parametrize("prefer", [*itertools.permutations(["k400", "k600", "k700"])])
def test_prefer_orders_the_datasets(build: Build, prefer: tuple[str, ...]) -> None:
    named = {f"{d}/train": [("archery", "shared", 0, 10)] for d in ("k400", "k600", "k700")}
    named |= {f"{d}/val": [("archery", "val", 0, 10)] for d in ("k400", "k600", "k700")}
    work = build(named, prefer=prefer)
    assert rows(work, TRAIN) == [("shared", 0, prefer[0])]
    assert rows(work, VAL) == [("val", 0, prefer[0])]


def test_of_one_window_with_two_labels_the_first_name_wins(build: Build) -> None:
    # Names decide, not rows: marching is K710 row 1, archery row 302.
    named: Lists = {"k600/train": [("marching", "both", 0, 10), ("archery", "both", 0, 10)]}
    work = build(named)
    assert rows(work, "select label_name from manifest where view = 'k710/train'") == [("archery",)]


def test_dedup_clip_keeps_every_window(build: Build) -> None:
    named: Lists = {
        "k400/train": [("archery", "shared", 0, 10), ("archery", "shared", 20, 30)],
        "k700/train": [("archery", "shared", 0, 10)],
        "k400/val": [("archery", "val", 0, 10), ("archery", "val", 20, 30)],
    }
    work = build(named, dedup="clip")
    assert rows(work, TRAIN) == [("shared", 0, "k700"), ("shared", 20, "k400")]
    assert rows(work, VAL) == [("val", 0, "k400")]  # val has one clip per id all the same
    assert rows(work, DROPPED) == [
        ("shared", 0, "k400", "train", "duplicate_clip", f"{vid('shared')}_000000_000010"),
        ("val", 20, "k400", "val", "duplicate_id", f"{vid('val')}_000000_000010"),
    ]


def test_ids_differ_by_letter_case_and_may_look_like_anything(build: Build) -> None:
    names = [
        "-aaaaaaaaaa",
        "AAAAAAAAAAA",
        "aaaaaaaaaaa",
        "00000000001",
        "1e000000000",
        "--version__",
    ]
    work = build({"k400/train": [("archery", name, 0, 10) for name in names]})
    assert rows(work, TRAIN) == sorted((name.rstrip("_"), 0, "k400") for name in names)


def test_unlabelled_val_rows_are_refused_and_test_rows_never_dropped(build: Build) -> None:
    named: Lists = {
        "k700/test": [("", "blind", 0, 10), ("", "blind", 20, 30)],
        "k400/test": [("archery", "blind", 0, 10)],
    }
    work = build(named)
    assert rows(work, DROPPED) == []
    assert rows(work, "select view, youtube_id, time_start, label from manifest") == [
        ("k400/test", "blind", 0, 302),
        ("k700/test", "blind", 0, None),
        ("k700/test", "blind", 20, None),
    ]


# --- a list's own view


def test_a_lists_view_has_all_its_rows_but_exact_duplicates(build: Build) -> None:
    named: Lists = {
        "k600/val": [
            ("archery", "two_windows", 0, 10),
            ("marching", "two_windows", 3, 13),
            ("marching", "same", 0, 10),
            ("archery", "same", 0, 10),
            ("archery", "same", 0, 10),
        ],
        "k600/train": [("archery", "same", 0, 10)],
    }
    work = build(named)
    assert rows(work, "select view, youtube_id, time_start, label_name from manifest") == [
        ("k600/train", "same", 0, "archery"),
        ("k600/val", "same", 0, "marching"),  # K710 row 1, archery is 302: the lowest stays
        ("k600/val", "two_windows", 0, "archery"),
        ("k600/val", "two_windows", 3, "marching"),
        ("k710/val", "same", 0, "archery"),  # by name, as in all k710 views
        ("k710/val", "two_windows", 0, "archery"),
    ]


def test_exact_duplicates_are_counted_and_conflicts_said(lists: WriteLists, tmp_path: Path) -> None:
    folder = lists(
        {
            "k600/val": [("archery", "same", 0, 10), ("bowling", "same", 0, 10)],
            "k400/val": [("archery", name, 0, 10) for name in ("b", "a", "a", "b", "b")],
        }
    )
    summary = build_manifest(folder, work=tmp_path / "work")
    assert [(d.list_name, d.rows, d.conflicting, d.example) for d in summary.duplicates] == [
        ("k400/val", 3, 0, f"{vid('a')}_000000_000010"),
        ("k600/val", 1, 1, f"{vid('same')}_000000_000010"),
    ]


def test_every_column_of_the_manifest(build: Build) -> None:
    work = build({"k400/train": [("tying tie", "-x", 7, 17)], "k600/val": [("yoga", "-y", 1, 11)]})
    x, y = f"{vid('-x')}_000007_000017", f"{vid('-y')}_000001_000011"
    assert rows(work, "from manifest") == [
        ("k400/train", x, "-x", 7, 17, 38, "tying necktie", "k400", ["k400/train"]),
        ("k600/val", y, "-y", 1, 11, 370, "yoga", "k600", ["k600/val"]),
        ("k710/train", x, "-x", 7, 17, 38, "tying necktie", "k400", ["k400/train"]),
        ("k710/val", y, "-y", 1, 11, 370, "yoga", "k600", ["k600/val"]),
    ]


def test_found_in_names_every_list_that_has_the_id(build: Build) -> None:
    named: Lists = {name: [("archery", "everywhere", 0, 10)] for name in LISTS}
    work = build({**named, "k600/holdout_test": [("archery", "everywhere", 9, 19)]}, protect=())
    assert {tuple(row[0]) for row in rows(work, "select found_in from manifest")} == {LISTS}


# --- leakage


def test_the_leak_matrix_counts_ids_clips_and_labels(build: Build) -> None:
    named: Lists = {
        "k400/train": [
            ("archery", "a", 0, 10),
            ("archery", "b", 0, 10),
            ("tying tie", "c", 0, 10),
            ("archery", "d", 0, 10),
        ],
        "k600/val": [
            ("archery", "a", 0, 10),  # the same clip and label
            ("bowling", "b", 0, 10),  # the same clip, another label
            ("tying necktie", "c", 0, 10),  # the same class by another name
            ("archery", "d", 5, 15),  # another window
        ],
        "k700/test": [("", "a", 0, 10)],  # labelled on one side only
        "k700/train": [("archery", "z", 0, 10)],
    }
    work = build(named)
    assert rows(work, "from leakage") == [
        ("k400/train", "k600/val", 4, 3, 2, 1),
        ("k400/train", "k700/test", 1, 1, 0, 0),
        ("k400/train", "k700/train", 0, 0, 0, 0),
        ("k600/val", "k700/test", 1, 1, 0, 0),
        ("k600/val", "k700/train", 0, 0, 0, 0),
        ("k700/test", "k700/train", 0, 0, 0, 0),
    ]


# --- laws


@pytest.mark.parametrize("examples", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_counts_close_and_nothing_leaks(
    tmp_path_factory: pytest.TempPathFactory, examples: int
) -> None:
    @settings(max_examples=examples)
    @given(
        named=ANY_LISTS,
        protect=st.sampled_from([(), ("val",), ("test",), ("val", "test")]),
        prefer=st.permutations(["k400", "k600", "k700"]),
        dedup=st.sampled_from(["id", "clip"]),
    )
    def law(named: Lists, protect: tuple[str, ...], prefer: list[str], dedup: Any) -> None:
        root = tmp_path_factory.mktemp("laws")
        folder = write_lists(root / "annotations", named)
        summary = build_manifest(
            folder, work=root / "work", protect=protect, prefer=prefer, dedup=dedup, threads=1
        )
        work = root / "work"
        check_counts(named, summary)
        guarded = [name for name in LISTS if name.partition("/")[2] in protect]
        held = {row[1] for name in named for row in named[name] if _list_of(name) in guarded}
        train = rows(
            work, "select youtube_id, time_start, found_in from manifest where view = 'k710/train'"
        )
        assert not {row[0] for row in train} & held
        ids = [row[0] if dedup == "id" else row[:2] for row in train]
        assert len(ids) == len(set(ids))
        # Nothing is dropped without need: every id that may be there is.
        order = rows(work, "select view, youtube_id, time_start, time_end from manifest")
        assert order == sorted(set(order))
        wanted = {row[1] for name in named if name.endswith("/train") for row in named[name]} - held
        assert {row[0] for row in train} == wanted
        for youtube_id, _, found_in in train:
            homes = {_list_of(n) for n in named if youtube_id in {row[1] for row in named[n]}}
            assert found_in == sorted(homes)

    law()


def check_counts(named: Lists, summary: Summary) -> None:
    for split in ("train", "val"):
        read = sum(len(named[name]) for name in named if name.endswith(f"/{split}"))
        view = f"k710/{split}"
        assert read == summary.views.get(view, 0) + sum(summary.dropped.get(view, {}).values())
    surplus = {one.list_name: one.rows for one in summary.duplicates}
    for name in LISTS:
        read = sum(len(named[n]) for n in named if _list_of(n) == name)
        assert read == summary.views.get(name, 0) + surplus.get(name, 0)


def _list_of(name: str) -> str:
    return name.replace("holdout_test", "test")


# --- what the tables are


def test_the_tables_have_the_schemas_that_are_written_down(build: Build) -> None:
    work = build(LEAKS)
    with duckdb.connect() as con:
        for table in ("annotations", "manifest", "dropped", "leakage"):
            schema = TABLES[table].columns
            relation = con.read_parquet(str(work / f"{table}.parquet"))
            assert dict(zip(relation.columns, map(str, relation.types), strict=True)) == schema
            sidecar = json.loads((work / f"{table}.parquet.json").read_text())
            assert sidecar["schema"] == schema
            assert sidecar["rows"] == relation.count("*").fetchall()[0][0]


def test_missing_lists_are_said_and_can_be_refused(lists: WriteLists, tmp_path: Path) -> None:
    folder = lists({"k400/train": [("archery", "a", 0, 10)], "k600/test": [("yoga", "b", 0, 10)]})
    work = tmp_path / "work"
    with pytest.raises(SourceError) as error:
        build_manifest(folder, work=work, require_complete=True)
    assert str(error.value).startswith("Missing lists: k400/test, k400/val, k600/val, k700/test, ")
    assert not list(work.glob("*.parquet*")), "no table is touched"
    summary = build_manifest(folder, work=work)
    missing = ("k400/test", "k400/val", "k600/val", "k700/test", "k700/val")
    assert summary.not_protected == missing
    for table in ("annotations", "manifest", "dropped"):
        sidecar = json.loads((work / f"{table}.parquet.json").read_text())
        assert sidecar["notes"]["not_protected"] == list(missing)
    with pytest.raises(SourceError, match="Missing lists"):
        build_manifest(folder, work=work, require_complete=True)


def test_the_audit_finds_a_broken_rule(
    lists: WriteLists, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = read_sql(VERDICTS).replace("found_in & $protected <> 0", "found_in < $protected * 0")
    monkeypatch.setattr(
        "k710.manifest.build.read_sql",
        lambda name: broken if name == VERDICTS else read_sql(name),
    )
    with pytest.raises(AssertionError, match="no id of k710/train is in a protected list"):
        build_manifest(lists(LEAKS), work=tmp_path / "work")
    assert not list((tmp_path / "work").glob("manifest.parquet.json")), "the table does not count"


def test_wrong_rules_are_refused(lists: WriteLists, tmp_path: Path) -> None:
    folder = lists(LEAKS)
    for options, words in (
        ({"protect": ("train",)}, "protect must be some of val and test"),
        ({"prefer": ("k400", "k600")}, "prefer must name k400, k600, k700 once each"),
        ({"dedup": "url"}, "dedup must be id or clip, and is 'url'"),
        ({"protect": "val"}, "protect and prefer are lists of names, not text"),
        ({"threads": 0}, "threads must be from 1 to 256, and is 0"),
    ):
        with pytest.raises(ValueError, match=words):
            build_manifest(folder, work=tmp_path / "work", **options)  # type: ignore[arg-type]
    for limit in ("much", "0GB", "-1GB", "999999999TB"):
        with pytest.raises(StageError, match=f"--memory-limit '{limit}' is no size"):
            build_manifest(folder, work=tmp_path / "work", memory_limit=limit)
