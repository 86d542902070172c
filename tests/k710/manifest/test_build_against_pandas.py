"""Our tables against those of independent pandas code, cell by cell: real lists and any lists."""

import sys
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from k710.demo.lists import write_demo_lists
from k710.manifest.build import Summary, build_manifest
from k710.manifest.read import label_evidence
from support.list_files import ANY_LISTS, Lists, write_lists

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks"))
import manifest_in_pandas
import manifest_in_plain_pandas

RULES: list[dict[str, Any]] = [
    {},
    {"protect": ("val",)},
    {"protect": (), "dedup": "clip"},
    {"prefer": ("k400", "k700", "k600"), "dedup": "clip"},
]


@pytest.fixture(scope="session")
def built(real_built: Path) -> tuple[Summary, Path]:
    work = real_built / "work"
    return build_manifest(real_built / "annotations", work=work), work


def tables(work: Path) -> dict[str, pd.DataFrame]:
    with duckdb.connect() as con:
        return {
            name: con.read_parquet(str(work / f"{name}.parquet")).df()
            for name in ("annotations", "manifest", "dropped", "leakage")
        }


def assert_same(ours: pd.DataFrame, theirs: pd.DataFrame) -> None:
    """Equal cell by cell, or null in both; lists as tuples."""
    assert list(ours.columns) == list(theirs.columns)
    assert len(ours) == len(theirs)
    for column in ours.columns:
        a, b = (plain(frame[column]) for frame in (ours, theirs))
        are_null = a.isna().to_numpy(), b.isna().to_numpy()
        is_same = (a == b).fillna(False).to_numpy(bool) & ~are_null[0] | are_null[0] & are_null[1]
        assert is_same.all(), (column, a[~is_same].head(), b[~is_same].head())


def plain(column: "pd.Series[Any]") -> "pd.Series[Any]":
    if column.dtype != object:
        return column
    return column.map(
        lambda value: (
            tuple(value) if hasattr(value, "__len__") and not isinstance(value, str) else value
        )
    )


def compare(folder: Path, work: Path, rules: dict[str, Any]) -> None:
    theirs = manifest_in_pandas.build(folder, **rules)
    for name, ours in tables(work).items():
        assert_same(ours, getattr(theirs, name))


@pytest.mark.timeout(120)
def test_every_table_equals_independent_pandas_code(
    real_lists: Path, built: tuple[Summary, Path]
) -> None:
    compare(real_lists, built[1], {})


@pytest.mark.slow
@pytest.mark.parametrize("rules", RULES[1:])
def test_other_rules_too(real_lists: Path, tmp_path: Path, rules: dict[str, Any]) -> None:
    build_manifest(real_lists, work=tmp_path, **rules)
    compare(real_lists, tmp_path, rules)


@pytest.mark.parametrize("examples", [6, pytest.param(60, marks=pytest.mark.slow)])
def test_any_lists_too(tmp_path_factory: pytest.TempPathFactory, examples: int) -> None:
    @settings(max_examples=examples)
    @given(named=ANY_LISTS, rules=st.sampled_from(RULES))
    def law(named: Lists, rules: dict[str, Any]) -> None:
        root = tmp_path_factory.mktemp("any")
        folder = write_lists(root / "annotations", named)
        build_manifest(folder, work=root / "work", threads=1, **rules)
        compare(folder, root / "work", rules)

    law()


def test_the_plain_pandas_code_makes_the_same_tables(tmp_path: Path) -> None:
    write_demo_lists(tmp_path)
    tuned, plainly = (m.build(tmp_path) for m in (manifest_in_pandas, manifest_in_plain_pandas))
    for name in ("annotations", "manifest", "dropped", "leakage"):
        assert_same(getattr(plainly, name), getattr(tuned, name))


def test_the_published_overlaps_are_found(built: tuple[Summary, Path]) -> None:
    shared = {(pair.a, pair.b): pair.ids for pair in built[0].leakage}
    assert shared["k400/val", "k600/val"] == 13_569
    assert shared["k400/test", "k600/test"] == 27_228
    assert shared["k400/test", "k700/val"] == 4_275
    assert shared["k600/test", "k600/val"] == 28
    assert shared["k600/test", "k700/test"] == 2_153
    assert shared["k700/test", "k700/val"] == 106
    assert built[0].not_protected == ()
    assert built[0].views["k710/val"] == 70_017


def test_the_renamed_classes_show_in_the_annotations(
    real_lists: Path, tmp_path: Path, built: tuple[Summary, Path]
) -> None:
    pairs = label_evidence(work=built[1])
    merged = [pair for pair in pairs if pair.merged]
    assert len(merged) == 15
    assert sum(pair.clips > 0 for pair in merged) == 11
    unmerged = next(pair for pair in pairs if not pair.merged)
    assert (unmerged.name_a, unmerged.name_b) == ("baby waking up", "waking up")
    # Between the two val lists alone the counts are published.
    for dataset in ("kinetics400", "kinetics600"):
        (tmp_path / dataset).mkdir()
        (tmp_path / dataset / "val.csv").symlink_to(real_lists / dataset / "val.csv")
    build_manifest(tmp_path, work=tmp_path / "work")
    counts = {(p.name_a, p.name_b): p.k400_k600 for p in label_evidence(work=tmp_path / "work")}
    assert counts["baby waking up", "waking up"] == 45
    assert counts["throwing ball", "throwing ball (not baseball or American football)"] == 43
    assert counts["balloon blowing", "inflating balloons"] == 33
    assert counts["dyeing hair", "dying hair"] == 30
    assert counts["tying necktie", "tying tie"] == 20
