"""Which files are lists, and of which dataset?"""

import gzip
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
    (file,) = find_lists(touch(tmp_path / "lists", name)).files
    assert (file.name, file.dataset) == (name, dataset)


def test_the_folders_own_name_counts_too(tmp_path: Path) -> None:
    (file,) = find_lists(touch(tmp_path / "kinetics600", "val.csv")).files
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
    found = find_lists(folder).files
    assert [(file.name, tuple(twin.name for twin in file.twins)) for file in found] == [
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
    assert [file.name for file in find_lists(folder).files] == ["linked/train.csv", "val.csv"]


def test_no_folder_and_no_list_are_said(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"lists is no folder\.\n.*k710 fetch-annotations"):
        find_lists(tmp_path / "lists")
    folder = touch(tmp_path / "k400", "kinetics400.tar.gz", "notes.txt")
    with pytest.raises(SourceError, match="has no annotation list in it") as error:
        find_lists(folder)
    assert str(error.value).splitlines()[1:3] == [
        "Not read: kinetics400.tar.gz: an archive, which would have to be unpacked.",
        "Not read: notes.txt: it is empty.",
    ]
    assert "\nUnpack the archives there, or get them with: k710 fetch-ann" in str(error.value)


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
    assert find_lists(tmp_path / "kinetics400").files[0].dataset == "k400"
    assert find_lists(tmp_path / "lists_2").files[0].dataset == "k600"


def test_sidecars_and_archives_are_no_lists(tmp_path: Path) -> None:
    folder = touch(tmp_path / "k400", "work/annotations.parquet.json", "lists.tar.gz", "val.csv")
    assert [file.name for file in find_lists(folder).files] == ["val.csv"]


# --- what is not read is said

LIST = "label,youtube_id,time_start,time_end,split\nabseiling,aaaaaaaaaaa,1,11,train\n"


def reasons(folder: Path) -> dict[str, str]:
    found = find_lists(folder)
    return {name: unread.reason for unread in found.unread for name in unread.files}


def test_txt_and_tsv_lists_are_read(tmp_path: Path) -> None:
    folder = touch(tmp_path / "k600")
    folder.mkdir()
    (folder / "train.txt").write_text(LIST)
    (folder / "val.tsv").write_text(LIST.replace(",", "\t"))
    (folder / "test.txt.gz").write_bytes(gzip.compress(LIST.encode()))
    (folder / "more.csv").write_bytes(gzip.compress(LIST.encode()))
    found = find_lists(folder)
    assert [(file.name, file.is_gzip) for file in found.files] == [
        ("more.csv", True),
        ("test.txt.gz", True),
        ("train.txt", False),
        ("val.tsv", False),
    ]
    assert not found.unread


def test_every_other_file_is_named_with_its_reason(tmp_path: Path) -> None:
    folder = touch(
        tmp_path / "k400",
        *("val.csv", "train.csv.bz2", "lists.zip", "train.xlsx", "train.parquet", "a.jsonl"),
        *("README.md", "LICENSE", "empty.txt", ".train.csv", "._val.csv", ".fetched.json"),
        *("work/manifest.parquet", "work/manifest.parquet.json", ".git/x.csv"),
    )
    (folder / "videos.csv").write_text("a/b.mp4 3\n")
    (folder / "classes.json").write_text('{"abseiling": 0}')
    (folder / "notes.txt").write_text("Read me\x1b[31m first\n")
    os.mkfifo(folder / "train.csv")
    (folder / "videos").symlink_to(tmp_path / "gone")
    assert reasons(folder) == {
        "train.csv.bz2": ".bz2 is no form in which the lists are published",
        "lists.zip": "an archive, which would have to be unpacked",
        "train.xlsx": ".xlsx is no form in which the lists are published",
        "train.parquet": ".parquet is no form in which the lists are published",
        "a.jsonl": ".jsonl is no form in which the lists are published",
        "README.md": "no list by its ending",
        "LICENSE": "no list by its ending",
        "empty.txt": "it is empty",
        ".train.csv": "a hidden file",
        "work/manifest.parquet": "a table of k710",
        "work/manifest.parquet.json": "a table of k710",
        "videos.csv": "a ready-made list of videos, as MMAction2, SlowFast, VideoMAE and UniFormer "
        "read it, without the times and the order of its classes; k710 export writes such lists",
        "classes.json": "a list of classes, of which k710 labels --check says the order",
        "notes.txt": "its first line is no header of an annotation list",
        "train.csv": "no plain file, but a pipe, a socket or a device",
        "videos": "a link to a file that isn't there",
    }
    words = [unread.words() for unread in find_lists(folder).unread]
    assert (
        "Not read: notes.txt: its first line is no header of an annotation list "
        "('Read me\\x1b[31m first')." in words
    )


def test_many_files_of_one_reason_are_one_line(tmp_path: Path) -> None:
    names = [f"clips/{number:03d}.mp4" for number in range(200)]
    (unread,) = find_lists(touch(tmp_path / "k400", "val.csv", *names)).unread
    assert (unread.num_files, len(unread.files)) == (200, 10)
    assert unread.words() == (
        "Not read: clips/000.mp4, clips/001.mp4, clips/002.mp4 and 197 more: no list by its ending."
    )


def test_ready_made_lists_alone_are_an_error_that_says_which_lists_are_needed(
    tmp_path: Path,
) -> None:
    folder = touch(tmp_path / "k400")
    folder.mkdir()
    path = folder / "train_list_videos.txt"
    path.write_text("k400/-aU-xCCzkT0_000010_000020.mp4 345\n")
    for place in (folder, path):
        with pytest.raises(SourceError) as error:
            find_lists(place)
        text = str(error.value)
        assert "a ready-made list of videos, as MMAction2" in text
        assert "'k400/-aU-xCCzkT0_000010_000020.mp4 345'" in text
        assert "have the columns label, youtube_id, time_start, time_end, split.\n" in text
        assert "with: k710 fetch-annotations" in text


def test_a_list_given_for_a_folder_is_told_to_name_that(tmp_path: Path) -> None:
    path = tmp_path / "k400_val.csv"
    path.write_text(LIST)
    with pytest.raises(SourceError, match=r"is a file\.\nName the folder that it lies in"):
        find_lists(path)


def test_a_damaged_list_is_never_passed_over(tmp_path: Path) -> None:
    folder = touch(tmp_path / "k400", "a.csv")
    (folder / "b.csv").write_text(LIST.partition("\n")[2])  # the header is gone
    (folder / "c.txt").write_text(LIST.partition("\n")[2])
    (folder / "d.csv.gz").write_bytes(b"\x1f\x8b damaged")
    (folder / "e.json").write_text("[1, 2]")
    assert len(find_lists(folder).files) == 5


def test_loops_of_links_end(tmp_path: Path) -> None:
    folder = touch(tmp_path / "k400", "val.csv")
    (folder / "loop").symlink_to("loop")
    (folder / "up").symlink_to(folder / "..")
    assert [file.name for file in find_lists(folder).files] == ["val.csv"]
    assert reasons(folder) == {"loop": "a link to a file that isn't there"}
    (folder / "val.csv").unlink()
    (folder / "val.csv").symlink_to("val.csv")
    with pytest.raises(SourceError, match=r"val\.csv is a link to a file that isn't there \(Too"):
        find_lists(folder)


def test_no_folder_is_too_deep(tmp_path: Path) -> None:
    folder = touch(tmp_path / "k400", "val.csv")
    deepest = str(folder)
    for _ in range(1200):  # deeper than Python recurses
        deepest += "/d"
        os.mkdir(deepest)
    path = Path(deepest, "train.csv")
    path.touch()
    try:
        names = [file.name for file in find_lists(folder).files]
        assert names == [f"{'d/' * 1200}train.csv", "val.csv"]
    finally:  # pytest's own clean-up would recurse
        path.unlink()
        os.removedirs(deepest)


def test_folders_may_be_called_as_lists(tmp_path: Path) -> None:
    folder = touch(tmp_path / "k400", "train.csv/part-0.csv", "val.txt/part-0.csv")
    assert [file.name for file in find_lists(folder).files] == [
        "train.csv/part-0.csv",
        "val.txt/part-0.csv",
    ]
