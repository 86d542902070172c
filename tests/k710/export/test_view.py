"""A list of k710 export, read as its trainer reads it: files that are there, and their classes."""

import csv
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from k710.errors import LabelError, StageError
from k710.export.request import ExportRequest
from k710.export.summary import ExportSummary, LeftOut, nothing_to_list
from k710.export.view import export_view
from k710.labels.orders import (
    FAMILIES,
    class_names,
    dataset_spelling,
    head_map,
    k710_order,
    resolve_label,
)
from k710.manifest.build import build_manifest
from k710.sources.index import index_videos
from k710.tables.reading import open_table
from k710.tables.schemas import INDEX
from k710.tables.sidecar import TableSpec, write_table
from support.command_line import k710
from support.list_files import Lists, write_lists
from support.small_manifest import clip, manifest_of, open_work, pack, put, record
from support.small_shards import FEW, TRAIN, VAL, all_made, copy_of, name_of, ready, rows_of, shard
from support.small_tables import rewrite_table
from support.trainer_rules import ShardListDataset, read_list, slowfast, videomae_pretraining

LINES = ("slowfast", "mmaction2", "videomae")
# Names that differ between datasets, and that tools stumble over.
AWKWARD = (
    ("massaging person's head", "a", 0, 10),
    ("passing American football (in game)", "-b", 0, 10),
    ("tying tie", "c", 0, 10),
    ("archery", "d", 0, 10),
    ("archery", "d", 100, 110),
)


def export(work: Path, view: str = "k400/train", **options: Any) -> ExportSummary:
    return export_view(view, work=work, **{"format": "csv", **options})


def left_out(summary: ExportSummary) -> dict[str, int]:
    return {left.reason: left.clips for left in summary.left_out}


def table(path: str | Path) -> list[dict[str, str]]:
    """The rows of a CSV with a header."""
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def labels(work: Path, view: str) -> dict[str, int | None]:
    """clip_id -> K710 row."""
    rows = rows_of(work, "manifest", "view, clip_id, label")
    return {clip_id: label for of, clip_id, label in rows if of == view}


def classes(summary: ExportSummary) -> list[str]:
    return Path(summary.files[1]).read_text().splitlines()


