"""`k710 download` as a user runs it, from a server of this machine."""

import json
import os
import pty
import re
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from support.command_line import K710, k710
from support.list_files import vid
from support.loopback import Answer, Loopback
from support.small_manifest import clip, manifest_of, sources
from support.small_site import (
    VIEW,
    asked,
    files_below,
    good,
    lines,
    tell,
    template,
    without_proxies,
    work_of,
)

HOSTILE = "\x1b[31m[bold]red[/bold] %(id)s {id} \x07$(touch mark)"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    without_proxies(monkeypatch)
    with Loopback() as server:
        yield server


def command(server: Loopback, *more: object) -> list[str]:
    quick = ("--url-template", template(server), "--sleep", 0, "--backoff", 0, "--workers", 1)
    return [K710, "download", "--views", VIEW, *map(str, (*quick, "--fetch", "whole", *more))]


def run(server: Loopback, folder: Path, *more: object) -> "subprocess.CompletedProcess[str]":
    return k710(*command(server, *more)[1:], cwd=folder)


def test_what_was_done_is_said_and_why_not_more(server: Loopback, tmp_path: Path) -> None:
    work_of(tmp_path, ["a", "-b", "c", "d"])
    tell(server, "a")
    tell(server, "-b", Answer(status=410))
    tell(server, "c", Answer(status=410))
    tell(server, "d", Answer(status=503))
    done = run(server, tmp_path, "--retries", 1)
    assert (done.returncode, done.stderr) == (0, "")
    assert {line["site"] for line in lines(tmp_path / "work")} == {template(server)}
    assert re.search(r"view +clips +ok +gone +transient", done.stdout)
    assert re.search(r"k400/train +4 +1 +2 +1", done.stdout)
    said = done.stdout.partition("\n\n")[2]
    assert said == (
        "4 of 4 videos in 5 attempts, 0.0 MB. Clips: 2 gone, 1 ok, 1 transient.\n"
        "    2 gone: Unable to download webpage: HTTP Error 410: Gone\n"
        "    1 transient: Unable to download webpage: HTTP Error 503: Service Unavailable\n"
    )
    again = run(server, tmp_path, "--retries", 0, "--json")
    assert again.returncode == 1, "something was asked for, and nothing came"
    summary = json.loads(again.stdout)
    assert (summary["videos"], summary["statuses"]) == (1, {"transient": 1})
    assert summary["views"] == [
        {"view": VIEW, "status": status, "clips": clips}
        for status, clips in (("gone", 2), ("ok", 1), ("transient", 1))
    ]
    assert asked(server)[f"/{clip('a')[:11]}.mp4"] == 2


@pytest.mark.slow
def test_nothing_to_do_is_said(server: Loopback, tmp_path: Path) -> None:
    work_of(tmp_path, ["a"])
    done = run(server, tmp_path, "--limit", 1, "--dry-run")
    assert "To be fetched: 1 clips (0.0 hours) in 1 videos, at least 0.0 GB" in done.stdout
    assert done.stdout.endswith("GB are free. Nothing was fetched.\n")
    assert server.seen == []
    (tmp_path / "classes.txt").write_text("zumba\n")
    done = run(server, tmp_path, "--classes", "classes.txt")
    assert done.returncode == 0
    assert done.stdout.endswith("\n\nNothing to do: no clip of these views is pending.\n")


@pytest.mark.slow
def test_walls_are_exit_1_with_words(server: Loopback, tmp_path: Path) -> None:
    work = work_of(tmp_path, [f"v{number}" for number in range(6)])
    for number in range(6):
        tell(server, f"v{number}", Answer(status=403))
    done = run(server, tmp_path, "--walls", 2)
    assert done.returncode == 1
    assert "    2 blocked: Unable to download webpage: HTTP Error 403: Forbidden\n" in done.stdout
    assert "Stopped: refused too often in a row. What is left is pending, not lost." in done.stdout
    statuses = [row["status"] for row in sources(work).values()]
    assert sorted(statuses) == ["blocked"] * 2 + ["missing"] * 4


def test_what_a_server_says_never_reaches_the_terminal_as_it_is(
    server: Loopback, tmp_path: Path
) -> None:
    work = work_of(tmp_path, ["-a", "b", "c"])
    tell(server, "-a", Answer(status=404, reason=HOSTILE))
    page = f"<title>../../{HOSTILE}</title><video><source src='/x.mp4'></video>"
    tell(server, "b", Answer(body=page.encode(), content_type="text/html"))
    server.tell("/x.mp4", good())
    name = "../../evil.mp4;touch mark"
    tell(server, "c", good(more=(("Content-Disposition", f"attachment; filename={name}"),)))
    reader, writer = pty.openpty()
    process = subprocess.Popen(
        command(server, "--retries", 0),
        cwd=tmp_path,
        stdout=writer,
        stderr=writer,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "200"},
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
    words = rb"HTTP Error 404: [bold]red[/bold] %(id)s {id} \x07$(touch mark)"
    assert words in shown
    assert b"\x07" not in shown and b"\x1b[31m" not in shown
    assert sorted(row["status"] for row in sources(work).values()) == ["gone", "ok", "ok"]
    assert {Path(name).stem for name in files_below(work / "downloads")} == {
        clip("b")[:11],
        clip("c")[:11],
    }
    assert not list(tmp_path.rglob("mark")) and not list(tmp_path.parent.glob("evil*"))


