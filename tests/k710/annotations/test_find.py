"""Which files are lists, and of which dataset?"""

import os
from pathlib import Path

import pytest

from k710.annotations.find import find_lists
from k710.errors import SourceError


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("name", "dataset"),
    [
        ("kinetics400/train.csv", "k400"),
        ("kinetics700_2020/validate.csv", "k700"),
        ("kinetics-600/lists/val.csv", "k600"),
        ("K400_val.csv", "k400"),
        ("kinetics_400_train.csv.gz", "k400"),
        ("Kinetics 600/test.json", "k600"),
        ("k700-2020_train.csv", "k700"),
        ("kinetics400/k600_val.csv", "k600"),  # the nearest part counts
        ("from_k400_and_k600/kinetics700/val.csv", "k700"),
        ("k600/500x281/k4000/val.csv", "k600"),  # k4000 is no dataset
    ],
)
def test_the_nearest_path_part_names_the_dataset(tmp_path: Path, name: str, dataset: str) -> None:
    (file,) = find_lists(touch(tmp_path / "lists", name))
    assert (file.name, file.dataset) == (name, dataset)


def test_the_folders_own_name_counts_too(tmp_path: Path) -> None:
    (file,) = find_lists(touch(tmp_path / "kinetics600", "val.csv"))
    assert (file.name, file.dataset) == ("val.csv", "k600")


def test_no_dataset_is_an_error_that_says_what_to_rename(tmp_path: Path) -> None:
    folder = touch(tmp_path / "lists", "some/val.csv")
    with pytest.raises(SourceError) as error:
        find_lists(folder)
    assert str(error.value) == (
        f"{folder}/some/val.csv: neither its name nor a folder above names a dataset.\n"
        "Rename the file or its folder so that it says k400, k600 or k700 (or kinetics400, "
        "kinetics700_2020, ...), or move it away if it is no annotation list."
    )


@pytest.mark.parametrize("name", ["k400_to_k600.csv", "k400k600.csv"])
def test_two_datasets_in_one_part_are_an_error(tmp_path: Path, name: str) -> None:
    folder = touch(tmp_path / "lists", f"k700/{name}")
    with pytest.raises(SourceError, match=f"'{name}' names two datasets, k400 and k600"):
        find_lists(folder)


def test_twins_are_read_once(tmp_path: Path) -> None:
    folder = touch(
        tmp_path / "k400",
        *("a.csv", "a.json", "a.csv.gz", "a.gz", "a.json.gz"),
        *("b.json", "b.csv.gz", "c.json", "d.json.gz", "README"),
    )
    assert [(file.name, file.twins) for file in find_lists(folder)] == [
        ("a.csv", ("a.csv.gz", "a.gz", "a.json", "a.json.gz")),
        ("b.csv.gz", ("b.json",)),
        ("c.json", ()),
        ("d.json.gz", ()),
    ]


def test_hidden_files_are_passed_over_and_links_followed_once(tmp_path: Path) -> None:
    folder = touch(tmp_path / "k400", ".hidden.csv", "._val.csv", ".git/val.csv", "val.csv")
    (folder / "up").symlink_to(folder)
    elsewhere = touch(tmp_path / "elsewhere", "train.csv")
    (folder / "linked").symlink_to(elsewhere)
    assert [file.name for file in find_lists(folder)] == ["linked/train.csv", "val.csv"]


def test_no_folder_and_no_list_are_said(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"lists is no folder\.\n.*k710 fetch-annotations"):
        find_lists(tmp_path / "lists")
    folder = touch(tmp_path / "k400", "kinetics400.tar.gz", "notes.txt")
    with pytest.raises(SourceError, match=r"has no annotation list in it.*\nUnpack the archives"):
        find_lists(folder)


def test_a_name_that_is_no_unicode_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "k400"
    folder.mkdir()
    (folder / os.fsdecode(b"v\xe9l.csv")).touch()
    with pytest.raises(SourceError, match=r"the name 'v\\udce9l\.csv' is no UTF-8"):
        find_lists(folder)


def test_a_link_to_nothing_is_said(tmp_path: Path) -> None:
    folder = touch(tmp_path / "k400", "train.csv")
    (folder / "val.csv").symlink_to(tmp_path / "gone.csv")
    with pytest.raises(SourceError, match=r"val\.csv is a link to a file that isn't there"):
        find_lists(folder)


def test_a_linked_folder_counts_by_either_name(tmp_path: Path) -> None:
    (tmp_path / "kinetics400").symlink_to(touch(tmp_path / "lists", "val.csv"))
    (tmp_path / "lists_2").symlink_to(touch(tmp_path / "k600", "val.csv"))
    assert find_lists(tmp_path / "kinetics400")[0].dataset == "k400"
    assert find_lists(tmp_path / "lists_2")[0].dataset == "k600"


def test_sidecars_and_archives_are_no_lists(tmp_path: Path) -> None:
    folder = touch(tmp_path / "k400", "work/annotations.parquet.json", "lists.tar.gz", "val.csv")
    assert [file.name for file in find_lists(folder)] == ["val.csv"]