def row_of(summary: ExportSummary, label: int) -> int:
    """The K710 row that a label means, by the file of names beside the list."""
    return resolve_label(classes(summary)[label])


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work directory with shards, never written to but for its lists."""
    return copy_of(all_made(), tmp_path_factory.mktemp("sharded") / "work")


@pytest.fixture
def spaced(tmp_path: Path) -> Path:
    """A manifest with a trimmed file for each clip, in folders named as the classes are."""
    work = manifest_of(tmp_path, *AWKWARD, k600_val=AWKWARD[:1])
    files = {f"{label}/{clip(name, start)}.mp4": 7 for label, name, start, _ in AWKWARD}
    index_videos([put(tmp_path / "videos", files)], work=work)
    return work


# --- the law

FOLDERS = st.text(st.sampled_from(" ,'\"()#;é%-_=a"), max_size=6).map(lambda name: f"_{name}")


@pytest.mark.parametrize("examples", [4, pytest.param(40, marks=pytest.mark.slow)])
def test_each_line_names_a_file_that_is_there_and_its_true_class(
    tmp_path_factory: pytest.TempPathFactory, examples: int
) -> None:
    @settings(max_examples=examples)
    @given(
        folders=st.lists(FOLDERS, min_size=5, max_size=5),
        view=st.sampled_from(("k400/train", "k600/val", "k710/train")),
        family=st.sampled_from(FAMILIES),
    )
    def law(folders: list[str], view: str, family: Any) -> None:
        folder = tmp_path_factory.mktemp("law")
        work = manifest_of(folder, *AWKWARD, k600_val=AWKWARD[:1])
        files = {
            f"{name}/{clip(row[1], row[2])}.mp4": 7
            for name, row in zip(folders, AWKWARD, strict=True)
        }
        root = folder / "my videos"
        index_videos([put(root, files)], work=work)
        wanted = labels(work, view)
        for trainer in LINES:
            summary = export(work, view, format=trainer, family=family, root=root)
            assert summary.settings is not None
            clips = read_list(trainer, summary.settings, view.partition("/")[2])
            assert all(os.path.getsize(path) == 7 for path, _ in clips)
            assert {Path(path).stem: row_of(summary, label) for path, label in clips} == wanted
            assert len(clips) == summary.clips == len(wanted)
            of_class = Counter(row_of(summary, label) for _, label in clips)
            assert of_class == Counter(wanted.values())
        shutil.rmtree(folder)

    law()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("view", ["k400/train", "k600/val", "k710/train"])
def test_classes_are_named_as_their_dataset_does(spaced: Path, view: str, family: Any) -> None:
    summary = export(spaced, view, family=family, root=spaced.parent / "videos")
    dataset: Any = view.partition("/")[0]
    if dataset == "k710":
        assert classes(summary) == [class_names()[row] for row in k710_order(family)]
    else:
        rows = head_map(dataset, family)
        assert classes(summary) == [dataset_spelling(dataset, row) for row in rows]
    for row in table(summary.files[0]):
        assert classes(summary)[int(row["class_index"])] == row["class_name"]


# --- separators


def test_a_space_parts_path_and_label_while_no_path_has_one(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, *AWKWARD[3:])
    index_videos([put(tmp_path / "v", {f"a,b/{clip('d')}.mp4": 7})], work=work)
    summary = export(work, format="slowfast", root=tmp_path / "v")
    assert summary.separator == " "
    assert Path(summary.files[0]).read_text().startswith(f"a,b/{clip('d')}.mp4 ")


@pytest.mark.parametrize(
    ("folder", "separator"), [("a b", ","), ("a b,c", "\t"), ("(in game)", ","), ("a'b\"", " ")]
)
def test_what_no_path_has_is_the_separator(tmp_path: Path, folder: str, separator: str) -> None:
    work = manifest_of(tmp_path, *AWKWARD[3:])
    index_videos([put(tmp_path / "v", {f"{folder}/{clip('d')}.mp4": 7})], work=work)
    for trainer in ("slowfast", "mmaction2"):
        summary = export(work, format=trainer, root=tmp_path / "v")
        assert summary.separator == separator
        assert summary.settings is not None
        ((path, _),) = read_list(trainer, summary.settings, "train")
        assert path == f"{tmp_path}/v/{folder}/{clip('d')}.mp4"
    summary = export(work, format="slowfast", root=tmp_path / "v")
    assert summary.settings is not None
    assert slowfast(summary.settings, "train", most_fields=2), "as UniFormerV2 reads it"


def test_paths_that_leave_no_separator_are_refused(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, *AWKWARD[3:])
    index_videos([put(tmp_path / "v", {f"a ,\tb/{clip('d')}.mp4": 7})], work=work)
    for trainer in ("slowfast", "mmaction2"):
        with pytest.raises(StageError, match="could not tell path from label"):
            export(work, format=trainer, root=tmp_path / "v")
    for trainer in ("videomae", "csv"):
        assert export(work, format=trainer, root=tmp_path / "v").clips == 1


# --- lists that are read together


@pytest.fixture
def half_spaced(tmp_path: Path) -> Path:
    """A manifest of which the train clips lie in folders with a space, and the val clips do not."""
    work = manifest_of(tmp_path, AWKWARD[0], k400_val=AWKWARD[3:])
    files = {f"a b/{clip('a')}.mp4": 7, f"c/{clip('d')}.mp4": 7, f"c/{clip('d', 100)}.mp4": 7}
    index_videos([put(tmp_path / "videos", files)], work=work)
    return work


@pytest.mark.parametrize("trainer", LINES)
@pytest.mark.parametrize("extract", [True, False])
def test_one_setting_reads_train_and_val(
    sharded: Path, half_spaced: Path, tmp_path: Path, trainer: str, extract: bool
) -> None:
    work, root = half_spaced, "videos"
    if extract:
        work, root = copy_of(sharded, tmp_path / "sharded"), "clips"
    options: Any = {"format": trainer, "root": tmp_path / root, "extract": extract}
    views = ("k400/train", "k400/val")
    found = {view: export(work, view, **options) for view in views}
    settings = {view: summary.settings for view, summary in found.items()}
    if trainer == "mmaction2":
        settings = {
            view: str(text).replace("val_list", "train_list") for view, text in settings.items()
        }
    assert settings[views[0]] == settings[views[1]]
    for view, summary in found.items():
        clips = read_list(trainer, str(summary.settings), view.partition("/")[2])
        wanted = labels(work, view)
        assert {Path(path).stem: row_of(summary, label) for path, label in clips} == wanted


def test_lists_that_would_be_read_wrongly_together_are_refused(
    half_spaced: Path, tmp_path: Path
) -> None:
    options: Any = {"format": "slowfast", "root": tmp_path / "videos"}
    train = Path(export(half_spaced, **options).files[0])
    val = train.with_name("val.csv")
    copied = shutil.copytree(tmp_path / "videos", tmp_path / "copied")
    index_videos([copied], work=half_spaced)
    options["root"] = copied
    with pytest.raises(StageError) as error:
        export(half_spaced, "k400/val", **options)
    assert str(error.value) == (
        f"val.csv would be read with the same setting as {train}, and they differ: "
        f"root '{tmp_path}/videos' there, '{copied}' here.\n"
        "Keep them apart: --output OTHER/val.csv\n"
        f"Or remove {train}, run this again, and make that one alike: k710 export k400/train "
        f"--format slowfast --root {copied} --family alphabetical --output {train} "
        f"--work {half_spaced}"
    )
    assert not val.exists()
    with pytest.raises(StageError, match="family 'alphabetical' there, 'opengvlab' here"):
        export(half_spaced, "k400/val", **options, family="opengvlab", output=val)
    train.unlink()
    assert export(half_spaced, "k400/val", **options).clips == 2


def test_a_separator_that_others_do_not_have_is_refused(half_spaced: Path, tmp_path: Path) -> None:
    options: Any = {"format": "slowfast", "root": tmp_path / "videos"}
    assert export(half_spaced, "k400/val", **options).separator == ","
    comma = put(tmp_path / "videos", {f"d,e f/{clip('a')}.mp4": 8})
    index_videos([comma], work=half_spaced)
    with pytest.raises(StageError, match=r"separator ',' there, '\\t' here"):
        export(half_spaced, **options)


def test_in_mmaction2_each_list_has_its_own_root(half_spaced: Path, tmp_path: Path) -> None:
    options: Any = {"format": "mmaction2", "output": tmp_path / "lists" / "train.txt"}
    export(half_spaced, root=tmp_path / "videos" / "a b", **options)
    options["output"] = tmp_path / "lists" / "val.txt"
    root = tmp_path / "videos" / "c"
    with pytest.raises(StageError, match="family 'alphabetical' there, 'opengvlab' here"):
        export(half_spaced, "k400/val", root=root, family="opengvlab", **options)
    assert export(half_spaced, "k400/val", root=root, **options).clips == 2


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_a_json_that_is_none_of_ours_is_no_list(
    half_spaced: Path, tmp_path: Path, text: str
) -> None:
    put(tmp_path / "lists", {"train.csv": 1})
    (tmp_path / "lists" / "train.csv.about.json").write_text(text)
    output = tmp_path / "lists" / "val.csv"
    options: Any = {"format": "videomae", "root": tmp_path / "videos", "output": output}
    assert export(half_spaced, "k400/val", **options).clips == 2


# --- paths that no list can have


@pytest.mark.parametrize("folder", ["a\nb", "a\rb", "a\u2028b"])
def test_line_breaks_in_names_are_refused(tmp_path: Path, folder: str) -> None:
    work = manifest_of(tmp_path, *AWKWARD[3:])
    path = f"{folder}/{clip('d')}.mp4"
    index_videos([put(tmp_path / "v", {path: 7})], work=work)
    for trainer in (*LINES, "csv"):
        with pytest.raises(StageError, match=r"can't be in a list: its name has a line break\.\n"):
            export(work, format=trainer, root=tmp_path / "v")


def test_white_space_that_mmaction2_would_strip_is_refused(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, *AWKWARD[3:])
    index_videos([put(tmp_path / "v", {f" a/{clip('d')}.mp4": 7})], work=work)
    with pytest.raises(StageError, match="MMAction2 would strip the white space"):
        export(work, format="mmaction2", root=tmp_path / "v")
    for trainer in ("slowfast", "videomae"):
        summary = export(work, format=trainer, root=tmp_path / "v")
        assert summary.settings is not None
        assert read_list(trainer, summary.settings, "train")[0][0].startswith(f"{tmp_path}/v/ a/")


def test_quotes_are_for_fine_tuning_alone_and_that_is_said(spaced: Path, tmp_path: Path) -> None:
    summary = export(spaced, format="videomae", root=tmp_path / "videos")
    assert any("run_mae_pretraining.py" in remark for remark in summary.remarks)
    with pytest.raises(ValueError):
        videomae_pretraining(summary.files[0])


def test_pretraining_is_told_the_list_itself(sharded: Path, tmp_path: Path) -> None:
    summary = export(sharded, format="videomae", root=tmp_path / "clips", extract=True)
    (told,) = (remark for remark in summary.remarks if "run_mae_pretraining.py takes" in remark)
    clips = videomae_pretraining(shlex.split(told)[-1])
    assert Counter(label for _, label in clips) == Counter(
        classes(summary).index(label) for label, *_ in TRAIN
    )


# --- what is left out


def test_every_clip_is_listed_or_left_out_with_its_reason(tmp_path: Path) -> None:
    rows = [("archery", f"v{number}", 0, 10) for number in range(10)]
    work = manifest_of(tmp_path, *rows)
    names = [clip(row[1]) for row in rows]
    root = put(tmp_path / "videos", {f"{name}.mp4": 7 for name in (*names[:5], names[9])})
    put(root, {f"{names[5][:11]}.mp4": 7})
    other = put(tmp_path / "elsewhere", {f"{names[6]}.mp4": 7})
    pack(root / "part.tar", {f"{names[7]}.mp4": 7})
    index_videos([root, other], work=work)
    record(work, names[1], status="damaged")
    record(work, names[2], status="truncated", duration_s=4.9)
    record(work, names[3], status="truncated", duration_s=5.0)
    record(work, names[4], trimmed=False)
    (root / f"{names[9]}.mp4").write_bytes(b"another size")
    summary = export(work, format="slowfast", root=root)
    assert left_out(summary) == {
        "archived": 1,
        "changed": 1,
        "damaged": 1,
        "elsewhere": 1,
        "missing": 1,
        "truncated": 1,
        "undecided": 1,
        "whole": 1,
    }
    assert summary.settings is not None
    listed = [Path(path).stem for path, _ in slowfast(summary.settings, "train")]
    assert listed == [names[0], names[3]]
    assert "1 in archives" in [left.words for left in summary.left_out]
    assert any("k710 shard --views k400/train" in remark for remark in summary.remarks)
    assert any("k710 index --videos DIR" in remark for remark in summary.remarks)
    assert any(f"Of {summary.clips:,} files nothing but" in remark for remark in summary.remarks)


def test_nothing_to_list_says_why_and_what_to_do(spaced: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError) as error:
        export(spaced, root=tmp_path / "video")  # a part of the name is another folder
    assert str(error.value) == (
        "No clip of k400/train can be listed: 5 not below the root.\n"
        "To get clips out of archives, whole videos and other folders: "
        f"k710 shard --views k400/train --work {spaced}, "
        "then export with --extract and a --root of its own."
    )
    shutil.rmtree(tmp_path / "videos")
    with pytest.raises(StageError, match=r"5 gone or changed since k710 index\.\n"):
        export(spaced, root=tmp_path / "videos")
    assert not (spaced / "lists").exists()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (
            "missing",
            "To get those that are missing: k710 download --views k400/train, then k710 sh",
        ),
        (
            "blocked",
            "To get those that are blocked: k710 download --views k400/train, then k710 sh",
        ),
        (
            "failed",
            "To try those again that failed here: k710 shard --retry --views k400/train; with",
        ),
        ("gone", "None can be had of those that are gone, but of others: k710 index --videos DIR"),
        (
            "damaged",
            "Another copy may take the place of those that are damaged: k710 index --video",
        ),
    ],
)
def test_each_reason_has_its_next_command(status: str, words: str) -> None:
    request = ExportRequest(
        view="k400/train",
        format="csv",
        family="opengvlab",
        root="/videos",
        extract=False,
        output=Path("train.csv"),
        work=Path("work"),
    )
    lines = nothing_to_list(request, [LeftOut(status, 1, 0)]).splitlines()
    assert lines[0] == f"No clip of k400/train can be listed: 1 {status}."
    assert lines[1][: len(words)] == words
    elsewhere = nothing_to_list(replace(request, work=Path("my work")), [LeftOut(status, 1, 0)])
    assert " --work 'my work'" in elsewhere


def test_what_is_in_shards_already_is_only_to_be_extracted(sharded: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError) as error:
        export(sharded, root=tmp_path)
    assert str(error.value) == (
        "No clip of k400/train can be listed: 12 not below the root.\n"
        "Those not below the root are in the shards too: export with --extract and a --root of "
        "its own."
    )


@pytest.mark.parametrize("is_indexed", [True, False])
def test_a_root_may_be_a_link(tmp_path: Path, is_indexed: bool) -> None:
    work = manifest_of(tmp_path, *AWKWARD[3:])
    real = put(tmp_path / "real" / "videos", {f"{clip('d')}.mp4": 7, f"e/{clip('d', 100)}.mp4": 7})
    link = tmp_path / "link"
    link.symlink_to(real)
    indexed, root = (link, real) if is_indexed else (real, link)
    index_videos([indexed], work=work)
    summary = export(work, format="slowfast", root=root)
    assert summary.settings is not None
    paths = [path for path, _ in slowfast(summary.settings, "train")]
    assert paths == [f"{root}/{clip('d')}.mp4", f"{root}/e/{clip('d', 100)}.mp4"]
    with pytest.raises(StageError, match="2 not below the root"):
        export(work, format="slowfast", root=real.parent / "video")


def test_lists_without_labels_are_not_given_some(tmp_path: Path) -> None:
    path = tmp_path / "annotations" / "kinetics400" / "test.csv"
    path.parent.mkdir(parents=True)
    path.write_text("youtube_id,time_start,time_end,split\naaaaaaaaaaa,0,10,test\n")
    work = tmp_path / "work"
    build_manifest(tmp_path / "annotations", work=work)
    index_videos([put(tmp_path / "v", {f"{clip('aaaaaaaaaaa')}.mp4": 7})], work=work)
    for trainer in LINES:
        with pytest.raises(StageError, match=f"1 without a label.\n{trainer} would take some"):
            export(work, "k400/test", format=trainer, root=tmp_path / "v")
    summary = export(work, "k400/test", root=tmp_path / "v")
    (row,) = table(summary.files[0])
    assert (row["clip_id"], row["class_index"], row["class_name"]) == (clip("aaaaaaaaaaa"), "", "")


# --- extract


def test_clips_of_shards_become_files_with_the_same_bytes(sharded: Path, tmp_path: Path) -> None:
    summary = export(sharded, format="slowfast", root=tmp_path / "clips", extract=True)
    assert summary.settings is not None
    clips = slowfast(summary.settings, "train")
    assert {Path(path).stem for path, _ in clips} == {name_of(row) for row in TRAIN}
    assert summary.extracted.clips == len(TRAIN)
    index = rows_of(sharded, "index", 'clip_id, shard, "offset", bytes')
    places = {clip_id: rest for clip_id, *rest in index}
    for path, label in clips:
        number, offset, size = places[Path(path).stem]
        tar = (sharded / "shards" / f"{number:06d}.tar").read_bytes()
        assert Path(path).read_bytes() == tar[offset : offset + size]
        assert Path(path).parent.name == f"{number:06d}"
        assert row_of(summary, label) == labels(sharded, "k400/train")[Path(path).stem]


def test_what_is_there_is_not_written_again(sharded: Path, tmp_path: Path) -> None:
    root = tmp_path / "clips"
    first = export(sharded, root=root, extract=True)
    files = sorted(root.rglob("*.mp4"))
    files[0].unlink()
    files[1].with_name(f"{files[1].name}.tmp").write_bytes(b"of a run that was killed")
    times = {path: path.stat().st_mtime_ns for path in files[1:]}
    seen: list[tuple[str, int, int | None]] = []
    second = export(
        sharded, "k400/train", root=root, extract=True, on_progress=lambda *now: seen.append(now)
    )
    assert second.extracted.clips == 1
    assert ("writing clips", 1, 1) in seen
    assert {path: path.stat().st_mtime_ns for path in files[1:]} == times
    assert (first.clips, first.left_out) == (second.clips, second.left_out)
    assert export(sharded, "k400/val", root=root, extract=True).extracted.clips == len(VAL)


def test_a_file_of_others_is_never_overwritten(sharded: Path, tmp_path: Path) -> None:
    clip_id, number = rows_of(sharded, "index", "clip_id, shard")[-1]
    path = tmp_path / "clips" / f"{number:06d}" / f"{clip_id}.mp4"
    put(path.parent, {path.name: 3})
    with pytest.raises(StageError, match=r"is there with 3 bytes, and .*\nNothing is overwritten"):
        export(sharded, root=tmp_path / "clips", extract=True)
    assert path.stat().st_size == 3
    assert list((tmp_path / "clips").rglob("*.mp4")) == [path]


def test_a_shard_that_is_not_as_written_is_told(sharded: Path, tmp_path: Path) -> None:
    work = copy_of(sharded, tmp_path / "work")
    clip_id, number, offset = rows_of(work, "index", 'clip_id, shard, "offset"')[-1]
    tar = work / "shards" / f"{number:06d}.tar"
    data = bytearray(tar.read_bytes())
    data[offset + 5] ^= 1
    tar.write_bytes(data)
    with pytest.raises(StageError, match=f"{clip_id} in .*is not as it was written.\n.*verify"):
        export(work, root=tmp_path / "clips", extract=True)
    assert not list((tmp_path / "clips").rglob(f"{clip_id}*"))
    tar.unlink()
    with pytest.raises(StageError, match=f"{number:06d}.tar can't be used: No such file"):
        export(work, root=tmp_path / "clips", extract=True)


def test_a_clip_is_written_under_the_name_that_its_shard_has(sharded: Path, tmp_path: Path) -> None:
    work = copy_of(sharded, tmp_path / "work")
    moved = (
        "select * replace (coalesce(lead(clip_id) over by_id, first(clip_id) over by_id) "
        "as clip_id) from whole window by_id as (partition by shard order by clip_id)"
    )
    rewrite_table(work / "index.parquet", moved)
    with pytest.raises(StageError, match=r"is not as it was written.\n.*k710 verify"):
        export(work, root=tmp_path / "clips", extract=True)
    assert not list((tmp_path / "clips").rglob("*.mp4"))


def test_a_disk_that_is_too_small_is_told_before_a_clip_is_written(
    sharded: Path, tmp_path: Path
) -> None:
    work = copy_of(sharded, tmp_path / "work")
    with open_work(work) as con:
        open_table(con, work, INDEX)
        con.execute(
            "create temp table rows as select * exclude (file_row_number) "
            "replace (1::bigint << 50 as bytes) from index"
        ).fetchall()
        write_table(con, work, TableSpec(INDEX, {}, {}))
    with pytest.raises(StageError, match=r"No room left to write in .* GB to write, .* GB free"):
        export(work, root=tmp_path / "clips", extract=True)
    assert not list((tmp_path / "clips").rglob("*.mp4"))


def test_clips_that_are_in_no_shard_are_left_out(tmp_path: Path) -> None:
    work = ready(tmp_path, train=FEW["train"])
    shard(work, ["k400/val"])
    with pytest.raises(StageError, match=r"3 not in a shard yet.\n.*k710 shard --views"):
        export(work, root=tmp_path / "clips", extract=True)
    assert not (tmp_path / "clips").exists()
    (tmp_path / "videos" / VAL[0][0] / f"{name_of(VAL[0])}.mp4").unlink()
    assert export(work, "k400/val", root=tmp_path / "clips", extract=True).clips == len(VAL)


# --- wids


def wids_of(summary: ExportSummary) -> ShardListDataset:
    assert summary.settings is not None
    dataset = eval(summary.settings, {"wids": SimpleNamespace(ShardListDataset=ShardListDataset)})
    assert isinstance(dataset, ShardListDataset)
    return dataset


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("view", ["k400/train", "k400/val", "k710/train"])
def test_places_find_the_clips_of_the_view_among_all(sharded: Path, view: str, family: Any) -> None:
    summary = export(sharded, view, format="wids", family=family)
    dataset = wids_of(summary)
    assert summary.index is not None
    assert (summary.index.samples, summary.index.shards) == (len(dataset), len(dataset.shards))
    rows = table(summary.files[-1])
    for row in rows:
        sample = dataset[int(row["place"])]
        assert sample["__key__"] == row["clip_id"]
        class_index = int(row["class_index"])
        assert classes(summary)[class_index] == row["class_name"]
        assert json.loads(sample[".json"])["views"][view] == row_of(summary, class_index)
    assert {row["clip_id"] for row in rows} == labels(sharded, view).keys()
    assert len(rows) == summary.clips


def test_only_shards_with_a_clip_of_the_view_are_listed(sharded: Path) -> None:
    all_shards = {row[0] for row in rows_of(sharded, "index", "shard")}
    of_val = {
        row[1]
        for row in rows_of(sharded, "index", "clip_id, shard")
        if row[0] in {*map(name_of, VAL)}
    }
    dataset = wids_of(export(sharded, "k400/val", format="wids"))
    assert [Path(shard["url"]).stem for shard in dataset.shards] == [
        f"{number:06d}" for number in sorted(of_val)
    ]
    assert of_val < all_shards


def test_shards_may_have_moved(sharded: Path, tmp_path: Path) -> None:
    shutil.copytree(sharded / "shards", tmp_path / "moved")
    summary = export(sharded, format="wids", root=tmp_path / "moved")
    assert len(wids_of(summary)) == summary.index.samples if summary.index else False
    summary = export(sharded, format="wids", root="s3://bucket/k710/")
    shards = json.loads(Path(summary.files[0]).read_text())["shardlist"]
    assert shards[0]["url"] == "s3://bucket/k710/000000.tar"
    assert summary.settings is not None and "localname" not in summary.settings
    next(iter((tmp_path / "moved").glob("*.tar"))).unlink()
    with pytest.raises(StageError, match=r"tar is not there, and .*\nName the folder"):
        export(sharded, format="wids", root=tmp_path / "moved")


def test_no_secret_of_an_address_is_written(sharded: Path, tmp_path: Path) -> None:
    root = "https://me:hush@host:8080/k710"
    summary = export(sharded, format="wids", root=root, output=tmp_path / "of.json")
    url = json.loads(Path(summary.files[0]).read_text())["shardlist"][0]["url"]
    assert url == "https://host:8080/k710/000000.tar"
    assert summary.root == "https://host:8080/k710"
    assert any("No user, password or token is written down" in one for one in summary.remarks)
    assert not [path for path in summary.files if "hush" in Path(path).read_text()]
    for wrong in ("http://host/a?t=hush", "http://me:hush@[::1/", "http://host/'; hush '", "s3://"):
        with pytest.raises(StageError, match="can't be used: shards lie below") as error:
            export(sharded, format="wids", root=wrong)
        assert "?" not in wrong or "hush" not in str(error.value)
    with pytest.raises(StageError, match="is an address, and csv lists files") as error:
        export(sharded, format="csv", root=root)
    assert "hush" not in str(error.value)


def test_shards_that_are_not_whole_are_told(sharded: Path, tmp_path: Path) -> None:
    work = copy_of(sharded, tmp_path / "work")
    with (work / "shards" / "000000.tar").open("ab") as file:
        file.write(bytes(512))
    with pytest.raises(StageError, match=r"000000.tar has [0-9,]+ bytes, and the shard was"):
        export(work, format="wids")
    (work / "outcomes" / "000000.parquet.json").unlink()
    with pytest.raises(StageError, match=r"no finished .*000000.parquet\.\nFinish the shard"):
        export(work, format="wids")


def test_paths_that_wids_would_cut_are_refused(sharded: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="webdataset takes paths for addresses"):
        export(sharded, format="wids", output=tmp_path / "a#b.json")


# --- what lies beside a list


def test_the_same_input_gives_the_same_bytes(spaced: Path, tmp_path: Path) -> None:
    for trainer in (*LINES, "csv"):
        first = export(spaced, format=trainer, root=tmp_path / "videos")
        bytes_before = [Path(path).read_bytes() for path in first.files]
        assert first == export(spaced, format=trainer, root=tmp_path / "videos")
        assert [Path(path).read_bytes() for path in first.files] == bytes_before


def test_the_list_is_in_the_order_of_the_view(sharded: Path, tmp_path: Path) -> None:
    summary = export(sharded, root=tmp_path / "clips", extract=True)
    found = [row["clip_id"] for row in table(summary.files[0])]
    rows = rows_of(sharded, "manifest", "view, clip_id")
    assert found == [clip_id for view, clip_id in rows if view == "k400/train"]


def test_the_json_beside_says_of_what_it_is_made(spaced: Path, tmp_path: Path) -> None:
    summary = export(spaced, format="mmaction2", family="alphabetical", root=tmp_path / "videos")
    assert [Path(path).name for path in summary.files] == [
        "kinetics400_train_list_videos.txt",
        "kinetics400_train_list_videos.txt.classes.txt",
        "kinetics400_train_list_videos.txt.about.json",
    ]
    about = json.loads(Path(summary.files[2]).read_text())
    assert (about["view"], about["family"], about["num_classes"]) == (
        *("k400/train", "alphabetical", 400),
    )
    assert (about["separator"], about["root"]) == (",", str(tmp_path / "videos"))
    assert about["inputs"].keys() == {"manifest", "sources"}
    assert about["settings"] == summary.settings
    assert (about["clips"], about["left_out"]) == (5, {})


FULL = """
import resource, signal, sys
from k710.errors import StageError
from k710.export.view import export_view