def test_cookies_that_are_none_are_one_worded_error(server: Loopback, tmp_path: Path) -> None:
    work_of(tmp_path, ["a"])
    cookies = tmp_path / "my cookies.txt"
    text = "# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\thush\n"
    cookies.write_text(text)
    cookies.write_text(text + "one field\n")
    done = run(server, tmp_path, "--cookies", cookies.name)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "my cookies.txt is no file of cookies in Netscape's format.\n"
        "Export them as such (cookies.txt) from a browser.\n"
    )


@pytest.mark.parametrize("status", [400, pytest.param(451, marks=pytest.mark.slow)])
def test_one_unknown_error_for_each_video_stops_it_with_advice(
    server: Loopback, tmp_path: Path, status: int
) -> None:
    work = work_of(tmp_path, [f"v{number}" for number in range(9)])
    for number in range(9):
        tell(server, f"v{number}", Answer(status=status))
    done = run(server, tmp_path, "--walls", 3)
    assert done.returncode == 1
    assert len(lines(work)) == 3
    assert f"    3 failed: Unable to download webpage: HTTP Error {status}: " in done.stdout
    assert f"yt-dlp {metadata.version('yt-dlp')} is here; update it with pip install -U yt-dlp" in (
        done.stdout
    )


def test_no_secret_of_an_address_is_printed_or_written(
    server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Answer(body=b"<title>x</title>", content_type="text/html")
    answers = {
        "ok": good(),
        "n404": Answer(status=404),
        "n400": Answer(status=400, reason=f"of {vid('n400')}.mp4?t=hush"),
        "page": page,
        "short": good(cut=1500),
        "moved": Answer(status=302, location="http://me:hush@127.0.0.1:1/x?t=hush"),
        "nowhere": Answer(status=302, location="http://[::1/?t=hush"),
    }
    work = work_of(tmp_path, answers)
    for name, answer in answers.items():
        server.tell(f"/{vid(name)}.mp4?t=hush", answer)
    address = template(server).replace("http://", "http://me:hush@") + "?t=hush"
    done = run(server, tmp_path, "--url-template", address, "--retries", 0)
    monkeypatch.setenv("http_proxy", "http://me:hush@127.0.0.1:1")
    proxied = run(server, tmp_path, "--url-template", address, "--retries", 0)
    monkeypatch.setenv("http_proxy", "http://me:hush@[::1")
    wrong = run(server, tmp_path, "--url-template", address, "--retries", 0)
    assert [one.returncode for one in (done, proxied, wrong)] == [0, 1, 1]
    told = {line["youtube_id"]: line["status"] for line in lines(work)[: len(answers)]}
    assert told[vid("ok")] == "ok" and told[vid("n404")] == "gone"
    assert "Through the proxy of the environment: http://...@127.0.0.1:1." in proxied.stdout
    assert wrong.stderr.startswith("HTTP_PROXY, HTTPS_PROXY or ALL_PROXY in the environment names")
    port = server.server_port
    assert {line["site"] for line in lines(work)} == {f"http://...@127.0.0.1:{port}/{{id}}.mp4?..."}
    shown = k710("status", cwd=tmp_path)
    for one in (done, proxied, wrong, shown):
        assert "hush" not in one.stdout + one.stderr
        assert "Traceback" not in one.stderr
    assert not [name for name in files_below(work) if b"hush" in (work / name).read_bytes()]


@pytest.mark.slow
def test_only_the_classes_of_a_file(server: Loopback, tmp_path: Path) -> None:
    rows = [("tying tie", "a", 1, 3), ("yoga", "b", 1, 3)]
    manifest_of(tmp_path, *rows)
    (tmp_path / "classes.txt").write_text("tying necktie\n")
    done = run(server, tmp_path, "--classes", "classes.txt", "--dry-run", "--json")
    assert json.loads(done.stdout)["expected"]["clips"] == 1
    (tmp_path / "classes.txt").write_text("yoga\nyogga\n")
    done = run(server, tmp_path, "--classes", "classes.txt")
    assert done.returncode == 1
    assert done.stderr.startswith("classes.txt, name 2: 'yogga' is no")


def test_sections_without_ffmpeg_are_a_worded_error(
    server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work_of(tmp_path, ["a"])
    monkeypatch.setenv("PATH", str(tmp_path))
    done = run(server, tmp_path, "--fetch", "sections")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Sections are cut by the ffmpeg program, and there is none on")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--part", "4/3"], "4/3 is no part: write it like 3/16, from 1/16 to 16/16."),
        (["--again", "missing"], "'missing' is none of truncated, empty, damaged, mismatched"),
        (["--url-template", "file:///etc/{id}"], "must be an http(s) address with {id} in it"),
        (["--url-template", "http://[::1/{id}"], "'http://[::1/{id}' must be an http(s) address"),
        (["--rate-limit", "fast"], "'fast' is no size"),
        (["--fetch", "parts"], "'parts' is not one of"),
        (["--limit", "0"], "--limit"),
        (["http://me:hush@host/"], "Got unexpected extra argument(s) (http://...@host/)"),
    ],
)
def test_wrong_usage_is_exit_2(
    server: Loopback, tmp_path: Path, options: list[str], words: str
) -> None:
    done = run(server, tmp_path, *options)
    assert done.returncode == 2
    assert words in re.sub(r"[│\s]+", " ", done.stderr)
    assert "hush" not in done.stderr
