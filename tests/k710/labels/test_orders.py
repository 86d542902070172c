"""The label tables: their laws, and the published files that they are held to."""

import csv
import json
import re
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from k710.errors import LabelError
from k710.labels.orders import (
    DATASETS,
    FAMILIES,
    Dataset,
    Family,
    class_names,
    dataset_rows,
    dataset_spelling,
    head_map,
    k710_order,
    labels_sha256,
    resolve_label,
)

SIZES = {"k400": 400, "k600": 600, "k700": 700}


def own_names(dataset: Dataset, family: Family) -> list[str]:
    return [dataset_spelling(dataset, row) for row in head_map(dataset, family)]


# --- laws


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dataset", DATASETS)
def test_a_head_map_names_each_row_of_its_dataset_once(dataset: Dataset, family: Family) -> None:
    rows = head_map(dataset, family)
    assert len(rows) == len(set(rows)) == SIZES[dataset]
    assert set(rows) == dataset_rows(dataset)


def test_the_three_datasets_make_710() -> None:
    assert frozenset.union(*(dataset_rows(d) for d in DATASETS)) == frozenset(range(710))
    assert len(set(class_names())) == 710


def test_the_opengvlab_head_of_k400_is_the_first_400_rows() -> None:
    assert head_map("k400", "opengvlab") == list(range(400))


@pytest.mark.parametrize("dataset", DATASETS)
def test_alphabetical_is_pythons_order_of_the_datasets_own_names(dataset: Dataset) -> None:
    names = own_names(dataset, "alphabetical")
    assert names == sorted(names)


def test_k710_orders_are_permutations() -> None:
    assert k710_order("opengvlab") == list(range(710))
    assert sorted(k710_order("alphabetical")) == list(range(710))


PUBLISHED = [
    (name, row)
    for dataset in DATASETS
    for row in sorted(dataset_rows(dataset))
    for name in (dataset_spelling(dataset, row), class_names()[row])
]


@given(
    name_row=st.sampled_from(PUBLISHED),
    fold=st.sampled_from([str.lower, str.upper, str.title, str]),
    space=st.sampled_from([" ", "_", "-", "  "]),
    without=st.sampled_from(["", "'", "()", "'()"]),
)
def test_every_published_spelling_resolves(
    name_row: tuple[str, int], fold: type[str], space: str, without: str
) -> None:
    name, row = name_row
    spelling = fold(re.sub(f"[{without}]", "", name) if without else name).replace(" ", space)
    assert resolve_label(spelling) == row


def test_an_unknown_name_gets_the_nearest_ones() -> None:
    with pytest.raises(LabelError) as error:
        resolve_label("abseilng")
    assert str(error.value) == (
        "'abseilng' is no Kinetics class. Nearest: abseiling, sewing, sailing."
    )


def test_a_class_of_another_dataset_is_refused_with_its_home() -> None:
    with pytest.raises(LabelError) as error:
        resolve_label("bull fighting", dataset="k400")
    assert str(error.value) == "'bull fighting' is no class of k400: it is one of k600."


@pytest.mark.parametrize("name", ["", "  ", "\x1b[31m", "🂡", "x" * 10_000])
def test_nonsense_is_refused_in_one_printable_line(name: str) -> None:
    with pytest.raises(LabelError) as error:
        resolve_label(name)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 300


def test_unknown_datasets_and_families_are_worded() -> None:
    with pytest.raises(LabelError, match="'k710' is no dataset: k400, k600, k700"):
        head_map("k710", "opengvlab")  # type: ignore[arg-type]
    with pytest.raises(LabelError, match="'random' is no family of label orders"):
        head_map("k400", "random")  # type: ignore[arg-type]
    with pytest.raises(LabelError, match="no class of k400"):
        dataset_spelling("k400", 709)


def test_the_hash_is_of_the_orders_as_they_are() -> None:
    # Checkpoints and tables carry it: a change means that old ones don't fit any more.
    assert labels_sha256() == "887b1527772fb7adf900f6316a22d6336062d2a8ae4067cf9b9e8242cecbef22"


# --- held to the published files


def test_rows_are_those_of_the_published_checkpoints(real_labels: Path) -> None:
    with (real_labels / "k710_rows.csv").open(newline="") as file:
        published = list(csv.DictReader(file))
    assert [line["true_label"] for line in published] == list(class_names())
    for dataset, column in (("k600", "k600_index"), ("k700", "k700_index")):
        index = {int(line[column]): int(line["row"]) for line in published if line[column]}
        assert [index[i] for i in range(len(index))] == head_map(dataset, "opengvlab")
    assert {int(line["row"]) for line in published if line["in_k400"] == "1"} == set(
        dataset_rows("k400")
    )


@pytest.mark.parametrize("dataset", ["k600", "k700"])
def test_opengvlab_maps_equal_the_published_indices(real_labels: Path, dataset: Dataset) -> None:
    path = real_labels / f"opengvlab_k710_rows_of_{dataset}.json"
    assert head_map(dataset, "opengvlab") == json.loads(path.read_text())


def test_alphabetical_k400_equals_the_published_indices(real_labels: Path) -> None:
    path = real_labels / "opengvlab_k710_rows_of_k400_alphabetical.json"
    assert head_map("k400", "alphabetical") == json.loads(path.read_text())


@pytest.mark.parametrize("dataset", DATASETS)
def test_alphabetical_names_equal_mmaction2s(real_labels: Path, dataset: Dataset) -> None:
    path = real_labels / f"mmaction2_label_map_{dataset}.txt"
    assert own_names(dataset, "alphabetical") == path.read_text().splitlines()


@pytest.mark.parametrize("dataset", DATASETS)
def test_alphabetical_maps_equal_mmaction2s_channels(real_labels: Path, dataset: Dataset) -> None:
    channels = json.loads((real_labels / f"mmaction2_channel_map_{dataset}.json").read_text())
    order = k710_order("alphabetical")
    assert [order[channel] for channel in channels] == head_map(dataset, "alphabetical")


def test_mmaction2s_710_row_head(real_labels: Path) -> None:
    names = (real_labels / "mmaction2_label_map_k710.txt").read_text().splitlines()
    assert [resolve_label(name) for name in names] == k710_order("alphabetical")


def test_the_15_merges_are_the_published_ones(real_labels: Path) -> None:
    merges = json.loads((real_labels / "identical_label_merge.json").read_text())
    assert len(merges) == 15
    for alias, label in merges.items():
        assert class_names()[resolve_label(alias)] == label