work, root, family, most_bytes = sys.argv[1:]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(most_bytes), int(most_bytes)))
try:
    output = work + ".csv"
    export_view("k400/train", format="csv", root=root, family=family, work=work, output=output)
except StageError as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize("most_bytes", [pytest.param(100, marks=pytest.mark.slow), 8000])
def test_a_full_disk_leaves_what_was_there(spaced: Path, tmp_path: Path, most_bytes: int) -> None:
    root = tmp_path / "videos"
    summary = export(spaced, root=root, output=f"{spaced}.csv")
    before = {path: Path(path).read_bytes() for path in summary.files}
    assert 100 < len(before[summary.files[1]]) < 8000, "of 8000 the names are written, the list not"
    deep = "/".join(9 * ["x" * 200])
    put(root, {f"{deep}/{clip(name, start)}.mp4": 8 for _, name, start, _ in AWKWARD})
    index_videos([root], work=spaced)
    arguments = [str(spaced), str(root), "alphabetical", str(most_bytes)]
    done = subprocess.run([sys.executable, "-c", FULL, *arguments], capture_output=True, text=True)
    assert (done.returncode, "No room left to write in" in done.stderr) == (1, True), done.stderr
    assert {path: Path(path).read_bytes() for path in summary.files} == before
    assert not list(tmp_path.glob("*.tmp"))


