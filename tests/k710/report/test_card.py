"""The dataset card: what the hub reads of it, that it is true, and the same each time."""

import itertools
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, strategies as st
from markdown_it import MarkdownIt

from k710.errors import StageError
from k710.files import sha256_of
from k710.labels.orders import class_names, labels_sha256
from k710.manifest.build import build_manifest
from k710.report.card import PUBLISHED, card_text, size_category, write_card
from k710.sources.index import index_videos
from support.list_files import write_lists
from support.small_manifest import manifest_of
from support.small_shards import (
    FEW,
    TRAIN,
    VAL,
    all_made,
    all_ready,
    build,
    copy_of,
    name_of,
    ready,
    shard,
)

# As the hub's datasetcard.md and the `datasets` library have them.
SIZES = (
    *("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B"),
    *("1B<n<10B", "10B<n<100B", "100B<n<1T", "n>1T"),
)
KEYS = {
    *("language", "license", "tags", "pretty_name", "size_categories", "task_categories"),
    "configs",
}
SPLIT = r"\w+(\.\w+)*"
NOT_IN_CONFIG_NAMES = set(r"<>:/\|?*")


def front_matter(text: str) -> dict[str, Any]:
    """What a YAML parser finds between the fences that the hub looks for."""
    match = re.match(r"---\n(.*?)\n---\n", text, re.S)
    assert match
    found: dict[str, Any] = yaml.safe_load(match[1])
    return found


def cells(text: str) -> list[list[str]]:
    """The rows of all tables of a card as they are shown."""
    rows: list[list[str]] = []
    tokens = MarkdownIt().enable("table").parse(text)
    for before, token in itertools.pairwise(tokens):
        if token.type == "tr_open":
            rows.append([])
        elif before.type in ("th_open", "td_open"):
            rows[-1].append("".join(child.content for child in token.children or ()))
    return rows


@pytest.fixture(scope="module")
def done() -> Path:
    """A work directory with all its shards made, never written to."""
    return all_made()


@pytest.fixture(scope="module")
def text(done: Path) -> str:
    """Its card."""
    return card_text(done)[0]


# --- what the hub reads


def test_the_hub_can_read_the_front_matter(text: str) -> None:
    found = front_matter(text)
    assert set(found) == KEYS
    assert found["license"] == "cc-by-4.0"
    assert found["task_categories"] == ["video-classification"]
    assert found["language"] == ["en"]
    assert found["size_categories"] == ["n<1K"] and found["size_categories"][0] in SIZES
    assert isinstance(found["pretty_name"], str)
    assert all(isinstance(tag, str) for tag in found["tags"])


def test_each_config_is_a_table_that_can_be_loaded(text: str, done: Path) -> None:
    configs = front_matter(text)["configs"]
    names = [config["config_name"] for config in configs]
    assert names == ["manifest", "annotations", "leakage", "index"], "dropped has no row here"
    assert [config for config in configs if config.get("default") is True] == configs[:1]
    for config in configs:
        assert set(config) <= {"config_name", "data_files", "default"}
        assert not set(config["config_name"]) & NOT_IN_CONFIG_NAMES
        (files,) = config["data_files"]
        assert set(files) == {"split", "path"}
        assert re.fullmatch(SPLIT, files["split"]) and files["split"] != "all"
        assert pq.read_table(done / files["path"]).num_rows > 0


def test_no_published_table_tells_a_path_of_this_machine(text: str, done: Path) -> None:
    for name in PUBLISHED:
        told = str(pq.read_table(done / f"{name}.parquet").to_pydict())
        assert str(done.parent) not in told
    assert str(done.parent) not in text
    assert str(done.parent) in str(pq.read_table(done / "sources.parquet").to_pydict())


@given(num=st.integers(0, 10**14))
def test_a_size_is_in_its_bucket(num: int) -> None:
    bounds = {"1T": 10**12}
    for power, unit in ((3, "K"), (6, "M"), (9, "B")):
        bounds |= {f"{n}{unit}": n * 10**power for n in (1, 10, 100)}
    name = size_category(num)
    assert name in SIZES
    low, high = name.split("n")[0].rstrip("<"), name.split("n")[1].lstrip("<")
    if high.startswith(">"):
        low, high = high[1:], ""
    assert bounds.get(low, 0) <= num < bounds.get(high, 10**15)


