"""Nothing that a table or a file holds acts on the terminal, whichever command shows it."""

import ast
import io
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pytest
from rich.progress import Progress

from k710.files import sha256_of
from k710_cli import screen
from k710_cli.plain_text import PlainConsole
from support.command_line import k710
from support.paths import ROOT
from support.small_manifest import clip, manifest_of, record

HOSTILE = "\x1b[31m[red]x\r\n\x07\x00\x9b2J\u202e\u2066\u200b:smile:|`<b>$(id)"
SHOWN = "\\x1b[31m[red]x"  # how it begins, wherever it is shown
ROWS = [("archery", "a", 0, 10), ("bowling", "b", 0, 10), ("zumba", "c", 0, 10)]


def rewrite(work: Path, table: str, columns: str) -> None:
    """Put other values into columns of a table, as someone would who shares it."""
    path = work / f"{table}.parquet"
    with duckdb.connect() as con:
        con.execute(
            f"copy (select * replace ({columns}) from '{path}') to '{path}.new' (format parquet)",
        )
    path.with_name(path.name + ".new").replace(path)
    before = json.loads((work / f"{table}.parquet.json").read_text())["sha256"]
    for sidecar in work.glob("*.parquet.json"):
        sidecar.write_text(sidecar.read_text().replace(before, sha256_of(path)))


def quoted(text: str) -> str:
    """`text` for SQL."""
    return " || ".join(f"chr({ord(character)})" for character in text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hostile names of classes, files and folders, and what a site said, in work/."""
    folder = tmp_path_factory.mktemp("hostile")
    work = manifest_of(folder, *ROWS, k400_val=[("yoga", "c", 0, 10)])
    k710("index", "--videos", folder, "--work", work)
    record(work, clip("a"), status="gone", detail=HOSTILE)
    rewrite(work, "manifest", f"{quoted(HOSTILE)} as label_name")
    hostile = f"{quoted(HOSTILE)} as label_raw, {quoted(HOSTILE)} as source_file"
    rewrite(work, "annotations", hostile)
    rewrite(work, "dropped", f"{quoted(HOSTILE)} as reason")
    name = HOSTILE.replace("\0", "")
    (folder / "classes.txt").write_text(f"{HOSTILE}\nabseiling\n")
    for place in ("lists/k400", f"videos/{name}"):
        (folder / place).mkdir(parents=True)
    (folder / "videos" / name / "x.mp4").write_bytes(b"x")
    (folder / "lists" / "k400" / f"{name}.txt").write_text(HOSTILE)
    (folder / "lists" / "k400" / "val.csv").write_text(
        "label,youtube_id,time_start,time_end,split\narchery,aaaaaaaaaaa,0,10,val\n"
    )
    return folder


COMMANDS: dict[str, Sequence[object]] = {
    "status": ("status",),
    "status of classes": ("status", "--classes", "--view", f"k400/train{HOSTILE}"),
    "no such view": ("status", "--view", HOSTILE),
    "explain": ("explain", "a__________"),
    "no such id": ("explain", HOSTILE.replace("\0", "")),
    "card": ("card",),
    "no such name of a card": ("card", "--repo-id", HOSTILE),
    "evidence": ("labels", "--evidence"),
    "class file": ("labels", "--check", "classes.txt"),
    "lists": ("build-manifest", "--annotations", "lists", "--work", "other"),
    "no such folder": ("build-manifest", "--annotations", HOSTILE.replace("\0", "")),
    "index": ("index", "--videos", "videos"),
    "download": ("download", "--views", f"k400/train{HOSTILE}", "--dry-run"),
    "shard": ("shard", "--views", HOSTILE, "--dry-run"),
    "export": ("export", HOSTILE, "--format", "csv", "--root", "."),
    "usage": ("shard", "--views", "k400/train", "--profile", HOSTILE),
    "unknown option": ("status", f"--{HOSTILE}"),
    "unknown command": (HOSTILE,),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_lets_a_value_act(folder: Path, name: str) -> None:
    done = k710(*COMMANDS[name], cwd=folder)
    printed = done.stdout + done.stderr
    assert printed.replace("\n", "").isprintable(), printed
    if name != "card":
        assert "[red]x" in "".join(line.strip(" │") for line in printed.splitlines())
    assert "\U0001f604" not in printed, "no emoji is made of a name between colons"


def test_a_card_is_not_injected(folder: Path) -> None:
    done = k710("card", "--output", "card.md", cwd=folder)
    assert done.returncode == 0, done.stderr
    text = (folder / "card.md").read_text()
    assert text.replace("\n", "").isprintable()
    assert SHOWN in text
    assert "<b>" not in text.replace('"', "").partition("## Views")[2]
    rows = [line for line in text.splitlines() if line.startswith("|") and SHOWN in line]
    assert rows and all(line.count("|") in (4, 6) and line.count("`") == 2 for line in rows)


def test_a_bar_shows_text_as_it_is() -> None:
    bars = Progress(screen.text_column("{task.description}"), console=PlainConsole(width=100))
    bars.add_task(HOSTILE)
    (task,) = bars.tasks
    column = screen.text_column("{task.description}")
    assert type(bars.columns[0]) is type(column)
    assert column.render(task).plain.isprintable()


def test_a_coloured_terminal_gets_no_colours_of_a_value(capsys: pytest.CaptureFixture[str]) -> None:
    console = PlainConsole(width=200)
    console.file = io.StringIO()
    table = screen.table(HOSTILE, title=HOSTILE)
    table.add_row(HOSTILE)
    console.print(HOSTILE, table)
    assert console.file.getvalue().replace("\n", "").isprintable()
    screen.say(HOSTILE, to_stderr=True)
    screen.say_cells(HOSTILE, 5)
    out, err = capsys.readouterr()
    assert err.replace("\n", "").isprintable()
    assert out.endswith("$(id)\t5\n")
    assert out.replace("\t", "").strip("\n").isprintable()


def test_a_terminal_without_utf_8_gets_ascii() -> None:
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding="ascii")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", stream)
        screen.guard_terminal()
        screen.say("caf\xe9 \udce9")
    stream.flush()
    assert written.getvalue() == b"caf\\xe9 \\udce9\n"


def test_warnings_that_are_logged_do_not_act() -> None:
    screen.guard_terminal()
    assert logging.lastResort is not None
    record = logging.LogRecord("x", logging.WARNING, "", 0, "%s is broken", (HOSTILE,), None)
    assert logging.lastResort.format(record).replace("\n", "").isprintable()


def test_commands_print_through_screen_alone() -> None:
    for path in sorted((ROOT / "cli" / "k710_cli").glob("*.py")):
        if path.name in ("screen.py", "plain_text.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("print", "typer.echo", "typer.secho"), path
                assert not called.endswith(("stdout.write", "stderr.write")), path
                assert called.split(".")[-1] not in ("Console", "Table", "TextColumn"), path