def test_families_do_not_share_a_folder(spaced: Path, tmp_path: Path) -> None:
    folders = {
        Path(
            export(spaced, format=trainer, family=family, root=tmp_path / "videos").files[0]
        ).parent
        for trainer in LINES
        for family in FAMILIES
    }
    assert len(folders) == 6


def test_the_order_is_that_of_the_trainers_own_checkpoints(
    spaced: Path, sharded: Path, tmp_path: Path
) -> None:
    families = {
        trainer: export(spaced, format=trainer, root=tmp_path / "videos").family
        for trainer in (*LINES, "csv")
    }
    assert families == {**dict.fromkeys(LINES, "alphabetical"), "csv": "opengvlab"}
    assert export(sharded, format="wids").family == "opengvlab"


@pytest.mark.parametrize(
    ("trainer", "family", "words"),
    [
        ("mmaction2", "opengvlab", "MMAction2's own checkpoints have the other order: --family al"),
        ("mmaction2", "alphabetical", ""),
        ("slowfast", "opengvlab", "SlowFast's own checkpoints have the other order: --family alph"),
        ("slowfast", "alphabetical", "Checkpoints of OpenGVLab (UniFormerV2, VideoMAEv2) have the"),
        ("videomae", "alphabetical", "Checkpoints of OpenGVLab (UniFormerV2, VideoMAEv2) have the"),
        ("csv", "opengvlab", ""),
    ],
)
def test_who_reads_checkpoints_of_the_other_order_is_warned(
    spaced: Path, tmp_path: Path, trainer: str, family: Any, words: str
) -> None:
    summary = export(spaced, format=trainer, family=family, root=tmp_path / "videos")
    found = [remark for remark in summary.remarks if "other order" in remark]
    assert [remark[: len(words)] for remark in found] == ([words] if words else [])


