"""The command line as a user runs it: what it prints, and its exit codes."""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from k710.demo.lists import write_demo_lists
from k710_cli.screen import stopped_in_words
from support.command_line import K710, k710
from support.loopback import Answer, Loopback

COMMANDS = (
    "fetch-annotations",
    "build-manifest",
    "explain",
    "index",
    "download",
    "shard",
    "verify",
    "export",
    "status",
    "card",
    "remap-head",
    "convert",
    "predict",
    "labels",
    "demo",
)
HEAVY = ("duckdb", "pandas", "pyarrow", "av", "torch", "yt_dlp", "webdataset", "ray", "fsspec")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with annotations/ and work/."""
    folder = tmp_path_factory.mktemp("cli")
    write_demo_lists(folder / "annotations")
    done = k710("build-manifest", "--annotations", "annotations", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


# --- help


def test_help_lists_every_command() -> None:
    done = k710("--help")
    assert done.returncode == 0
    for command in COMMANDS:
        assert re.search(rf"\b{command}\b", done.stdout)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    done = k710(command, "--help")
    assert done.returncode == 0
    assert f"Example: k710 {command}" in done.stdout


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from k710_cli import app\n"
        "try: app(['--help'])\n"
        f"finally: print([m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout


def test_version() -> None:
    assert re.fullmatch(r"k710 \d+\.\d+\.\d+\n", k710("--version").stdout)


# --- fetch-annotations


def test_from_archives_on_a_server_to_a_manifest(tmp_path: Path) -> None:
    write_demo_lists(tmp_path / "upstream")
    sources = tmp_path / "sources.toml"
    editions = {
        "k400": "kinetics400",
        "k600": "kinetics600",
        "k700": "kinetics700",
        "k700_2020": "kinetics700_2020",
    }
    with Loopback() as server, sources.open("w") as file:
        for edition, folder in editions.items():
            url = server.tell(f"/{folder}.tar.gz", Answer(status=404))
            if (tmp_path / "upstream" / folder).exists():
                archive = shutil.make_archive(
                    str(tmp_path / folder), "gztar", tmp_path / "upstream", folder
                )
                server.tell(f"/{folder}.tar.gz", Answer(body=Path(archive).read_bytes()))
            file.write(f'[{edition}]\nurl = "{url}"\nfolder = "{folder}"\n')
        file.flush()
        fetch = ("fetch-annotations", "lists", "--sources", sources)
        done = k710(*fetch, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout == (
            "k400: fetched, 3 files in lists/kinetics400\n"
            "k600: fetched, 3 files in lists/kinetics600\n"
            "k700_2020: fetched, 3 files in lists/kinetics700_2020\n"
            "Next: k710 build-manifest --annotations lists\n"
        )
        assert "k400: was there, 3 files" in k710(*fetch, cwd=tmp_path).stdout
        assert json.loads(k710(*fetch, "--json", cwd=tmp_path).stdout)[0]["already_there"]
        missing = k710(*fetch, "--edition", "k700", cwd=tmp_path)
        assert missing.returncode == 1
        assert "kinetics700.tar.gz was refused with 404" in missing.stderr
    done = k710("build-manifest", "--annotations", "lists", cwd=tmp_path)
    assert re.search(r"k710/train +244 +54 +18 +172", done.stdout)


# --- build-manifest


def test_the_summary_says_what_happened(demo: Path) -> None:
    done = k710("build-manifest", "--annotations", "annotations", "--work", "fresh", cwd=demo)
    assert done.returncode == 0
    assert re.search(r"k400/train +kinetics400/train\.csv +62", done.stdout)
    assert re.search(r"view +rows in +- duplicate id +- held out +=", done.stdout)
    assert re.search(r"k710/train +244 +54 +18 +172", done.stdout)
    assert "YouTube ids that two lists share" in done.stdout
    assert "Written to fresh: annotations.parquet, manifest.parquet, dropped" in done.stdout
    assert done.stderr == "", "no progress bar where stderr is no terminal"


def test_a_second_run_says_that_it_does_nothing(demo: Path) -> None:
    done = k710("build-manifest", "--annotations", "annotations", cwd=demo)
    assert "Nothing to do: all tables in work are made of just these lists." in done.stdout


def test_json_gives_the_same_numbers(demo: Path) -> None:
    done = k710("build-manifest", "--annotations", "annotations", "--json", cwd=demo)
    summary = json.loads(done.stdout)
    assert summary["views"]["k710/train"] == 172
    assert summary["dropped"]["k710/train"] == {"duplicate_id": 54, "held_out": 18}
    assert len(summary["leakage"]) == 36
    assert summary["rules"] == {
        "protect": ["val", "test"],
        "prefer": ["k700", "k600", "k400"],
        "dedup": "id",
    }


def test_missing_lists_and_twins_are_said(tmp_path: Path) -> None:
    path = tmp_path / "lists" / "k400" / "train.csv"
    path.parent.mkdir(parents=True)
    path.write_text("label,youtube_id,time_start,time_end,split\narchery,aaaaaaaaaaa,0,10,train\n")
    path.with_suffix(".json").write_text("{}")
    done = k710("build-manifest", "--annotations", "lists", cwd=tmp_path)
    assert "Not read: k400/train.json: another form of k400/train.csv that can't" in done.stdout
    missing = "k400/test, k400/val, k600/test, k600/val, k700/test, k700/val"
    assert f"Not protected against lists that are missing: {missing}\n" in done.stdout
    again = k710("build-manifest", "--annotations", "lists", "--require-complete", cwd=tmp_path)
    assert again.returncode == 1
    assert again.stderr.startswith(f"Missing lists: {missing}")


def test_what_is_not_read_is_said_in_the_summary_each_time(tmp_path: Path) -> None:
    folder = tmp_path / "lists" / "k600"
    folder.mkdir(parents=True)
    header = "label,youtube_id,time_start,time_end,split\n"
    for name, split in (("train.txt", "train"), ("val.txt", "val"), ("val.csv", "val")):
        (folder / name).write_text(f"{header}archery,aaaaaaaaaa{split[0]},0,10,{split}\n")
    (folder / "k600_train_list.txt").write_text("train/aaaaaaaaaaa.mp4 5\n")
    for _ in range(2):
        done = k710("build-manifest", "--annotations", "lists", cwd=tmp_path)
        assert re.search(r"k600/train +k600/train\.txt +1", done.stdout)
        assert "Not read: k600/val.txt: another form of k600/val.csv, with the same" in done.stdout
        assert "Not read: k600/k600_train_list.txt: a ready-made list of videos" in done.stdout
    unread = json.loads(
        k710("build-manifest", "--annotations", "lists", "--json", cwd=tmp_path).stdout
    )["unread"]
    assert [one["files"] for one in unread] == [["k600/val.txt"], ["k600/k600_train_list.txt"]]
    (folder / "val.txt").write_text(f"{header}archery,bbbbbbbbbbb,0,10,val\n")
    done = k710("build-manifest", "--annotations", "lists", cwd=tmp_path)
    assert done.returncode == 1
    assert "should be one list in two forms, but they have 1 and 1 rows" in done.stderr


def test_bad_input_is_one_worded_error(tmp_path: Path) -> None:
    folder = (
        tmp_path / "a folder with a rather long name, so that Rich would wrap the message" / "k400"
    )
    folder.mkdir(parents=True)
    row = "[bold]archery[/bold]\x1b[31m,aaaaaaaaaaa,0,10,train\n"
    (folder / "train.csv").write_text(f"label,youtube_id,time_start,time_end,split\n{row}")
    done = k710("build-manifest", "--annotations", folder, "--work", tmp_path / "work")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"{folder}/train.csv:2: '[bold]archery[/bold]\\x1b[31m' is no")
    assert done.stderr.count("\n") == 2
    assert not list((tmp_path / "work").glob("*.parquet*"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--protect", "train"], "protect must be some of val and test"),
        (["--protect", ""], "protect must be some of val and test"),
        (["--protect", "val,none"], "protect must be some of val and test"),
        (["--prefer", "k400"], "prefer must name k400, k600, k700 once each"),
        (["--dedup", "url"], "'url' is not one of 'id', 'clip'"),
        (["--threads", "0"], "--threads"),
    ],
)
def test_wrong_usage_is_exit_2(demo: Path, options: list[str], words: str) -> None:
    done = k710("build-manifest", "--annotations", "annotations", *options, cwd=demo)
    assert done.returncode == 2
    assert words in re.sub(r"[│\s]+", " ", done.stderr)


def test_names_of_files_are_never_read_as_markup(tmp_path: Path) -> None:
    path = tmp_path / "lists" / "k400" / "[red]train[/red]\x1b[31m.csv"
    path.parent.mkdir(parents=True)
    path.write_text("label,youtube_id,time_start,time_end,split\narchery,aaaaaaaaaaa,0,10,train\n")
    done = k710("build-manifest", "--annotations", "lists", cwd=tmp_path)
    assert "k400/[red]train[/red]\\x1b[31m.csv" in done.stdout
    done = k710("explain", "aaaaaaaaaaa", cwd=tmp_path)
    assert "[k400/[red]train[/red]\\x1b[31m.csv:2]" in done.stdout


# --- explain


def test_ids_that_begin_with_a_dash_need_no_dashes_before(demo: Path) -> None:
    done = k710("explain", "-leaked_id0", cwd=demo)
    assert done.returncode == 0
    assert done.stdout == (
        "k400/train  10-20 s  abseiling  [kinetics400/train.csv:2]\n"
        "    not in k710/train: its id is in k700/val\n"
        "k700/val  10-20 s  abseiling  [kinetics700_2020/validate.csv:2]\n"
        "    in k710/val\n"
    )
    assert json.loads(k710("explain", "--json", "-leaked_id0", cwd=demo).stdout)[0]["reason"]


@pytest.mark.parametrize("youtube_id", ["--work_____", "--json12345", "-h_________", "---v8pgm1eQ"])
def test_ids_that_look_like_options_are_ids(demo: Path, youtube_id: str) -> None:
    done = k710("explain", youtube_id, "--work", "work", cwd=demo)
    assert done.returncode == 1
    assert done.stderr.startswith(f"No annotation row has the id '{youtube_id}'.\n")


def test_a_real_id_that_begins_with_a_dash(real_lists: Path, tmp_path: Path) -> None:
    (tmp_path / "kinetics400").mkdir()
    (tmp_path / "kinetics400" / "test.csv").symlink_to(real_lists / "kinetics400" / "test.csv")
    k710("build-manifest", "--annotations", tmp_path / "kinetics400", "--work", tmp_path / "work")
    done = k710("explain", "-aU-xCCzkT0", "--work", tmp_path / "work")
    assert done.stdout == "k400/test  61-71 s  abseiling  [test.csv:2]\n    in no k710 view\n"


# --- labels


def test_labels_prints_an_order() -> None:
    lines = k710("labels", "--dataset", "k400", "--family", "alphabetical").stdout.splitlines()
    assert lines[:2] == ["class_index\tk710_row\tname", "0\t341\tabseiling"]
    assert len(lines) == 401
    listed = json.loads(k710("labels", "--json").stdout)
    assert listed[709] == {
        "class_index": 709,
        "k710_row": 709,
        "name": "bull fighting",
        "k710_name": "bull fighting",
    }


def test_labels_check_is_exit_1_when_rows_are_wrong(tmp_path: Path) -> None:
    names = [line.split("\t")[2] for line in k710("labels").stdout.splitlines()[1:]]
    (tmp_path / "names.txt").write_text("\n".join(names))
    done = k710("labels", "--check", "names.txt", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout == "names.txt: k710 in opengvlab order, all 710 rows right.\n"
    names[5], names[9] = names[9], names[5]
    (tmp_path / "names.txt").write_text("\n".join(names))
    done = k710("labels", "--check", "names.txt", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.splitlines()[0] == (
        "names.txt: nearest to k710 in opengvlab order, but 2 of 710 rows are wrong:"
    )
    assert json.loads(k710("labels", "--check", "names.txt", "--json", cwd=tmp_path).stdout)[
        "wrong"
    ]


def test_labels_check_of_the_published_wrong_file(real_labels: Path) -> None:
    done = k710("labels", "--check", real_labels / "videomaev2_label_map_k710_WRONG_NAMES.txt")
    assert done.returncode == 1
    assert "309 of 710 rows are wrong (1 by another of their names):\n  row 222: " in done.stdout


def test_labels_evidence_prints_all_merges(demo: Path) -> None:
    done = k710("labels", "--evidence", cwd=demo)
    merged = done.stdout.partition("Not merged")[0]
    assert re.search(r"tying necktie +tying tie +1 +1 +0 +0", merged)
    assert "sipping cup" in merged


# --- terminals


def test_a_progress_bar_is_shown_on_a_terminal_alone(demo: Path) -> None:
    reader, writer = pty.openpty()
    command = [K710, "build-manifest", "--annotations", "annotations", "--work", "terminal"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen(
        command, cwd=demo, stderr=writer, stdout=subprocess.PIPE, env=environment
    )
    os.close(writer)
    shown = b""
    while True:
        try:
            shown += os.read(reader, 4096)
        except OSError:  # the terminal's other side was closed
            break
    assert process.stdout is not None
    process.stdout.read()
    process.stdout.close()
    os.close(reader)
    assert process.wait() == 0
    assert b"building manifest" in shown


def test_a_signal_that_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopped_in_words("download"):
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