@pytest.mark.parametrize(
    ("num", "size"),
    [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (999_999, "100K<n<1M"), (10**12, "n>1T")],
)
def test_sizes_at_their_bounds(num: int, size: str) -> None:
    assert size_category(num) == size


# --- the same each time


def test_the_same_tables_give_the_same_bytes(done: Path, text: str, tmp_path: Path) -> None:
    assert card_text(copy_of(done, tmp_path / "elsewhere"))[0] == text
    again = copy_of(all_ready(), tmp_path / "again")
    shard(again)
    assert card_text(again)[0] == text


def test_it_is_written_to_the_work_directory_and_replaces_itself(tmp_path: Path) -> None:
    work = build(tmp_path)
    card = write_card(work)
    assert card.path == str(work / "README.md")
    assert card.tables == tuple(f"{name}.parquet" for name in PUBLISHED[:-1])
    before = Path(card.path).read_bytes()
    assert write_card(work, repo_id="some-org/k710") == card
    assert Path(card.path).read_bytes() != before
    write_card(work)
    assert Path(card.path).read_bytes() == before
    assert not list(work.glob("*.tmp"))


@pytest.mark.parametrize("by_hand", ["# Mine\n", "", "{}And a remark.\n", "Mine, before.\n{}"])
def test_what_others_wrote_is_left_as_it_is(tmp_path: Path, by_hand: str) -> None:
    work = build(tmp_path)
    path = tmp_path / "README.md"
    path.write_text(by_hand.format(card_text(work)[0]))
    before = path.read_bytes()
    what = "was changed since k710 wrote it" if "{}" in by_hand else "was not written by k710"
    with pytest.raises(StageError, match=f"README.md {what}: it is left as it is"):
        write_card(work, output=path)
    assert path.read_bytes() == before
    write_card(work, output=path, force=True)
    write_card(work, output=path)
    assert path.read_text() == card_text(work)[0]


@pytest.mark.parametrize("force", [True, False])
def test_where_it_can_not_be_written_is_told(tmp_path: Path, force: bool) -> None:
    work = build(tmp_path)
    with pytest.raises(StageError, match="is a folder"):
        write_card(work, output=tmp_path, force=force)
    with pytest.raises(StageError, match=r"can't be used: No such file"):
        write_card(work, output=tmp_path / "none" / "README.md", force=force)


def test_without_a_manifest_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="Build it: k710 build-manifest"):
        write_card(tmp_path / "none")
    assert not (tmp_path / "none").exists()


# --- what it says


def test_views_are_counted_with_what_is_missing(tmp_path: Path, text: str) -> None:
    shown = cells(text)
    assert ["k400/train", str(len(TRAIN)), str(len(TRAIN)), "0.00%", ""] in shown
    work = ready(tmp_path)
    for path in sorted((tmp_path / "videos" / "yoga").iterdir())[1:]:
        path.unlink()
    shard(work)
    shown = cells(card_text(work)[0])
    assert ["k400/train", "12", "10", "16.67%", "missing 2 (16.67%)"] in shown


def test_before_there_are_shards_it_says_so(tmp_path: Path) -> None:
    text, tables = card_text(build(tmp_path))
    assert "## Shards\n\nNone were made yet.\n" in text
    assert ["k400/train", str(len(TRAIN))] in cells(text)
    assert "k710 shard" not in text and "index.parquet" not in tables
    indexed = card_text(all_ready())[0]
    assert "No shards were made yet." in indexed
    row = ["k400/val", "2", "0", "0.00%", "not in a shard yet 2 (100.00%)"]
    assert row in cells(indexed), "what has a copy is not missing"