@pytest.mark.parametrize("trainer", ["slowfast", "videomae"])
def test_the_command_that_is_told_makes_the_list_for_tests(
    sharded: Path, tmp_path: Path, trainer: str
) -> None:
    root = tmp_path / "my clips"
    output = tmp_path / "lists" / "val.csv"
    options: Any = {"format": trainer, "root": root, "extract": True, "output": output}
    summary = export(sharded, "k400/val", **options)
    (told,) = (remark for remark in summary.remarks if " tests on test.csv" in remark)
    command = shlex.split(told.partition(": ")[2])
    assert k710(*command[1:]).returncode == 0
    assert summary.settings is not None
    assert read_list(trainer, summary.settings, "test") == read_list(
        trainer, summary.settings, "val"
    )
    assert not any(
        "test.csv" in remark for remark in export(sharded, "k400/val", **options).remarks
    )


def test_videomae_must_be_changed_for_other_datasets(spaced: Path, tmp_path: Path) -> None:
    for view, is_said in (("k400/train", False), ("k600/val", True)):
        summary = export(spaced, view, format="videomae", root=tmp_path / "videos")
        assert any("nb_classes" in remark for remark in summary.remarks) == is_said


def test_a_list_may_be_named(spaced: Path, tmp_path: Path) -> None:
    output = tmp_path / "my lists" / "test.csv"
    summary = export(spaced, format="slowfast", root=tmp_path / "videos", output=output)
    assert summary.settings is not None
    assert len(slowfast(summary.settings, "test")) == 5


