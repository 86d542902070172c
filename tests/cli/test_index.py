"""`k710 index` as a user runs it."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest

from k710.manifest.build import build_manifest
from support.command_line import k710


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with work/, videos/ and more.tar."""
    folder = tmp_path_factory.mktemp("index")
    rows = ["-aaaaaaaaaa,0,10", "bbbbbbbbbbb,5,15", "ccccccccccc,7,17"]
    (folder / "k400").mkdir()
    (folder / "k400" / "val.csv").write_text(
        "\n".join(
            ["label,youtube_id,time_start,time_end,split", *(f"yoga,{row},val" for row in rows)]
        )
    )
    build_manifest(folder / "k400", work=folder / "work")
    videos = folder / "videos" / "yoga"
    videos.mkdir(parents=True)
    for name in ("-aaaaaaaaaa_000000_000010.mp4", "[red]x[blink]\x1b[2J.mp4", "-aaaaaaaaaa.mkv"):
        (videos / name).write_bytes(b"x")
    with tarfile.open(folder / "more.tar", "w") as tar:
        tar.add(videos / "-aaaaaaaaaa.mkv", "bbbbbbbbbbb_000005_000015.mp4")
    with tarfile.open(folder / "[cut].tar", "w") as tar:
        tar.add(videos / "-aaaaaaaaaa.mkv", "x.mp4")
    (folder / "[cut].tar").write_bytes((folder / "[cut].tar").read_bytes()[:1024])
    return folder


def test_found_and_missing_in_each_view(built: Path) -> None:
    done = k710("index", "--videos", "videos", "--videos", "more.tar", cwd=built)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "view clips found missing duplicates" in lines
    assert "k710/val 3 2 1 1" in lines and "k400/val 3 2 1 1" in lines
    assert "Videos: 4 = 2 used + 1 duplicates + 1 whose names are no clip's" in lines
    assert f"{built}/videos/yoga/[red]x[blink]\\x1b[2J.mp4" in lines
    assert any("a clip is called ID_000012_000022.mp4" in line for line in lines)
    assert lines[-1] == "Written to work: sources.parquet, copies.parquet"


def test_json(built: Path) -> None:
    done = k710("index", "--videos", "videos", "--work", "work", "--json", cwd=built)
    summary = json.loads(done.stdout)
    assert summary["views"][0]["view"] == "k400/val"
    assert (summary["used"], summary["unknown"]) == (2, 1)
    assert summary["unknown_first"] == [f"{built}/videos/yoga/[red]x[blink]\x1b[2J.mp4"]


def test_a_damaged_archive_is_a_remark(built: Path) -> None:
    done = k710("index", "--videos", "[cut].tar", "--workers", 1, cwd=built)
    assert done.returncode == 0
    assert f"{built}/[cut].tar is cut short." in done.stdout.splitlines()


def test_faults_of_copies_are_columns(built: Path, tmp_path: Path) -> None:
    shutil.copytree(built / "work", tmp_path / "work")
    for name in ("sources", "copies"):
        (tmp_path / "work" / f"{name}.parquet").unlink(missing_ok=True)
    done = k710("index", "--videos", built / "videos", "--probe", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "view clips found missing duplicates damaged" in lines
    assert "k400/val 3 1 2 1 1" in lines


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--videos", "none"], 1, "/none can't be read: No such file or directory."),
        (["--videos", "videos", "--work", "w"], 1, "Build it: k710 build-manifest --annotations"),
        ([], 2, "Missing option '--videos'"),
        (["--videos", "videos", "--workers", "0"], 2, "'--workers'"),
        (["--videos", "videos", "--name-pattern", "("], 1, "--name-pattern '(' can't be used: "),
    ],
)
def test_what_is_wrong_is_said(built: Path, arguments: list[str], code: int, words: str) -> None:
    done = k710("index", *arguments, cwd=built)
    assert done.returncode == code
    assert words in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