def test_a_view_without_clips_has_a_row(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, *TRAIN)
    index_videos([tmp_path], work=work)
    shown = cells(card_text(work)[0])
    assert ["k710/val", "0", "0", "0.00%", ""] in shown
    assert ["k400/train", "12", "0", "100.00%", "missing 12 (100.00%)"] in shown


def test_the_example_is_of_a_view_that_has_clips(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, k400_val=VAL)
    assert 'clips = manifest.filter(lambda row: row["view"] == "k710/val")' in card_text(work)[0]


def test_labels_are_told_in_their_order(text: str) -> None:
    assert labels_sha256() in text
    block = re.search(r"<details>.*?```\n(.*?)\n```", text, re.S)
    assert block
    names = tuple(line.partition(" ")[2] for line in block[1].splitlines())
    assert names == class_names()


def test_shards_are_told_as_they_were_made(done: Path, text: str) -> None:
    num = len(list((done / "shards").glob("*.tar")))
    assert f"{num} shards with\n{len(TRAIN) + len(VAL)} clips, 0.0" in text
    assert "- profile `balanced`, short side at most 320 px" in text
    assert "libavcodec" in text and "x264" in text


def test_the_licence_is_told(text: str) -> None:
    licence = text.partition("## Licence\n")[2].partition("\n## ")[0]
    assert "CC BY 4.0" in licence
    assert "**are not redistributable**" in licence
    assert "shards made of them must not be published" in licence


def test_tables_and_lists_have_the_hashes_of_their_files(done: Path, text: str) -> None:
    shown = cells(text)
    for name in PUBLISHED:
        path = done / f"{name}.parquet"
        assert [path.name, sha256_of(path)] in shown
    for split, rows in (("train", TRAIN), ("val", VAL)):
        path = done.parent / "annotations" / "k400" / f"{split}.csv"
        assert [f"k400/{split}", f"k400/{split}.csv", str(len(rows)), sha256_of(path)] in shown


@pytest.mark.parametrize(
    ("protect", "words"),
    [
        (["val", "test"], "(`--protect val,test`): A train row is left out when its YouTube id"),
        (["val"], "is in a val list of any"),
        ([], "(`--protect none`): **Nothing**: train videos may be in val and test lists."),
    ],
)
def test_rules_are_told(tmp_path: Path, protect: Sequence[str], words: str) -> None:
    lists = write_lists(tmp_path / "annotations", {"k400/train": TRAIN, "k400/val": TRAIN[:2]})
    build_manifest(lists, work=tmp_path / "work", protect=protect, dedup="clip")
    text = card_text(tmp_path / "work")[0]
    assert words in text
    assert "(`--dedup clip`): one row for each YouTube id and window stays" in text
    assert "were not found: `k400/test`, `k600/test`, `k600/val`, `k700/test`, `k700/val`." in text
    assert (["k710/train", "held_out", "2"] in cells(text)) is bool(protect)


def test_tables_of_another_state_are_left_out(done: Path, tmp_path: Path) -> None:
    work = copy_of(done, tmp_path / "work")
    (work / "shards" / "000000.tar").unlink()
    (work / "leakage.parquet.json").unlink()
    text, tables = card_text(work)
    assert tables == ("manifest.parquet", "annotations.parquet", "dropped.parquet")
    assert [config["config_name"] for config in front_matter(text)["configs"]] == [
        *("manifest", "annotations")
    ]


@pytest.mark.parametrize("name", ["manifest", "dropped", "leakage", "index"])
def test_a_table_of_other_bytes_is_not_named(done: Path, tmp_path: Path, name: str) -> None:
    work = copy_of(done, tmp_path / "work")
    path = work / f"{name}.parquet"
    pq.write_table(pq.read_table(done / path.name), path)
    with pytest.raises(StageError, match=f"{name}.parquet is not the table that"):
        write_card(work)
    path.unlink()
    if name in ("leakage", "index"):
        assert f"{name}.parquet" not in card_text(work)[1]


# --- what can be made again


def of_index(text: str) -> str:
    """What is claimed of index.parquet, on one line."""
    claim = re.search(r"byte for byte\.(.*?)\n\| table", text, re.S)
    assert claim
    return " ".join(claim[1].split())


