"""One video from a real server by real yt-dlp, in this process: good, bad and hostile answers."""

import gc
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from k710.download.files import downloaded_path
from k710.download.rate_limit import Pace
from k710.download.ytdlp import fetch_video
from support.list_files import vid
from support.loopback import Answer, Loopback
from support.small_site import (
    a_task,
    fetch,
    ffmpeg_on_path,
    files_below,
    good,
    page,
    tell,
    video,
    video_page,
    without_proxies,
)

# yt-dlp leaves files and sockets to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True, scope="module")
def little_garbage() -> Iterator[None]:
    """A worker looks through its garbage after each task; of this process that would be much."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    without_proxies(monkeypatch)
    with Loopback() as server:
        yield server
    gc.collect()


# --- what a server can answer

PAGE = page("<html><title>Sign in</title></html>")
HALF = good(cut=1500)
PLAIN = "Unable to download webpage: HTTP Error"


@pytest.mark.parametrize(
    ("answer", "status", "detail"),
    [
        (good(), "ok", None),
        (Answer(body=video(), content_type="application/octet-stream"), "ok", None),
        (Answer(body=video()), "ok", None),
        (good(slow=(1000, 0.01)), "ok", None),
        (Answer(status=404), "gone", f"{PLAIN} 404: Not Found"),
        (Answer(status=410), "gone", f"{PLAIN} 410: Gone"),
        (Answer(status=403), "blocked!", f"{PLAIN} 403: Forbidden"),
        (Answer(status=429), "transient!", f"{PLAIN} 429: Too Many Requests"),
        (Answer(status=408), "transient", f"{PLAIN} 408: Request Timeout"),
        (Answer(status=500), "transient", f"{PLAIN} 500: Internal Server Error"),
        (Answer(status=503), "transient", f"{PLAIN} 503: Service Unavailable"),
        (Answer(status=0), "transient", "Unable to download webpage: .*RemoteDisconnected.*"),
        (HALF, "transient", "Got error: .* bytes read, .* more expected. Giving up after 2 .*"),
        (good(stall=1500), "transient", "Got error: .*Read timed out.*"),
        (Answer(content_type="video/mp4"), "transient", "Did not get any data blocks"),
        (PAGE, "failed", "Unsupported URL: http://127.0.0.1:.*/ID.mp4"),
        (
            Answer(body=PAGE.body, content_type="video/mp4"),
            "damaged",
            "Invalid data found when processing input: it seems to be a web page, .*",
        ),
        (
            Answer(body=video()[:1500], content_type="video/mp4"),
            "damaged",
            "Invalid data found when processing input: it seems to be an MP4 without its index.*",
        ),
    ],
    ids=lambda value: f"{value.status}-{value.content_type}" if isinstance(value, Answer) else "",
)
def test_every_answer_has_its_status_and_its_true_words(
    server: Loopback, tmp_path: Path, answer: Answer, status: str, detail: str | None
) -> None:
    stall_s = 60.0 if answer.stall is None else 1.0
    fetched = fetch(tmp_path, tell(server, "a", answer), stall_s=stall_s)
    assert fetched.status + "!" * fetched.is_wall == status
    if detail is None:
        assert fetched.detail is None
        (file,) = fetched.files
        assert file.uri == str(downloaded_path(tmp_path / "downloads", vid("a"), ".mp4"))
        assert Path(file.uri).read_bytes() == video()
        assert (file.num_bytes, file.starts_at_s, file.clips) == (len(video()), 0.0, ())
    else:
        assert re.fullmatch(detail, fetched.detail or "")
        assert fetched.files == () and fetched.kind is None
    kept = {str(Path(file.uri).relative_to(tmp_path)) for file in fetched.files}
    assert files_below(tmp_path) - {"pace.json"} == kept, "nothing half-done stays"


def test_a_connection_that_breaks_goes_on_where_it_broke(server: Loopback, tmp_path: Path) -> None:
    body = video(60)
    answer = Answer(body=body, content_type="video/mp4", cut=1 << 14)
    whole = Answer(body=body, content_type="video/mp4")
    url = tell(server, "a", whole, answer, whole)
    fetched = fetch(tmp_path, url)
    assert fetched.status == "ok"
    assert Path(fetched.files[0].uri).read_bytes() == body
    assert len(server.seen) == 3


def test_what_was_had_is_counted_and_held_to_the_pace(server: Loopback, tmp_path: Path) -> None:
    body = video(60)
    url = tell(server, "a", Answer(body=body, content_type="video/mp4"))
    rate = 4.0 * len(body)
    fetched = fetch(tmp_path, url, pace=Pace(str(tmp_path / "pace.json"), 0, rate))
    assert fetched.num_bytes == len(body)
    assert fetched.seconds >= 0.25


# --- names

HOSTILE_IDS = ("-h_________", "--version__", "-----------", "aAaAaAaAaAa", "AaAaAaAaAaA")


def test_any_id_is_a_name_of_its_own(server: Loopback, tmp_path: Path) -> None:
    for number, youtube_id in enumerate(HOSTILE_IDS, start=1):
        url = server.tell(f"/{youtube_id}", good(number))
        fetched = fetch(tmp_path, url, youtube_id)
        assert fetched.status == "ok", fetched.detail
        assert Path(fetched.files[0].uri).name == f"{youtube_id}.mp4"
        assert Path(fetched.files[0].uri).read_bytes() == video(number)
    assert len(files_below(tmp_path / "downloads")) == len(HOSTILE_IDS)


def test_what_is_no_id_never_becomes_a_path(tmp_path: Path) -> None:
    for bad in ("../../../a", "a/b________", "short", "a" * 12, "a.b________", "a\n_________"):
        task = a_task(tmp_path, "http://127.0.0.1:1/", youtube_id=bad)
        with pytest.raises(AssertionError):
            fetch_video(task)
    assert files_below(tmp_path) == set()


def test_a_work_directory_may_be_called_anything(server: Loopback, tmp_path: Path) -> None:
    work = tmp_path / "a $HOME ${PATH} 100%(id)s %d {id} [bold]x[/bold] ~ $5 \n'"
    fetched = fetch(work, tell(server, "a"))
    assert fetched.status == "ok", fetched.detail
    assert Path(fetched.files[0].uri).parent.parent == work / "downloads"


@pytest.mark.parametrize(
    "answer",
    [
        *(
            good(more=(("Content-Disposition", f'attachment; filename="{name}"'),))
            for name in ("../../evil.mp4", "x.mp4/../../evil", "x.sh", "x.%(id)s", "/etc/x.mp4")
        ),
        Answer(body=video(), content_type="video/x-../../evil"),
        Answer(body=video(), content_type="video/mp4", location="x"),
        Answer(status=302, location="/x.sh"),
        Answer(status=302, location="/x.mp4%2f..%2f..%2fevil"),
        Answer(status=302, location="file:///etc/passwd"),
        Answer(status=302, location="ftp://127.0.0.1:1/x.mp4"),
        Answer(status=302, location="/a__________"),
        page("<title>../../../evil</title><video><source src='/real.mp4'></video>"),
        page("<title>a\x1b[31m$(id);`id`</title><video><source src='/real.mp4'></video>"),
    ],
)
def test_no_answer_writes_elsewhere_or_under_another_name(
    server: Loopback, tmp_path: Path, answer: Answer
) -> None:
    for path in ("/x.sh", "/x.mp4%2f..%2f..%2fevil", "/real.mp4"):
        server.tell(path, good())
    (tmp_path / "work").mkdir()
    fetched = fetch(tmp_path / "work", tell(server, "a", answer, ending=""))
    assert fetched.status in ("ok", "failed", "transient"), fetched.detail
    path = downloaded_path(tmp_path / "work" / "downloads", vid("a"), ".mp4")
    expected = {str(path.relative_to(tmp_path))} if fetched.status == "ok" else set()
    assert files_below(tmp_path) - {"work/pace.json"} == expected
    assert "\x1b" not in (fetched.detail or "")


@pytest.mark.parametrize("policy", ["whole", "sections"])
@pytest.mark.parametrize("content_type", ["video/mp4", "application/x-mpegurl"])
def test_no_playlist_reads_a_file_of_this_machine(
    server: Loopback,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    policy: str,
    content_type: str,
) -> None:
    ffmpeg_on_path(tmp_path / "bin", monkeypatch)
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(video())
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nfile://{secret}\n#EXT-X-ENDLIST\n"
    concat = f"ffconcat version 1.0\nfile {secret}\n"
    for number, body in enumerate((playlist, concat)):
        url = tell(server, f"{number}", Answer(body=body.encode(), content_type=content_type))
        fetched = fetch(tmp_path, url, f"{number}", policy=policy)
        assert fetched.status != "ok"
    url = tell(server, "page", video_page(f"file://{secret}"))
    assert fetch(tmp_path, url, "page", policy=policy).status != "ok"
    assert files_below(tmp_path / "downloads") == set()


def test_what_a_server_says_is_made_safe(server: Loopback, tmp_path: Path) -> None:
    reason = "\x1b[31mred [bold]x[/bold] %(id)s {id} \x07"
    url = tell(server, "a", Answer(status=404, reason=reason, body=b"\x1b]0;x\x07"))
    fetched = fetch(tmp_path, url)
    assert fetched.detail == f"{PLAIN} 404: red [bold]x[/bold] %(id)s {{id}} \\x07"


def test_words_of_a_reason_do_not_make_a_wall_less(server: Loopback, tmp_path: Path) -> None:
    url = tell(server, "a", Answer(status=403, reason="video is private"))
    assert fetch(tmp_path, url).is_wall


# --- what is there already


def test_a_whole_video_that_is_there_is_not_asked_for_again(
    server: Loopback, tmp_path: Path
) -> None:
    url = tell(server, "a")
    first = fetch(tmp_path, url)
    num_asked = len(server.seen)
    again = fetch(tmp_path, url)
    assert (again.status, again.detail, again.files) == ("ok", "it was there", first.files)
    assert again.num_bytes == 0
    assert len(server.seen) == num_asked
    tell(server, "a", good(9))
    afresh = fetch(tmp_path, url, afresh=True)
    assert Path(afresh.files[0].uri).read_bytes() == video(9)


def test_what_is_there_and_is_no_video_is_replaced(server: Loopback, tmp_path: Path) -> None:
    path = downloaded_path(tmp_path / "downloads", vid("a"), ".mp4")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no video")
    assert fetch(tmp_path, tell(server, "a")).status == "ok"
    assert path.read_bytes() == video()


# --- cookies and proxies

COOKIES = "# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\tsecret\n"


def test_cookies_are_sent_and_the_file_stays_as_it_is(server: Loopback, tmp_path: Path) -> None:
    path = tmp_path / "cookies.txt"
    path.write_text(COOKIES)
    before = path.stat()
    url = tell(server, "a", good(more=(("Set-Cookie", "session=other"),)))
    assert fetch(tmp_path, url, cookies=str(path)).status == "ok"
    assert server.seen[0].headers["Cookie"] == "session=secret"
    assert path.read_text() == COOKIES
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert "cookies.txt" not in {Path(one).name for one in files_below(tmp_path / "downloads")}


def test_a_proxy_is_asked_for_all_of_it(tmp_path: Path, server: Loopback) -> None:
    url = "http://videos.invalid/a.mp4"
    server.answers[url] = [good()]
    fetched = fetch(tmp_path, url, proxy=f"http://user:pass@127.0.0.1:{server.server_port}")
    assert fetched.status == "ok", fetched.detail
    assert {seen.path for seen in server.seen} == {url}
    assert all("Proxy-Authorization" in seen.headers for seen in server.seen)


def test_the_password_of_a_proxy_is_never_said(tmp_path: Path, server: Loopback) -> None:
    fetched = fetch(tmp_path, "http://videos.invalid/a.mp4", proxy="http://me:hush@127.0.0.1:1")
    assert fetched.status == "transient"
    assert "hush" not in f"{fetched}"
