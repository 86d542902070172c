"""Reading a build: one view as a DataFrame, the fate of one id, and what the merges rest on."""

from pathlib import Path

import pandas as pd
import pytest

import k710
from k710.errors import SourceError, StageError
from k710.manifest.build import build_manifest
from k710.manifest.read import NamePair, label_evidence
from support.list_files import Lists, vid, write_lists

NAMED: Lists = {
    "k400/train": [
        ("archery", "leaked", 0, 10),
        ("tying tie", "shared", 5, 15),
        ("archery", "same", 0, 10),
        ("archery", "same", 0, 10),
    ],
    "k600/train": [("tying necktie", "shared", 5, 15), ("bull fighting", "shared", 50, 60)],
    "k700/val": [("archery", "leaked", 3, 13)],
    "k700/test": [("", "blind", 0, 10)],
}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("views")
    build_manifest(write_lists(root / "annotations", NAMED), work=root / "work")
    return root / "work"


def verdicts(youtube_id: str, work: Path) -> list[tuple[str, int, str]]:
    rows = k710.explain(vid(youtube_id), work=work)
    return [(row.list_name, row.source_line, row.verdict) for row in rows]


def test_a_view_is_a_frame_of_its_clips(work: Path) -> None:
    frame = k710.load_view("k710/train", work=work)
    assert list(frame["clip_id"]) == [
        f"{vid('same')}_000000_000010",
        f"{vid('shared')}_000005_000015",
    ]
    assert list(frame["label_name"]) == ["archery", "tying necktie"]
    assert [list(lists) for lists in frame["found_in"]] == [
        ["k400/train"],
        ["k400/train", "k600/train"],
    ]
    assert isinstance(frame, pd.DataFrame)
    assert (
        frame.dtypes["label"] == "Int16" == k710.load_view("k700/test", work=work).dtypes["label"]
    )


def test_an_unknown_view_is_told_the_nearest(work: Path) -> None:
    with pytest.raises(StageError) as error:
        k710.load_view("k710/trian", work=work)
    assert str(error.value) == (
        f"There is no view 'k710/trian' in {work}. Nearest: k710/train.\n"
        "There are k400/train, k600/train, k700/test, k700/val, k710/train, k710/val."
    )


def test_each_row_of_an_id_is_explained(work: Path) -> None:
    assert verdicts("leaked", work) == [
        ("k400/train", 2, "not in k710/train: its id is in k700/val"),
        ("k700/val", 2, "in k710/val"),
    ]
    stands = f"{vid('shared')}_000005_000015 stands there for this id"
    assert verdicts("shared", work) == [
        ("k400/train", 3, f"not in k710/train: {stands}"),
        ("k600/train", 2, "in k710/train"),
        ("k600/train", 3, f"not in k710/train: {stands}"),
    ]
    assert verdicts("same", work) == [
        ("k400/train", 4, "in k710/train"),
        (
            "k400/train",
            5,
            f"not in k710/train: {vid('same')}_000000_000010 stands there for this id; "
            "not in k400/train: an exact duplicate",
        ),
    ]
    assert verdicts("blind", work) == [("k700/test", 2, "in no k710 view")]


def test_an_explained_row_says_both_names_of_a_merged_class(work: Path) -> None:
    row = k710.explain(vid("shared"), work=work)[0]
    assert (row.label_raw, row.label_name, row.label) == ("tying tie", "tying necktie", 38)
    assert (row.source_file, row.source_line) == ("k400/train.csv", 3)


def test_an_id_that_differs_by_case_is_suggested(work: Path) -> None:
    with pytest.raises(SourceError) as error:
        k710.explain(vid("Leaked"), work=work)
    assert str(error.value) == (
        "No annotation row has the id 'Leaked_____'.\n"
        "Letter case matters in ids: there is leaked_____."
    )
    with pytest.raises(SourceError, match="No annotation row has the id 'nothing'"):
        k710.explain("nothing", work=work)


def test_without_a_build_the_next_command_is_said(tmp_path: Path) -> None:
    for read in (
        lambda: k710.explain("x", work=tmp_path),
        lambda: k710.load_view("k710/val", work=tmp_path),
        lambda: k710.label_evidence(work=tmp_path),
    ):
        with pytest.raises(StageError, match=r"\nBuild it: k710 build-manifest --annotations DIR"):
            read()


def test_evidence_counts_clips_that_two_datasets_name_differently(tmp_path: Path) -> None:
    named: Lists = {
        "k400/train": [
            ("tying tie", "a", 0, 10),
            ("tying tie", "b", 0, 10),
            ("tying tie", "c", 0, 10),
            ("archery", "d", 0, 10),
        ],
        "k400/val": [("tying tie", "a", 0, 10)],  # the same clip once more: counted once
        "k600/val": [
            ("tying necktie", "a", 0, 10),
            ("tying necktie", "b", 5, 15),  # another window is another clip
            ("bowling", "d", 0, 10),
        ],
        "k700/train": [("tying necktie", "c", 0, 10), ("Archery", "d", 0, 10)],
    }
    build_manifest(write_lists(tmp_path / "annotations", named), work=tmp_path / "work")
    pairs = label_evidence(work=tmp_path / "work")
    assert [pair for pair in pairs if pair.clips] == [
        NamePair("tying necktie", "tying tie", True, 2, 1, 1, 0),
        NamePair("archery", "bowling", False, 1, 1, 0, 1),
    ]
    assert sum(pair.merged for pair in pairs) == 15


def test_evidence_is_what_the_lists_say_not_what_the_aliases_say(tmp_path: Path) -> None:
    named: Lists = {
        "k400/train": [("tying necktie", "a", 0, 10), ("Tying_Tie", "b", 0, 10)],
        "k600/train": [("tying necktie", "a", 0, 10), ("tying necktie", "b", 0, 10)],
    }
    build_manifest(write_lists(tmp_path / "annotations", named), work=tmp_path / "work")
    found = [pair for pair in label_evidence(work=tmp_path / "work") if pair.clips]
    assert found == [NamePair("tying necktie", "tying tie", True, 1, 1, 0, 0)]