def test_the_same_videos_make_the_same_index(text: str) -> None:
    assert of_index(text).startswith("`index.parquet` is the same if the videos, and the versions")


def test_shards_of_what_was_found_are_not_said_to_be_made_again(tmp_path: Path) -> None:
    work = ready(tmp_path, **FEW)
    shard(work, found_only=True)
    text = card_text(work)[0]
    assert "--seed 0 --found-only\n" in text
    assert of_index(text) == (
        "Not so `index.parquet`: the same videos may make other shards, since of those that it "
        "tells of - some were planned for only what had a copy then (`--found-only`)"
    )


def test_shards_of_copies_that_came_in_turns_are_not_said_to_be_made_again(tmp_path: Path) -> None:
    work = ready(tmp_path, **FEW)
    late = tmp_path / "videos" / TRAIN[0][0] / f"{name_of(TRAIN[0])}.mp4"
    aside = late.rename(tmp_path / "aside.mp4")
    index_videos([tmp_path / "videos"], work=work)
    shard(work)
    assert of_index(card_text(work)[0]).startswith("`index.parquet` is the same")
    aside.rename(late)
    index_videos([tmp_path / "videos"], work=work)
    shard(work)
    assert of_index(card_text(work)[0]).endswith(
        "- some have clips that failed before, and got another place (another copy, or `--retry`)"
    )


def test_a_plan_that_is_not_all_made_is_told(tmp_path: Path) -> None:
    work = ready(tmp_path, **FEW)
    shard(work, ["k400/val"])
    further = copy_of(work, tmp_path / "further")
    shard(further)
    for name in ("plan.parquet", "plan.parquet.json"):
        shutil.copy(further / name, work)
    assert of_index(card_text(work)[0]).endswith("- some that were planned are not made")
    (work / "plan.parquet.json").unlink()
    text = card_text(work)[0]
    assert of_index(text).endswith("- the plan is not there")
    assert "k710 shard" not in text


def test_shards_of_another_manifest_are_not_made_again(done: Path, tmp_path: Path) -> None:
    work = copy_of(done, tmp_path / "work")
    lists = write_lists(tmp_path / "lists", {"k400/train": TRAIN[1:], "k400/val": VAL})
    build_manifest(lists, work=work)
    text, tables = card_text(work)
    assert "They were made of another manifest than this one: `index.parquet` is not here" in text
    assert "k710 shard" not in text and "index.parquet" not in tables
    assert of_index(text) == ""


def test_names_of_lists_are_text(tmp_path: Path) -> None:
    name = "a|b`c`<b>*x*_y_[z](w)&amp;\x1b.csv"
    lists = write_lists(tmp_path / "lists", {"k400/train": TRAIN})
    shutil.move(lists / "k400" / "train.csv", lists / "k400" / f"train_{name}")
    build_manifest(lists, work=tmp_path / "work")
    shown = cells(card_text(tmp_path / "work")[0])
    (row,) = (row for row in shown if row[0] == "k400/train" and len(row) == 4)
    assert row[1] == f"k400/train_{name}".replace("\x1b", "\\x1b")


# --- where it will be


def test_the_repository_is_named(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, *TRAIN)
    assert (
        'load_dataset("some-org/k_7.10", "manifest", split="rows")'
        in (card_text(work, repo_id="some-org/k_7.10")[0])
    )
    assert 'load_dataset("ORG/NAME", "manifest", split="rows")' in card_text(work)[0]


@pytest.mark.parametrize(
    "repo_id",
    [
        *("k710", "a/b/c", "a/-b", "a/b.", "a--b/c", "a/b..c", "a/b.git", "a/b c", 'a/b"', "é/b"),
        *("", "/", f"a/{'b' * 97}"),
    ],
)
def test_a_name_that_the_hub_would_refuse_is_refused(tmp_path: Path, repo_id: str) -> None:
    with pytest.raises(ValueError, match="is no name of a repository on the hub"):
        card_text(tmp_path, repo_id=repo_id)
