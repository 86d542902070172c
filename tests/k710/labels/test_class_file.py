"""Which order is a class file in?"""

import json
from pathlib import Path

import pytest

from k710.errors import SourceError
from k710.labels.class_file import check_class_file
from k710.labels.class_file_forms import read_class_file
from k710.labels.orders import (
    DATASETS,
    FAMILIES,
    Dataset,
    Family,
    class_names,
    dataset_spelling,
    head_map,
)


def names_of(dataset: Dataset, family: Family) -> list[str]:
    return [dataset_spelling(dataset, row) for row in head_map(dataset, family)]


def write(path: Path, names: list[str]) -> Path:
    path.write_text("\n".join(names) + "\n")
    return path


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dataset", DATASETS)
def test_each_order_is_known_again(tmp_path: Path, dataset: Dataset, family: Family) -> None:
    result = check_class_file(write(tmp_path / "names.txt", names_of(dataset, family)))
    assert (result.dataset, result.family, result.wrong) == (dataset, family, ())
    assert result.num_aliases == 0


def test_wrong_rows_are_named_with_what_they_should_be(tmp_path: Path) -> None:
    names = names_of("k400", "alphabetical")
    names[3], names[7] = names[7], names[3]
    names[10] = "flying"
    result = check_class_file(write(tmp_path / "names.txt", names))
    assert (result.dataset, result.family) == ("k400", "alphabetical")
    assert [(row.index, row.found, row.expected, row.note) for row in result.wrong] == [
        (3, "arranging flowers", "applauding", "belongs at 7"),
        (7, "applauding", "arranging flowers", "belongs at 3"),
        (10, "flying", "baby waking up", "no Kinetics class"),
    ]


def test_an_alias_is_no_fault(tmp_path: Path) -> None:
    names = list(class_names())
    names[names.index("tying necktie")] = "tying tie"
    result = check_class_file(write(tmp_path / "names.txt", names))
    assert (result.dataset, result.family, result.num_aliases) == ("k710", "opengvlab", 1)
    assert result.wrong == ()


@pytest.mark.parametrize("cut", [1, 50])
def test_a_file_that_is_cut_off_is_wrong_at_its_end(tmp_path: Path, cut: int) -> None:
    names = names_of("k600", "alphabetical")[:-cut]
    result = check_class_file(write(tmp_path / "names.txt", names))
    assert (result.dataset, result.family) == ("k600", "alphabetical")
    assert [row.index for row in result.wrong] == list(range(600 - cut, 600))
    assert {row.note for row in result.wrong} == {"missing"}


def test_every_usual_form_of_a_class_file_reads_the_same(tmp_path: Path) -> None:
    names = names_of("k400", "opengvlab")
    numbered = list(enumerate(names))
    forms = {
        "plain.txt": "\n".join(names),
        "crlf_and_quotes.txt": "\r\n".join(f'"{name}"' for name in names),
        "folders.txt": "\n".join(name.replace(" ", "_") for name in names),
        "id_first.txt": "\n".join(f"{i} {name}" for i, name in numbered),
        "id_last.txt": "\n".join(f"{name} {i}" for i, name in numbered),
        "id_first.csv": "id,name\n" + "\n".join(f"{i},{name}" for i, name in numbered),
        "id_last.csv": "name,id\n" + "\n".join(f'"{name}",{i}' for i, name in reversed(numbered)),
        "tabs.tsv": "\n".join(f"{i}\t{name}" for i, name in numbered),
        "list.json": json.dumps(names),
        "by_name.json": json.dumps({name: i for i, name in reversed(numbered)}),
        "by_index.json": json.dumps({str(i): name for i, name in numbered}),
    }
    for file, text in forms.items():
        (tmp_path / file).write_text("\ufeff" + text if file == "id_first.csv" else text)
        result = check_class_file(tmp_path / file)
        assert (result.dataset, result.family, result.wrong) == ("k400", "opengvlab", ()), file


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("empty.txt", b"\n\n", "names no class"),
        ("latin.txt", b"caf\xe9\n", "is not UTF-8 text"),
        ("broken.json", b'["a"', "is broken JSON"),
        ("nested.json", b'{"a": {"b": 1}}', "neither a list of names"),
        ("gap.csv", b"0,abseiling\n2,archery\n", "run from 0 to 1 once each; 1 is missing"),
    ],
)
def test_what_is_no_class_file_is_said(
    tmp_path: Path, file: str, content: bytes, words: str
) -> None:
    (tmp_path / file).write_bytes(content)
    with pytest.raises(SourceError, match=words):
        read_class_file(tmp_path / file)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no\.txt can't be read: No such file"):
        check_class_file(tmp_path / "no.txt")


def test_the_published_wrong_names_are_found_wrong(real_labels: Path) -> None:
    result = check_class_file(real_labels / "videomaev2_label_map_k710_WRONG_NAMES.txt")
    assert (result.dataset, result.family) == ("k710", "opengvlab")
    rows = [row.index for row in result.wrong]
    assert [row for row in rows if row < 400] == [222, 271]
    assert sum(row >= 400 for row in rows) == 307
    assert len(rows) == 309
    assert 348 not in rows and result.num_aliases == 1


@pytest.mark.parametrize("dataset", [*DATASETS, "k710"])
def test_mmaction2s_files_are_alphabetical(real_labels: Path, dataset: str) -> None:
    result = check_class_file(real_labels / f"mmaction2_label_map_{dataset}.txt")
    assert (result.dataset, result.family, result.wrong) == (dataset, "alphabetical", ())


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "a.txt",
            "k400/-aU-xCCzkT0_000061_000071.mp4 345\n",
            "a.txt: it is a list of videos, as trainers",
        ),
        (
            "a.csv",
            "-aU-xCCzkT0_000061_000071,3\n_4YTwq0-73Y_000044_000054,0\n",
            "is a list of videos",
        ),
        ("a.json", "[" * 100_000, "a.json is nested too deep"),
        ("a.json", '{"abseiling": ' + "1" * 5000 + "}", "a.json: it is broken JSON ("),
        ("a.json", '{"' + "1" * 5000 + '": "abseiling"}', "its numbers should run from"),
        ("a.csv", "0,abseiling\n\n1," + "a" * 140_000 + "\n", "are no class of Kinetics"),
    ],
)
def test_no_class_file_ends_in_a_traceback(
    tmp_path: Path, name: str, content: str, words: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(SourceError) as error:
        check_class_file(tmp_path / name)
    assert words in str(error.value)
    assert str(error.value).replace("\n", "").isprintable()


def test_numbers_of_thousands_of_digits_are_no_indices(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", ["abseiling", f"{'1' * 5000} archery"])
    assert check_class_file(path).wrong[0].index == 1
