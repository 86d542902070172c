"""Runs of `download_videos`: real workers, a real server, and what ledger and sources then say."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from k710.download.run import download_videos
from k710.download.summary import DownloadSummary
from k710.errors import LabelError
from k710.files import locked
from k710.part import Part
from k710.sources.index import index_videos
from support.list_files import vid
from support.loopback import Answer, Loopback
from support.small_manifest import clip, manifest_of, refresh, sources
from support.small_site import (
    asked,
    download,
    fetching,
    files_below,
    good,
    lines,
    snapshot,
    statuses_of,
    tell,
    template,
    without_proxies,
    work_of,
)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    without_proxies(monkeypatch)
    with Loopback() as server:
        yield server


def found(work: Path) -> dict[str, str]:
    """name -> status, of clips of one window each."""
    return {clip_id[:11].rstrip("_"): row["status"] for clip_id, row in sources(work).items()}


# --- one run in which all that can happen does, and the runs after it

PAGE = Answer(body=b"<html><title>Sign in</title></html>", content_type="text/html")
BAD = Answer(body=b"<html>no video</html>", content_type="video/mp4")
ANSWERS: dict[str, tuple[tuple[Answer, ...], list[str]]] = {
    "good": ((good(),), ["ok"]),
    "-good": ((good(5),), ["ok"]),
    "GOOD": ((good(6),), ["ok"]),
    "n404": ((Answer(status=404),), ["gone"]),
    "-410": ((Answer(status=410),), ["gone"]),
    "n403": ((Answer(status=403),), ["blocked"]),
    "n429": ((Answer(status=429), good()), ["transient", "ok"]),
    "n503": ((Answer(status=503),), ["transient"] * 3),
    "hangup": ((Answer(status=0),), ["transient"] * 3),
    "halves": ((good(cut=1500),), ["transient"] * 3),
    "page": ((PAGE,), ["failed"]),
    "bad": ((BAD,), ["damaged"]),
}
PENDING = {"n403", "n503", "hangup", "halves", "page"}
FINAL = {"n404", "-410", "bad"}


class Story:
    """Three runs of one work directory; what stood in it after each."""

    def __init__(self, folder: Path) -> None:
        self.work = work_of(folder, ANSWERS)
        self.summaries: list[DownloadSummary] = []
        self.attempts: list[dict[str, list[str]]] = []
        self.found: list[dict[str, str]] = []
        self.asked: list[dict[str, int]] = []
        self.lines: list[list[dict[str, Any]]] = []
        with Loopback() as server:
            for name, (answers, _) in ANSWERS.items():
                tell(server, name, *answers)
            self.run(server)
            for name in ANSWERS:
                tell(server, name, good(7))
            self.run(server)
            self.run(server, again=["gone", "damaged"])
            self.run(server)

    def run(self, server: Loopback, **options: Any) -> None:
        server.seen.clear()
        workers = 1 if self.summaries else 2
        how = fetching(server, workers=workers, retries=2, walls=1000)
        self.summaries.append(download(self.work, how, **options))
        self.attempts.append(statuses_of(self.work))
        self.found.append(found(self.work))
        self.asked.append(asked(server))
        self.lines.append(lines(self.work))


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    with pytest.MonkeyPatch.context() as monkeypatch:
        without_proxies(monkeypatch)
        return Story(tmp_path_factory.mktemp("story"))


def test_each_attempt_is_in_the_ledger_and_only_what_may_pass_is_tried_again(story: Story) -> None:
    expected = {vid(name): statuses for name, (_, statuses) in ANSWERS.items()}
    assert story.attempts[0] == expected
    numbers: dict[str, list[int]] = {}
    for line in story.lines[0]:
        numbers.setdefault(line["youtube_id"], []).append(line["attempt"])
    assert all(counted == list(range(1, len(counted) + 1)) for counted in numbers.values())


def test_the_ledger_has_the_true_words_without_the_id(story: Story) -> None:
    words = {line["youtube_id"].rstrip("_"): line["detail"] for line in story.lines[0]}
    plain = "Unable to download webpage: HTTP Error"
    assert words["good"] is None
    assert words["n404"] == f"{plain} 404: Not Found"
    assert words["-410"] == f"{plain} 410: Gone"
    assert words["n503"] == f"{plain} 503: Service Unavailable"
    assert "more expected" in words["halves"]
    assert "it seems to be a web page" in words["bad"]
    assert not any(vid(name) in (words[name] or "") for name in words)
    walls = {line["youtube_id"].rstrip("_") for line in story.lines[0] if line["is_wall"]}
    assert walls == {"n403", "n429"}


def test_sources_say_what_the_last_attempt_found(story: Story) -> None:
    assert story.found[0] == {name: statuses[-1] for name, (_, statuses) in ANSWERS.items()}


def test_files_lie_under_their_ids_and_nothing_else_is_left(story: Story) -> None:
    rows = sources(story.work)
    files = files_below(story.work / "downloads")
    assert {Path(name).stem for name in files} == {vid(name) for name in ANSWERS}
    for clip_id, row in rows.items():
        assert Path(row["uri"]).name == f"{clip_id[:11]}.mp4"
        assert Path(row["uri"]).stat().st_size == row["bytes"]
        assert (row["trimmed"], row["starts_at_s"]) == (False, 0.0)
        assert row["tool"].startswith("yt-dlp ")


def test_the_summary_adds_up(story: Story) -> None:
    first = story.summaries[0]
    assert first.attempts == len(story.lines[0]) == sum(map(len, story.attempts[0].values()))
    assert first.videos == first.expected.videos == len(ANSWERS)
    counts: dict[str, int] = {}
    for status in story.found[0].values():
        counts[status] = counts.get(status, 0) + 1
    assert first.statuses == counts
    assert {row.status: row.clips for row in first.views} == counts
    assert first.num_bytes == sum(line["num_bytes"] for line in story.lines[0])
    assert sum(videos for _, _, videos in first.reasons) == len(ANSWERS) - counts["ok"]
    assert not first.is_stopped


def test_the_next_run_asks_only_for_what_is_pending(story: Story) -> None:
    assert set(story.asked[1]) == {f"/{vid(name)}.mp4" for name in PENDING}
    assert {name for name, status in story.found[1].items() if status != "ok"} == FINAL
    assert story.summaries[1].videos == len(PENDING)
    later = story.lines[1][len(story.lines[0]) :]
    assert {line["attempt"] for line in later if line["youtube_id"] == vid("n503")} == {4}


def test_what_is_final_is_tried_again_when_it_is_named(story: Story) -> None:
    assert set(story.asked[2]) == {f"/{vid(name)}.mp4" for name in FINAL}
    assert set(story.found[2].values()) == {"ok"}


def test_when_nothing_is_pending_nothing_is_asked(story: Story) -> None:
    assert story.asked[3] == {}
    assert story.summaries[3].expected.videos == 0
    assert story.lines[3] == story.lines[2]


def test_to_index_the_downloads_changes_nothing(story: Story) -> None:
    before = sources(story.work)
    index_videos([story.work / "downloads"], work=story.work)
    after = sources(story.work)
    assert {name: row["status"] for name, row in after.items()} == {
        name: row["status"] for name, row in before.items()
    }
    for column in ("uri", "bytes", "trimmed", "starts_at_s"):
        assert [row[column] for row in after.values()] == [row[column] for row in before.values()]


# --- one fetch for all windows

WINDOWS = (("yoga", "a", 1, 3), ("zumba", "a", 5, 7))


def test_one_fetch_serves_all_windows_and_other_views(server: Loopback, tmp_path: Path) -> None:
    work = manifest_of(tmp_path, *WINDOWS, k600_val=[("yoga", "a", 8, 10)])
    tell(server, "a", good(12))
    download(work, fetching(server))
    assert {row["status"] for row in sources(work).values()} == {"ok"}
    assert len({row["uri"] for row in sources(work).values()}) == 1
    (line,) = lines(work)
    assert line["clips"] == [clip("a", 1, 3), clip("a", 5, 7)]
    server.seen.clear()
    summary = download_videos(["k600/val"], work=work, options=fetching(server))
    assert summary.expected.videos == 0 and server.seen == []


# --- walls


def walled(folder: Path, count: int = 8) -> Path:
    return work_of(folder, [f"v{number}" for number in range(count)])


@pytest.mark.parametrize("status", [403, pytest.param(429, marks=pytest.mark.slow)])
def test_after_walls_in_a_row_it_stops_and_the_rest_is_pending(
    server: Loopback, tmp_path: Path, status: int
) -> None:
    work = walled(tmp_path, 6)
    for number in range(6):
        tell(server, f"v{number}", Answer(status=status))
    summary = download(work, fetching(server, workers=2, walls=3, retries=1, backoff_s=60))
    assert summary.is_stopped
    assert 3 <= len(lines(work)) <= 4, "those in flight end"
    told = found(work)
    assert set(told.values()) == {"missing", "blocked" if status == 403 else "transient"}
    if status == 429:
        return
    for number in range(6):
        tell(server, f"v{number}")
    assert not download(work, fetching(server, walls=3)).is_stopped
    assert set(found(work).values()) == {"ok"}


def test_what_is_never_explained_is_pending_and_not_asked_for_ever(
    server: Loopback, tmp_path: Path
) -> None:
    work = work_of(tmp_path, ["a", "b"])
    tell(server, "a", Answer(status=400, reason="Video unavailable"))
    tell(server, "b")
    summary = download(work, fetching(server))
    assert found(work) == {"a": "failed", "b": "ok"}
    reason = "Unable to download webpage: HTTP Error 400: Video unavailable"
    assert summary.reasons == (("failed", reason, 1),)
    assert download(work, fetching(server), dry_run=True).expected.videos == 1
    (path,) = work.glob("ledger/*.jsonl")
    said = next(text for text in path.read_text().splitlines() if reason in text)
    path.write_text(f"{path.read_text()}{said}\n{said}\n")
    done = download(work, fetching(server), dry_run=True)
    assert (done.expected.videos, done.given_up) == (0, 1)
    assert "Ask again: --again failed" in done.remarks[0]
    again = download(work, fetching(server), dry_run=True, again=["failed"])
    assert (again.expected.videos, again.given_up) == (1, 0)


@pytest.mark.slow
def test_of_two_proxies_the_one_that_is_walled_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_proxies(monkeypatch)
    work = walled(tmp_path, 12)
    with Loopback() as free, Loopback() as refused:
        for number in range(12):
            url = f"http://videos.invalid/{vid(f'v{number}')}.mp4"
            free.answers[url] = [good()]
            refused.answers[url] = [Answer(status=403)]
        how = fetching(
            free,
            url_template="http://videos.invalid/{id}.mp4",
            proxies=tuple(f"http://127.0.0.1:{one.server_port}" for one in (free, refused)),
            walls=3,
        )
        summary = download(work, how)
    assert not summary.is_stopped
    assert len(refused.seen) == 3
    assert [line["status"] for line in lines(work)[:4]] == ["ok", "blocked"] * 2
    statuses = list(found(work).values())
    assert (statuses.count("ok"), statuses.count("blocked")) == (9, 3)


# --- plugins and configuration of the user

_PLUGIN = """
from pathlib import Path
Path({mark!r}).write_text("a plugin was here")
from yt_dlp.extractor.common import InfoExtractor
class MarkIE(InfoExtractor):
    _VALID_URL = "never"
