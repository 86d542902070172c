"""index, shard and verify as a user runs them, on real videos and on small ones."""

import json
import os
import pty
import re
import subprocess
from pathlib import Path

import pytest
import webdataset

from k710.video.frames import read_frames
from support.command_line import K710, k710
from support.readme import shown
from support.real_clips import CLIPS, lay_out
from support.small_shards import FEW, TRAIN, VAL, build, ready, write_videos

WAY = ("index --videos videos", "shard --views k400/train,k400/val", "verify --deep")


@pytest.fixture(scope="module", params=["32", pytest.param("320", marks=pytest.mark.slow)])
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real videos, indexed and in shards of that short side; README shows them with 320."""
    folder = lay_out(tmp_path_factory.mktemp("real"))
    for command in WAY:
        words = command.split()
        words += ["--short-side", request.param] if words[0] == "shard" else []
        done = k710(*words, cwd=folder)
        assert (done.returncode, done.stderr) == (0, "")
        (folder / f"{words[0]}.txt").write_text(done.stdout)
    again = k710("shard", *WAY[1].split()[1:], "--short-side", request.param, "--json", cwd=folder)
    (folder / "shard.json").write_text(again.stdout)
    return folder


# --- on real videos


def test_all_that_can_become_of_a_clip_in_one_run(real: Path) -> None:
    summary = json.loads((real / "shard.json").read_text())
    fates = {(f["view"], f["status"]): (f["clips"], f["stored"]) for f in summary["fates"]}
    assert fates == {
        ("k400/train", "missing"): (1, 0),
        ("k400/train", "ok"): (8, 8),
        ("k400/val", "damaged"): (1, 0),
        ("k400/val", "empty"): (1, 0),
        ("k400/val", "ok"): (2, 2),
        ("k400/val", "truncated"): (4, 3),
    }
    assert sum(clips for clips, _ in fates.values()) == len(CLIPS)


def test_verify_finds_them_as_written(real: Path) -> None:
    said = (real / "verify.txt").read_text()
    assert said.startswith("1 shard, 13 clips, each decoded, ")
    assert said.endswith(" MB: all as written.\n")


@pytest.mark.parametrize("command", WAY)
def test_readme_shows_what_is_printed(real: Path, command: str) -> None:
    said = (real / f"{command.split()[0]}.txt").read_text().replace(f"{real}/", "")
    # Times differ, and so may bytes: with another version of x264.
    masked = [re.sub(r"\d+\.\d", "#", line.rstrip()) for line in said.splitlines()]
    assert masked == [re.sub(r"\d+\.\d", "#", line) for line in shown(f"k710 {command}")]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_plain_webdataset_reads_all_clips_of_all_views(real: Path) -> None:
    urls = [str(path) for path in sorted((real / "work" / "shards").glob("*.tar"))]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode())
    assert len(samples) == 13
    for sample in samples:
        frames = read_frames(sample["mp4"], [0, 7, 7, 3])
        assert frames.shape[0] == 4
        assert min(frames.shape[1:3]) <= 320
        assert sample["json"]["label_name"]


def test_a_flipped_byte_is_exit_1_and_names_the_shard(real: Path) -> None:
    tar = real / "work" / "shards" / "000000.tar"
    sound = tar.read_bytes()
    try:
        tar.write_bytes(sound[:5000] + bytes([sound[5000] ^ 1]) + sound[5001:])
        done = k710("verify", cwd=real)
    finally:
        tar.write_bytes(sound)
    assert done.returncode == 1
    assert "1 fault.\n    shards/000000.tar is not as it was written\n" in done.stdout


# --- on small ones


def test_a_dry_run_says_what_would_be_made(tmp_path: Path) -> None:
    ready(tmp_path)
    done = k710("shard", "--views", "k400/train", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0
    assert f"To be made: {len(TRAIN)} clips, " in done.stdout
    assert "Nothing was written.\n" in done.stdout
    assert not (tmp_path / "work" / "shards").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--profile", "best"], "'best' is not one of"),
        (["--fps", "0"], "fps must be from 1 to 240"),
        (["--fps", "many"], "Invalid literal"),
        (["--fps", "1/0"], "Fraction(1, 0)"),
        (["--shard-size", "huge"], "'huge' is no size"),
        (["--workers", "0"], "--workers"),
        (["--engine", "spark"], "'spark' is not one of"),
        (["--address", "auto"], "--address goes with --engine ray"),
        (["--part", "4/3"], "4/3 is no part: write it like 3/16"),
        (["--part", "three"], "'three' is no part: write it like 3/16"),
        (["--part", "1/2", "--finish"], "--finish goes with neither --part nor --dry-run"),
        (["--dry-run", "--finish"], "--finish goes with neither --part nor --dry-run"),
    ],
)
def test_wrong_usage_is_exit_2(tmp_path: Path, options: list[str], words: str) -> None:
    done = k710("shard", "--views", "k400/train", *options, cwd=tmp_path)
    assert done.returncode == 2
    assert words in " ".join(done.stderr.replace("│", " ").split())


def test_what_comes_first_is_said(tmp_path: Path) -> None:
    build(tmp_path)
    done = k710("shard", "--views", "k400/train", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        "There is no finished work/sources.parquet.\n"
        "Build it: k710 index --videos DIR --work work\n"
    )
    done = k710("verify", cwd=tmp_path)
    assert done.returncode == 1
    assert "Build it: k710 shard --views VIEWS --work work\n" in done.stderr


def test_a_cluster_that_is_not_there_is_said(tmp_path: Path) -> None:
    ready(tmp_path)
    options = ("--engine", "ray", "--address", "127.0.0.1:1")
    done = k710("shard", "--views", "k400/train", *options, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "The Ray cluster at '127.0.0.1:1' can't be used: Connection refused.\n"
        "Is it up? ray status says. All machines need the same Ray and Python.\n"
    )


def test_a_join_says_what_is_missing(tmp_path: Path) -> None:
    ready(tmp_path, **FEW)
    views = ("--views", "k400/train", "--shard-size", "100kB", "--workers", 1)
    assert k710("shard", *views, "--part", "2/2", cwd=tmp_path).returncode == 0
    done = k710("shard", *views, "--finish", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("\n    k710 shard --views k400/train --work work --part 1/2\n")


def test_words_of_files_are_never_read_as_markup(tmp_path: Path) -> None:
    build(tmp_path)
    folder = tmp_path / "[red]videos[/red]\x1b[31m"
    write_videos(folder, VAL)
    (folder / "[bold]x.mp4").write_bytes(b"")
    done = k710("index", "--videos", folder, cwd=tmp_path)
    assert done.returncode == 0
    assert "[red]videos[/red]\\x1b[31m/[bold]x.mp4" in done.stdout
    done = k710("shard", "--views", "k400/val", "--workers", 1, cwd=tmp_path)
    assert done.returncode == 0


def test_a_bar_with_rates_is_shown_on_a_terminal(tmp_path: Path) -> None:
    ready(tmp_path, **FEW)
    reader, writer = pty.openpty()
    command = [K710, "shard", "--views", "k400/train,k400/val", "--work", "work", "--workers", "1"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stderr=writer,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "140"},
    )
    os.close(writer)
    shown = b""
    while True:
        try:
            shown += os.read(reader, 4096)
        except OSError:  # the terminal's other side was closed
            break
    os.close(reader)
    assert process.wait() == 0
    assert b"clips" in shown and f"/{len(FEW['train']) + len(FEW['val'])}".encode() in shown


def test_what_a_copy_was_not_read_of_is_said(tmp_path: Path) -> None:
    work = ready(tmp_path, **FEW)
    (tmp_path / "videos").rename(tmp_path / "moved")
    for _ in range(2):
        said = k710("shard", "--views", "k400/train", cwd=work.parent).stdout
        assert "3 clips with a copy that can't be read, failed, or can't be told" in said
        assert "k710 index --videos DIR" in said and "every clip that may be had" not in said
    assert "\nNothing to do.\n" in said
