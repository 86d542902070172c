"""Every published form of a list is read right, and what can't be used is said, line by line."""

import gzip
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from k710.annotations.check import ListRead, read_annotations
from k710.annotations.find import find_lists
from k710.errors import K710Error, LabelError, SourceError

HEADER = "label,youtube_id,time_start,time_end,split\n"
GOOD = "abseiling,aaaaaaaaaaa,1,11,train\n"


def read(folder: Path, **options: Any) -> list[dict[str, Any]]:
    found: Counter[ListRead] = Counter()
    rows: list[dict[str, Any]] = []
    for batch in read_annotations(find_lists(folder).files, found=found, **options):
        rows += batch.to_pylist()
    assert found.total() == len(rows)
    return rows


@pytest.fixture
def read_text(tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """Reads one list with this content."""

    def read_one(content: str | bytes, name: str = "train.csv") -> list[dict[str, Any]]:
        folder = tmp_path / "k400"
        folder.mkdir(exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        (folder / name).write_bytes(data)
        return read(folder)

    return read_one


Reader = Callable[..., list[dict[str, Any]]]


# --- what is read


def test_a_row_comes_with_types_label_and_place(read_text: Reader) -> None:
    assert read_text(HEADER + GOOD + "tying tie,-bbbbbbbbbb,84.0,94.0,train\n") == [
        {
            "dataset": "k400",
            "split": "train",
            "youtube_id": "aaaaaaaaaaa",
            "time_start": 1,
            "time_end": 11,
            "label_raw": "abseiling",
            "label": 341,
            "source_file": "train.csv",
            "source_line": 2,
        },
        {
            "dataset": "k400",
            "split": "train",
            "youtube_id": "-bbbbbbbbbb",
            "time_start": 84,
            "time_end": 94,
            "label_raw": "tying tie",
            "label": 38,
            "source_file": "train.csv",
            "source_line": 3,
        },
    ]


@pytest.mark.parametrize(
    ("word", "split"),
    [
        ("train", "train"),
        ("val", "val"),
        ("validate", "val"),
        ("validation", "val"),
        ("test", "test"),
        ("holdout_test", "test"),
    ],
)
def test_every_published_split_is_known(read_text: Reader, word: str, split: str) -> None:
    (row,) = read_text(HEADER + GOOD.replace("train", word))
    assert row["split"] == split


@pytest.mark.parametrize(
    "content",
    [
        "\ufeff" + HEADER + GOOD,
        (HEADER + GOOD).replace("\n", "\r\n"),
        (HEADER + GOOD).rstrip("\n"),
        HEADER + GOOD + "\n",
        HEADER + GOOD + "\n\n\n",
        HEADER + GOOD + ",,,,\n",
        '"label","youtube_id","time_start","time_end","split"\n'
        '"abseiling","aaaaaaaaaaa","1","11","train"\n',
        "label,youtube_id,time_start,time_end,split,,\nabseiling,aaaaaaaaaaa,1,11,train,,\n",
        "split,is_cc,time_end,time_start,youtube_id,label\ntrain,0,11,1,aaaaaaaaaaa,abseiling\n",
        (HEADER + GOOD).replace(",", ";"),
        (HEADER + GOOD).replace(",", "\t"),
        "Label, YouTube_ID, Time_Start, Time_End, SPLIT\nabseiling, aaaaaaaaaaa, 1, 11, train\n",
        (HEADER + GOOD).replace("\n", "\r"),
        HEADER.rstrip() + ",x,x\n" + GOOD.rstrip() + f",{'y' * 200_000},\n",
        HEADER + GOOD.replace(",1,", f",{'0' * 5000}1,"),
    ],
    ids=[
        *("bom", "crlf", "no end", "blank line", "blank lines", "commas", "quotes", "more"),
        *("order", "semicolons", "tabs", "case and spaces", "cr", "long cell", "zeros"),
    ],
)
def test_harmless_variants_give_the_same_row(read_text: Reader, content: str) -> None:
    (row,) = read_text(content)
    assert (row["youtube_id"], row["time_start"], row["time_end"]) == ("aaaaaaaaaaa", 1, 11)
    assert (row["label"], row["split"], row["source_line"]) == (341, "train", 2)


def test_a_quoted_comma_is_part_of_the_name(read_text: Reader) -> None:
    with pytest.raises(LabelError, match="'abseiling, mostly' is no Kinetics class"):
        read_text(HEADER + GOOD + '"abseiling, mostly",aaaaaaaaaaa,1,11,train\n')


def test_test_lists_may_have_no_label(read_text: Reader) -> None:
    with_blank = read_text(HEADER + ",aaaaaaaaaaa,1,11,test\n", "test.csv")
    without = read_text("youtube_id,time_start,time_end,split\naaaaaaaaaaa,1,11,test\n", "test.csv")
    assert with_blank == without
    assert without[0]["label"] is without[0]["label_raw"] is None


def test_gzip_and_json_hold_the_same_rows(tmp_path: Path) -> None:
    rows = [("abseiling", "aaaaaaaaaaa", 1, 11), ("tying tie", "-bbbbbbbbbb", 84, 94)]
    text = HEADER + "".join(f"{a},{b},{c},{d},train\n" for a, b, c, d in rows)
    entries = {
        b: {"annotations": {"label": a, "segment": [float(c), d]}, "subset": "train", "url": "x"}
        for a, b, c, d in rows
    }
    contents = {
        "train.csv": text.encode(),
        "train.csv.gz": gzip.compress(text[:50].encode()) + gzip.compress(text[50:].encode()),
        "train.json": json.dumps(entries).encode(),
    }
    read_rows = {}
    for name, content in contents.items():
        folder = tmp_path / name / "k400"
        folder.mkdir(parents=True)
        (folder / name).write_bytes(content)
        read_rows[name] = read(folder)
    for row in read_rows["train.json"]:
        row["source_line"] += 1  # an entry's number: there is no header
    for name, found in read_rows.items():
        assert [{**row, "source_file": ""} for row in found] == [
            {**row, "source_file": ""} for row in read_rows["train.csv"]
        ], name


def test_json_may_be_packed_too(read_text: Reader) -> None:
    entry = '{"aaaaaaaaaaa": {"annotations": {"segment": [1, 11]}, "subset": "test"}}\n'
    (row,) = read_text(gzip.compress(entry.encode()), "test.json.gz")
    assert row["time_end"] == 11


def test_json_keeps_both_entries_of_one_id(read_text: Reader) -> None:
    one = (
        '"aaaaaaaaaaa": {"annotations": {"label": "archery", "segment": [1, 11]}, "subset": "val"}'
    )
    two = one.replace("[1, 11]", "[5, 15]")
    rows = read_text(f"{{{one}, {two}}}", "val.json")
    assert [(row["time_start"], row["source_line"]) for row in rows] == [(1, 1), (5, 2)]


def test_json_test_lists_may_have_no_label(read_text: Reader) -> None:
    entry = '{"aaaaaaaaaaa": {"annotations": {"segment": [1, 11]}, "subset": "test"}}'
    assert read_text(entry, "test.json")[0]["label"] is None


@settings(max_examples=30)
@given(
    blanks=st.lists(st.integers(0, 2), min_size=1, max_size=40),
    block_bytes=st.sampled_from([70, 100, 4 << 20]),
)
def test_lines_are_those_of_the_file_whatever_the_blocks(
    tmp_path_factory: pytest.TempPathFactory, blanks: list[int], block_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("lists") / "k400"
    folder.mkdir()
    lines = HEADER.splitlines()
    expected = []
    for number, blank in enumerate(blanks):
        lines += [""] * blank + [f"abseiling,{number:011d},1,11,train"]
        expected.append((f"{number:011d}", len(lines)))
    (folder / "train.csv").write_text("\n".join(lines) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("k710.annotations.read._BLOCK_BYTES", block_bytes)
        rows = read(folder)
    assert [(row["youtube_id"], row["source_line"]) for row in rows] == expected


@settings(max_examples=30)
@given(chunk=st.integers(64, 400), count=st.integers(1, 30))
def test_json_is_the_same_whatever_the_chunks(
    tmp_path_factory: pytest.TempPathFactory, chunk: int, count: int
) -> None:
    folder = tmp_path_factory.mktemp("lists") / "k400"
    folder.mkdir()
    entry = {"annotations": {"label": "archery", "segment": [1.0, 11.0]}, "subset": "train"}
    text = json.dumps({f"{n:011d}": entry for n in range(count)}, indent=count % 3)
    (folder / "train.json").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("k710.annotations.read._ENTRY_BYTES", chunk)
        rows = read(folder)
    assert [row["youtube_id"] for row in rows] == [f"{n:011d}" for n in range(count)]
    assert [row["source_line"] for row in rows] == list(range(1, count + 1))


def test_what_follows_the_last_entry_is_seen_however_far(
    read_text: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = '{"aaaaaaaaaaa": {"annotations": {"segment": [1, 11]}, "subset": "test"}}'
    monkeypatch.setattr("k710.annotations.read._ENTRY_BYTES", len(entry))
    assert len(read_text(entry + " " * 500, "test.json")) == 1
    for rest in ("x", " " * 500 + "x", "\n" * len(entry) + "{}"):
        with pytest.raises(SourceError, match="goes on after its last entry, 1"):
            read_text(entry + rest, "test.json")


# --- what is refused

BAD_ROWS = {
    "ragged, too few": ("abseiling,bbbbbbbbbbb,1,11\n", "4 values under a header of 5 columns"),
    "ragged, too many": ("abseiling,bbbbbbbbbbb,1,11,train,0\n", "6 values under a header of 5"),
    "path in id": ("abseiling,../../x,1,11,train\n", "'../../x' is no YouTube id"),
    "url": ("abseiling,https://youtu.be/bbbbbbbbbbb,1,11,train\n", "without the address around"),
    "lost dash": ("abseiling,bbbbbbbbbb,1,11,train\n", "Has a program taken away a leading -?"),
    "long id": ("abseiling,bbbbbbbbbbbb,1,11,train\n", "those have 11 characters"),
    "id with a line end": ('abseiling,"bbbbbbbbbbb\n",1,11,train\n', "runs past its line"),
    "other script": ("abseiling,bbbbbbbbbbé,1,11,train\n", "is no YouTube id"),
    "number as id": ("abseiling,1.23457e+10,1,11,train\n", "'1.23457e+10' is no YouTube id"),
    "half second": ("abseiling,bbbbbbbbbbb,1.5,11,train\n", "time_start '1.5' is no whole number"),
    "negative": ("abseiling,bbbbbbbbbbb,-1,11,train\n", "time_start '-1' is no whole number"),
    "no time": ("abseiling,bbbbbbbbbbb,1,,train\n", "time_end '' is no whole number"),
    "exponent": ("abseiling,bbbbbbbbbbb,1,1e2,train\n", "time_end '1e2' is no whole number"),
    "nan": ("abseiling,bbbbbbbbbbb,1,nan,train\n", "time_end 'nan' is no whole number"),
    "eleven days": ("abseiling,bbbbbbbbbbb,1,1000000,train\n", "'1000000' is no whole number"),
    "huge": ("abseiling,bbbbbbbbbbb,1,99999999999,train\n", "'99999999999' is no whole number"),
    "end = start": ("abseiling,bbbbbbbbbbb,5,5,train\n", "time_end (5) must be greater than"),
    "end < start": ("abseiling,bbbbbbbbbbb,11,1,train\n", "time_end (1) must be greater than"),
    "blank label": (",bbbbbbbbbbb,1,11,train\n", "the label is blank in a row of 'train'"),
    "blank val label": ("  ,bbbbbbbbbbb,1,11,validate\n", "the label is blank in a row of 'val"),
    "no class": ("flying,bbbbbbbbbbb,1,11,train\n", "'flying' is no Kinetics class. Nearest:"),
    "other dataset": ("bull fighting,bbbbbbbbbbb,1,11,train\n", "is no class of k400: it is one"),
    "other letters": ("abseiling é,bbbbbbbbbbb,1,11,train\n", "is no Kinetics class"),
    "digits": ("abseiling 2,bbbbbbbbbbb,1,11,train\n", "'abseiling 2' is no Kinetics class"),
    "zero byte": ("abseiling\0,bbbbbbbbbbb,1,11,train\n", "this is not UTF-8 text"),
    "markup": ("[red]x[/red],bbbbbbbbbbb,1,11,train\n", r"'[red]x[/red]' is no Kinetics class"),
    "escape": ("\x1b[31m,bbbbbbbbbbb,1,11,train\n", r"'\x1b[31m' is no Kinetics class"),
    "split": ("abseiling,bbbbbbbbbbb,1,11,trian\n", "'trian' is no split: published lists have"),
    "no split": ("abseiling,bbbbbbbbbbb,1,11,\n", "'' is no split"),
    "latin-1": (b"caf\xe9,bbbbbbbbbbb,1,11,train\n", "this is not UTF-8 text"),
    "latin-1, ragged": (b"caf\xe9,bbbbbbbbbbb,1,11\n", "4 values under a header of 5 columns"),
    "5,000 digits": (f"abseiling,bbbbbbbbbbb,{'1' * 5000},11,train\n", "is no whole number"),
    "long label": (f"{'a' * 200_000},bbbbbbbbbbb,1,11,train\n", "is no Kinetics class"),
    "very long id": (f"abseiling,{'b' * 200_000},1,11,train\n", "those have 11 characters"),
    "right to left": ("abs\u202eeiling,bbbbbbbbbbb,1,11,train\n", r"'abs\u202eeiling' is no"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_row_is_named_with_file_and_line(
    read_text: Reader, case: str, capfd: pytest.CaptureFixture[str]
) -> None:
    row, words = BAD_ROWS[case]
    bad = row.encode() if isinstance(row, str) else row
    content = (HEADER + GOOD + "\n" + GOOD).encode() + bad + GOOD.encode()
    with pytest.raises(K710Error) as error:
        read_text(content)
    text = str(error.value)
    assert words in text
    assert text.splitlines()[0].partition(" ")[0].endswith("k400/train.csv:5:"), text
    assert text.count("\n") == 1, "what is wrong, then what to do"
    assert text.replace("\n", "").isprintable()
    assert capfd.readouterr() == ("", ""), "nothing is printed beside the error"


BAD_FILES: dict[str, tuple[str, bytes, str]] = {
    "empty": ("train.csv", b"", "is empty.\n"),
    "white": ("train.csv", b"\n\n  \n", "is empty.\n"),
    "header only": ("train.csv", HEADER.encode(), "has no row under its header.\n"),
    "html": ("train.csv", b"\n<!DOCTYPE html><html>\n", "train.csv:1: this is a web page, no list"),
    "no split column": (
        "train.csv",
        b"label,youtube_id,time_start,time_end\n",
        "train.csv:1: there is no column split in 'label,youtube_id,time_start,time_end'.\n",
    ),
    "no header": (
        "train.csv",
        GOOD.encode(),
        "there is no column youtube_id and no time_start and no time_end and no split in",
    ),
    "column twice": (
        "train.csv",
        b"label,label,youtube_id,time_start,time_end,split\n",
        "the header has the column label twice",
    ),
    "no label column": (
        "train.csv",
        b"youtube_id,time_start,time_end,split\naaaaaaaaaaa,1,11,train\n",
        "train.csv:2: the label is blank in a row of 'train'",
    ),
    "utf-16": ("train.csv", (HEADER + GOOD).encode("utf-16"), "train.csv:1: this is UTF-16 text"),
    "zeros": ("train.csv", b"\x00" * 100, "this is not UTF-8"),
    "no gzip": ("train.csv.gz", (HEADER + GOOD).encode(), "ends too early, or is damaged"),
    "html as gzip": ("train.csv.gz", b"<html>", "ends too early, or is damaged"),
    "json list": ("train.json", b"[1, 2]", "this JSON is no object of entries by YouTube id"),
    "json page": ("train.json", b"<html></html>", "this is a web page, no list"),
    "json cut": ("train.json", b'{"aaaaaaaaaaa": {"annot', "entry 1: broken JSON"),
    "json no segment": (
        "train.json",
        b'{"aaaaaaaaaaa": {"annotations": {"label": "archery"}, "subset": "train"}}',
        "entry 1: 'aaaaaaaaaaa' lacks its annotations, segment or subset",
    ),
    "json bad id": (
        "train.json",
        b'{"../x": {"annotations": {"label": "archery", "segment": [1, 2]}, "subset": "train"}}',
        "train.json, entry 1: '../x' is no YouTube id",
    ),
    "json empty": ("train.json", b"{}", "has no row under its header"),
    "json with more": ("train.json", b"{} {}", "goes on after its last entry, 0"),
    "json twice": ("train.json", b"{ENTRY} {ENTRY}", "goes on after its last entry, 1"),
    "json without comma": ("train.json", b"{ENTRY ENTRY}", "entry 1: broken JSON"),
    "json with two commas": ("train.json", b"{ENTRY,, ENTRY}", "entry 2: broken JSON"),
    "json without colon": ("train.json", b'{"aaaaaaaaaaa" {}}', "entry 1: broken JSON"),
    "json not closed": ("train.json", b"{ENTRY, ", "entry 2: broken JSON"),
    "json deep": ("train.json", b'{"a": ' + b"[" * 100_000, "entry 1: broken JSON"),
    "json deep value": ("train.json", b'{"a": ' + b"[" * 900 + b"]" * 900 + b"}", "'a' lacks its"),
    "json 4,000 digits": (
        "train.json",
        b'{"aaaaaaaaaaa": {"annotations": {"segment": ['
        + b"1" * 4000
        + b', 2]}, "subset": "test"}}',
        "entry 1: time_start '1111",
    ),
    "utf-16 without its mark": (
        "train.csv",
        (HEADER + GOOD).encode("utf-16-le"),
        "train.csv:1: this is not UTF-8",
    ),
    "blank lines, packed": (
        "train.csv.gz",
        gzip.compress(HEADER.encode() + b"\n" * 20_000_000, 1),
        "times its size, as no list does",
    ),
    "zeros, packed as json": (
        "train.json.gz",
        gzip.compress(bytes(20_000_000), 1),
        "times its size, as no list does",
    ),
    "json long number": ("train.json", b'{"a": ' + b"9" * 5000 + b"}", "entry 1: broken JSON"),
    "json half a character": (
        "train.json",
        b'{"a": {"annotations": {"label": "\\ud800", "segment": [1, 2]}, "subset": "val"}}',
        "lacks its annotations, segment or subset",
    ),
    "json label list": (
        "train.json",
        b'{"a": {"annotations": {"label": ["archery"], "segment": [1, 2]}, "subset": "val"}}',
        "lacks its annotations, segment or subset",
    ),
    "json label false": (
        "test.json",
        b'{"a": {"annotations": {"label": false, "segment": [1, 2]}, "subset": "test"}}',
        "lacks its annotations, segment or subset",
    ),
    "json segment text": (
        "train.json",
        b'{"a": {"annotations": {"label": "archery", "segment": "12"}, "subset": "val"}}',
        "lacks its annotations, segment or subset",
    ),
    "json of numbers": ("train.json", b'{"a": 5}', "entry 1: 'a' lacks its annotations"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_named(read_text: Reader, case: str) -> None:
    name, content, words = BAD_FILES[case]
    entry = (
        b'"aaaaaaaaaaa": {"annotations": {"label": "archery", "segment": [1, 2]}, "subset": "val"}'
    )
    content = content.replace(b"ENTRY", entry)
    with pytest.raises(SourceError) as error:
        read_text(content, name)
    assert words in str(error.value)
    assert str(error.value).replace("\n", "").isprintable()


@pytest.mark.parametrize("kept", [10, 200, -1])
def test_a_truncated_gzip_is_refused(read_text: Reader, kept: int) -> None:
    rows = "".join(f"abseiling,{n:011d},1,11,train\n" for n in range(20_000))
    with pytest.raises(SourceError, match="ends too early, or is damaged"):
        read_text(gzip.compress((HEADER + rows).encode())[:kept], "train.csv.gz")


def test_a_line_without_an_end_is_refused(read_text: Reader) -> None:
    with pytest.raises(SourceError, match=r"train\.csv:2: from here on it can't be read"):
        read_text(HEADER + "a" * (9 << 20))


def test_a_file_that_is_gone_is_said(tmp_path: Path) -> None:
    (tmp_path / "k400").mkdir()
    (tmp_path / "k400" / "train.csv").write_text(HEADER + GOOD)
    files = find_lists(tmp_path).files
    files[0].path.unlink()
    with pytest.raises(SourceError, match=r"train\.csv can't be read: No such file"):
        list(read_annotations(files, found=Counter()))


def test_an_open_quote_swallows_no_row_in_silence(read_text: Reader) -> None:
    with pytest.raises(SourceError, match=r"train\.csv:3: "):
        read_text(HEADER + GOOD + '"' + GOOD + GOOD + GOOD)


def test_an_open_quote_in_an_unused_column_loses_no_row(read_text: Reader) -> None:
    header = HEADER.rstrip() + ",is_cc\n"
    rows = GOOD.rstrip() + ',"0\n' + GOOD.rstrip() + ",0\n"
    with pytest.raises(SourceError, match=r"train\.csv:2: a quoted value of is_cc runs past"):
        read_text(header + rows)


def test_a_list_in_the_wrong_folder_is_told_where_it_belongs(read_text: Reader) -> None:
    rows = "".join(
        f"{label},{n:011d},1,11,val\n"
        for n, label in enumerate(["abseiling", "bull fighting", "chopping vegetables"])
    )
    with pytest.raises(LabelError) as error:
        read_text(HEADER + rows, "val.csv")
    assert str(error.value).partition("val.csv:3: ")[2] == (
        "'bull fighting' is no class of k400: it is one of k600.\n"
        "All 3 names read here are classes of k600: this looks like a list of k600, "
        "and its path says k400. Rename the file or its folder."
    )


# --- editions


def test_two_files_of_one_list_are_an_edition_conflict(tmp_path: Path) -> None:
    for folder in ("kinetics700", "kinetics700_2020"):
        path = tmp_path / "lists" / folder / "val.csv"
        path.parent.mkdir(parents=True)
        path.write_text(HEADER + GOOD.replace("train", "val"))
    with pytest.raises(SourceError) as error:
        read(tmp_path / "lists")
    assert "kinetics700/val.csv" in str(error.value)
    assert "kinetics700_2020/val.csv" in str(error.value)
    assert "hold rows of k700/val: two editions of one list.\n" in str(error.value)
    assert len(read(tmp_path / "lists", merge_editions=True)) == 2


def test_the_holdout_list_is_a_list_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "k600"
    folder.mkdir()
    (folder / "test.csv").write_text(HEADER + GOOD.replace("train", "test"))
    (folder / "test_holdout.csv").write_text(HEADER + GOOD.replace("train", "holdout_test"))
    assert [row["split"] for row in read(folder)] == ["test", "test"]