"""


def test_plugins_and_configuration_of_the_user_are_left_alone(
    server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark, home = tmp_path / "mark", tmp_path / "home"
    plugins = tmp_path / "path" / "yt_dlp_plugins" / "extractor"
    in_home = home / ".config" / "yt-dlp" / "plugins" / "mine" / "yt_dlp_plugins" / "extractor"
    for folder in (plugins, in_home):
        folder.mkdir(parents=True)
        (folder / "mark.py").write_text(_PLUGIN.format(mark=str(mark)))
    (home / ".config" / "yt-dlp" / "config").write_text(f"--exec before_dl:'touch {mark}'\n")
    (home / ".netrc").write_text("machine 127.0.0.1 login me password hush\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("YTDLP_NO_PLUGINS", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path / "path"))
    url = tell(server, "a")
    control = subprocess.run(
        [sys.executable, "-m", "yt_dlp", "--simulate", url],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "path")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert mark.exists(), control.stderr
    mark.unlink()
    work = work_of(tmp_path, ["a"])
    assert download(work, fetching(server)).statuses == {"ok": 1}
    assert not mark.exists()
    assert "Authorization" not in server.seen[-1].headers


# --- which are fetched


def test_a_dry_run_writes_nothing_at_all(server: Loopback, tmp_path: Path) -> None:
    work = work_of(tmp_path, ["a", "b"])
    before = snapshot(tmp_path)
    summary = download(work, fetching(server), dry_run=True)
    assert snapshot(tmp_path) == before and server.seen == []
    expected = summary.expected
    assert (expected.videos, expected.clips, expected.hours) == (2, 2, 4 / 3600)
    assert expected.at_least_bytes > 0 and expected.free_bytes > 0
    assert (expected.estimated_bytes, expected.estimated_hours) == (None, None)
    assert summary.dry_run and summary.videos == 0


@pytest.mark.slow
def test_a_limit_is_of_videos_and_the_next_run_takes_the_next(
    server: Loopback, tmp_path: Path
) -> None:
    work = work_of(tmp_path, ["a", "b", "c"])
    for name in "abc":
        tell(server, name)
    assert download(work, fetching(server), limit=2).statuses == {"ok": 2}
    expected = download(work, fetching(server), dry_run=True).expected
    (first, second) = lines(work)
    assert expected.videos == 1
    assert expected.estimated_bytes == (first["num_bytes"] + second["num_bytes"]) // 2


@pytest.mark.slow
def test_only_the_classes_that_are_named_in_any_spelling(server: Loopback, tmp_path: Path) -> None:
    rows = [("tying tie", "a", 1, 3), ("yoga", "b", 1, 3), ("abseiling", "c", 1, 3)]
    work = manifest_of(tmp_path, *rows)

    def videos(*names: str) -> int:
        return download(work, fetching(server), classes=names, dry_run=True).expected.videos

    assert videos("tying necktie") == videos("Tying Tie") == 1
    assert videos("yoga", "abseiling") == 2
    assert videos("zumba") == 0
    assert videos() == 0
    with pytest.raises(LabelError, match="jogging backwards"):
        videos("yoga", "jogging backwards")


@pytest.mark.slow
def test_parts_fetch_each_video_once(server: Loopback, tmp_path: Path) -> None:
    names = [f"v{number}" for number in range(12)]
    work = work_of(tmp_path, names)
    for name in names:
        tell(server, name)
    for part in (1, 2, 3):
        download(work, fetching(server), part=Part(part, 3))
    assert statuses_of(work) == {vid(name): ["ok"] for name in names}
    assert set(asked(server).values()) == {2}, "one look and one fetch"
    assert sorted(path.name for path in (work / "ledger").iterdir()) == [
        f"00{part}_of_003.jsonl" for part in (1, 2, 3)
    ]
    assert set(found(work).values()) == {"ok"}


# --- others at work


@pytest.mark.slow
def test_what_a_run_found_is_kept_where_another_command_has_the_lock(
    server: Loopback, tmp_path: Path
) -> None:
    work = work_of(tmp_path, ["a"])
    tell(server, "a")
    with locked(work):
        summary = download(work, fetching(server))
    assert summary.statuses == {"ok": 1}
    assert [row.status for row in summary.views] == ["ok"]
    (remark,) = summary.remarks
    assert remark.startswith(f"{work} is in use by process {os.getpid()} on ")
    assert remark.endswith(" sources.parquet is brought up to date by the next command.")
    assert not (work / "sources.parquet").exists()
    refresh(work)
    assert found(work) == {"a": "ok"}


@pytest.mark.slow
def test_a_fetch_that_takes_too_long_is_killed_and_may_pass(
    server: Loopback, tmp_path: Path
) -> None:
    work = work_of(tmp_path, ["a"])
    large = Answer(body=bytes(1 << 20), content_type="video/mp4", stall=1 << 19)
    tell(server, "a", good(), large)
    how = fetching(server, timeout_s=4.0, stall_s=60.0, retries=0)
    assert download(work, how).statuses == {"transient": 1}
    assert [line["detail"] for line in lines(work)] == ["not done after 4 s"]
    assert found(work) == {"a": "transient"}
    assert files_below(work / "downloads") == set()


@pytest.mark.slow
def test_the_template_is_the_whole_address(server: Loopback, tmp_path: Path) -> None:
    work = work_of(tmp_path, ["-a"])
    path = f"/watch?v={vid('-a')}&x=%25(id)s"
    server.tell(path, good())
    how = fetching(server, url_template=template(server, "&x=%25(id)s").replace("/{", "/watch?v={"))
    assert download(work, how).statuses == {"ok": 1}
    assert set(asked(server)) == {path}