# --- refusals


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"format": "tfrecord"}, "'tfrecord' is not one of slowfast, mmaction2"),
        ({"format": "csv"}, "csv needs a root"),
        ({"format": "wids", "extract": True}, "nothing to extract"),
        ({"format": "videomae", "root": "v", "output": "x.txt"}, r"never 'x\.txt'"),
        ({"format": "slowfast", "root": "v", "output": "."}, r"never '\.'"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        export_view("k400/val", **options)


@pytest.mark.parametrize("name", [".", "..", "lists", "lists/"])
def test_a_folder_is_refused_before_a_clip_is_written(
    sharded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "lists").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StageError, match=r" is a folder\.\nName the list itself: --output "):
        export(sharded, root="clips", extract=True, output=name)
    assert os.listdir(tmp_path) == ["lists"]


def test_what_comes_first_is_said(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, *AWKWARD)
    with pytest.raises(StageError, match=r"no finished .*sources.parquet.\n.*k710 index"):
        export(work, root=tmp_path)
    index_videos([put(tmp_path / "videos", {f"{clip('d')}.mp4": 7})], work=work)
    with pytest.raises(
        StageError, match=r"There is no view 'k400/vat' in .*\nThere are k400/train"
    ):
        export(work, "k400/vat", root=tmp_path)
    with pytest.raises(StageError, match=r"no finished .*index.parquet.\n.*k710 shard"):
        export(work, root=tmp_path, extract=True)
    with pytest.raises(LabelError, match="'random' is no family"):
        export(work, root=tmp_path, family="random")
    lists: Lists = {"k400/train": AWKWARD[:2]}
    build_manifest(write_lists(tmp_path / "other", lists), work=work)
    with pytest.raises(StageError, match="is of another manifest"):
        export(work, root=tmp_path)
