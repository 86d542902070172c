"""Forms of one list: one is read where all have the same rows; else it is said how they differ."""

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from k710.annotations.check import read_annotations
from k710.annotations.find import Unread, find_lists
from k710.errors import SourceError

HEADER = "label,youtube_id,time_start,time_end,split\n"
ROWS = [("archery", "aaaaaaaaaaa", 1), ("bowling", "bbbbbbbbbbb", 2), ("yoga", "ccccccccccc", 3)]
Row = tuple[str, str, int]


def csv_of(rows: list[Row]) -> bytes:
    lines = [f"{label},{i},{start},{start + 10},val\n" for label, i, start in rows]
    return (HEADER + "".join(lines)).encode()


def json_of(rows: list[Row], subset: str = "validate") -> bytes:
    entries = {
        i: {"annotations": {"label": label, "segment": [start, start + 10.0]}, "subset": subset}
        for label, i, start in rows
    }
    return json.dumps(entries).encode()


def read(folder: Path, forms: dict[str, bytes], *, merge: bool = False) -> tuple[int, list[Unread]]:
    """How many rows are read, and what is not read."""
    (folder / "k400").mkdir()
    for name, content in forms.items():
        (folder / "k400" / name).write_bytes(content)
    unread: list[Unread] = []
    files = find_lists(folder).files
    batches = list(
        read_annotations(
            files, found=Counter(), merge_editions=merge, on_unread=lambda one: unread.append(one)
        )
    )
    return sum(batch.num_rows for batch in batches), unread


def test_forms_with_the_same_rows_are_read_once(tmp_path: Path) -> None:
    num_rows, unread = read(
        tmp_path,
        {
            "val.csv": csv_of(ROWS),
            "val.csv.gz": gzip.compress(csv_of(ROWS[::-1])),
            "val.txt": csv_of([*ROWS, ROWS[0]]),  # an exact duplicate
            "val.json": json_of(ROWS),
        },
    )
    assert num_rows == 3
    assert [one.words() for one in unread] == [
        f"Not read: k400/val.{ending}: another form of k400/val.csv, with the same rows."
        for ending in ("csv.gz", "txt", "json")
    ]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (ROWS, "have 1 and 3 rows, of which 0 are in the first alone, and 2 in the second alone"),
        ([], None),
        ([("yoga", "aaaaaaaaaaa", 1)], "1 and 1 rows, of which 1 are in the first alone, and 1 in"),
        ([("archery", "aaaaaaaaaaa", 5)], "1 are in the first alone, and 1 in the second alone"),
    ],
    ids=["fuller", "empty", "label", "time"],
)
def test_a_short_list_hides_no_other(tmp_path: Path, other: list[Row], words: str | None) -> None:
    forms = {"val.csv": csv_of(ROWS[:1]), "val.csv.gz": gzip.compress(csv_of(other))}
    if words is None:
        num_rows, (unread,) = read(tmp_path, forms)
        assert num_rows == 1
        assert unread.reason == (
            "another form of k400/val.csv that can't be compared with it (has no row under its "
            "header)"
        )
        return
    with pytest.raises(SourceError) as error:
        read(tmp_path, forms)
    assert words in str(error.value)
    assert str(error.value).startswith(
        f"{tmp_path}/k400/val.csv and {tmp_path}/k400/val.csv.gz should be one list in two forms"
    )


def test_both_forms_are_taken_where_that_is_asked_for(tmp_path: Path) -> None:
    forms = {"val.csv": csv_of(ROWS[:1]), "val.csv.gz": gzip.compress(csv_of(ROWS[1:]))}
    assert read(tmp_path, forms, merge=True) == (3, [])


def test_a_json_has_each_id_once(tmp_path: Path) -> None:
    rows = [*ROWS, ("archery", "bbbbbbbbbbb", 50)]
    num_rows, (unread,) = read(tmp_path, {"val.csv": csv_of(rows), "val.json": json_of(rows)})
    assert num_rows == 4
    assert unread.files == ("k400/val.json",)
    (tmp_path / "lacking").mkdir()
    with pytest.raises(
        SourceError, match="4 and 2 rows, of which 1 are in the first alone, and 0 in"
    ):
        read(
            tmp_path / "lacking",
            {"val.csv": csv_of(rows), "val.json": json_of([*ROWS[1:], rows[-1]])},
        )


def test_labels_that_one_form_lacks_make_no_difference(tmp_path: Path) -> None:
    test = csv_of(ROWS).replace(b",val\n", b",test\n")
    entries = {
        i: {"annotations": {"segment": [start, start + 10]}, "subset": "test"}
        for _, i, start in ROWS
    }
    num_rows, (unread,) = read(
        tmp_path, {"test.csv": test, "test.json": json.dumps(entries).encode()}
    )
    assert (num_rows, unread.num_files) == (3, 1)
