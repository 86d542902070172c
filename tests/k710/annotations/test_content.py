"""What a file begins with tells what it is, whatever its name says."""

import gzip
from pathlib import Path

import pytest
from hypothesis import example, given, strategies as st

from k710.annotations.content import is_list_header, name_other_list, parse_header, read_head
from support.list_files import shared

READY_MADE = {
    "mmaction2": "abseiling/_4YTwq0-73Y_000044_000054.mp4 0\nabseiling/a.mp4 0\n",
    "slowfast": "/data/k400/train/abseiling/_4YTwq0-73Y.mp4,0\n",
    "quoted": '"clips/tap dancing/_4YTwq0-73Y.mp4",345\n',
    "uniformer": "k400/_4YTwq0-73Y_000044_000054.mp4 345\nk700/x.mkv 709\n",
    "k710 of two columns": "path,label\nk400/_4YTwq0-73Y_000044_000054.webm;345\n",
    "spaces in paths": "val/tap dancing/_4YTwq0-73Y.mp4 345\n",
    "windows": "C:\\k400\\_4YTwq0-73Y.avi\t0\r\nC:\\k400\\x.avi\t1\r\n",
    "frames": "train/abseiling/_4YTwq0-73Y 250 0\n",
    "frames by number": "78687 60 35\n74225 63 140\n",
    "multi-label": "a/b.mp4 3 17 5\n",
    "paths alone": "abseiling/_4YTwq0-73Y.mp4\n",
    "no ending": "_4YTwq0-73Y_000044_000054 0\n-aU-xCCzkT0 17\n",
    "class names": "abseiling/_4YTwq0-73Y.mp4,abseiling\n",
    "json": '{"clips/_4YTwq0-73Y.mp4": 5, "clips/x.mp4": 6}',
}
CLASSES = {
    "names": "abseiling\nair drumming\n",
    "numbered": "0 abseiling\n1 air drumming\n",
    "csv": "id,name\n0,abseiling\n1,air drumming\n",
    "index last": '"air drumming",1\n',
    "json list": '["abseiling", "air drumming"]',
    "json map": '{"\\"air drumming\\"": 1, "abseiling": 0}',
    "json numbers": '{"0": "abseiling", "1": "air drumming"}',
}
LISTS = {
    "csv": "label,youtube_id,time_start,time_end,split\nabseiling,a/b.mp4,0\n",
    "tsv": "youtube_id\ttime_start\ttime_end\tsplit\n",
    "other case": " Label; YouTube_ID; Time_Start; Time_End; Split\n",
    "no header": "abseiling,_4YTwq0-73Y,44,54,train\nx/y.mp4 3\n",
    "no header, no label": "_4YTwq0-73Y,44,54,holdout_test\n",
}
UNKNOWN = {
    "empty": "",
    "text": "Kinetics is a data set.\nSee k400/readme.\n",
    "half a json": '{"_4YTwq0-73Y": {"annot',
    "deepmind": '{"_4YTwq0-73Y": {"annotations": {"label": "abseiling", "segment": [4, 14]}, '
    '"subset": "train"}}',
    "other header": "label,id,start\nabseiling,_4YTwq0-73Y,44\n",
    "one number": "abseiling\n5\n",
}


@pytest.mark.parametrize("name", READY_MADE)
def test_ready_made_lists_are_known(name: str) -> None:
    other = name_other_list(READY_MADE[name].encode())
    assert other is not None
    assert other.kind.startswith("a ready-made list of videos")
    assert other.line in READY_MADE[name]


@pytest.mark.parametrize("name", CLASSES)
def test_class_lists_are_known(name: str) -> None:
    other = name_other_list(CLASSES[name].encode())
    assert other is not None
    assert other.kind.startswith("a list of classes")


def test_ids_alone_are_known() -> None:
    other = name_other_list(b"_4YTwq0-73Y\n-aU-xCCzkT0\n")
    assert other is not None
    assert other.kind.startswith("YouTube ids alone")


@pytest.mark.parametrize("name", LISTS)
def test_annotation_lists_are_no_other_lists(name: str) -> None:
    assert is_list_header(LISTS[name].splitlines()[0])
    assert name_other_list(LISTS[name].encode()) is None


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_known_is_not_guessed(name: str) -> None:
    assert name_other_list(UNKNOWN[name].encode()) is None
    assert not is_list_header(UNKNOWN[name].partition("\n")[0])


@given(st.binary(max_size=200))
@example(b"\n" * 70_000)
@example(b'{"' + b'\\"' * 40_000)
@example(b"/, " * 30_000 + b"\n")
def test_any_bytes_can_be_looked_at(head: bytes) -> None:
    other = name_other_list(head)
    assert other is None or other.line.strip()


@pytest.mark.parametrize(
    ("line", "delimiter", "has_spaces"),
    [
        ("label,youtube_id,time_start,time_end,split", ",", False),
        ("LABEL;YouTube_Id;time_start;time_end;split", ";", False),
        ('"label"\t"youtube_id"\t"time_start"\t"time_end"\t"split"', "\t", False),
        ("label, youtube_id, time_start, time_end, split", ",", True),
    ],
)
def test_a_header_tells_how_the_file_is_parted(line: str, delimiter: str, has_spaces: bool) -> None:
    header = parse_header(line)
    assert header.names == ("label", "youtube_id", "time_start", "time_end", "split")
    assert (header.delimiter, header.has_spaces) == (delimiter, has_spaces)


def test_the_head_is_unpacked_by_what_the_file_is(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(gzip.compress(b"x" * 100_000))
    assert read_head(path) == (b"x" * 65_536, True)
    path.write_bytes(b"\x1f\x8bno gzip")
    assert read_head(path) == (b"", True)
    path.write_bytes(b"x" * 100_000)
    assert read_head(path) == (b"x" * 65_536, False)


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("reference/labels/mmaction2_label_map_k600.txt", "a list of classes"),
        ("annotations_other/sthv2/vificlip_validation.txt", "a ready-made list"),
        ("annotations_other/sthv1/uniformer_somesomev1_rgb_train_split.txt", "a ready-made list"),
        ("annotations/kinetics700_2020/test.csv", None),
        ("annotations/kinetics400/val.csv", None),
    ],
)
def test_published_files_are_known(folder: str, kind: str | None) -> None:
    other = name_other_list(read_head(shared(*folder.split("/")))[0])
    assert other is None if kind is None else other is not None and other.kind.startswith(kind)
