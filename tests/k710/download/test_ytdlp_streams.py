"""Which stream yt-dlp fetches, and sections of it: with the pictures that the whole has there."""

import dataclasses
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from k710.download.streams import Rates
from k710.shards.clip import EncodedClip
from k710.shards.encode_clip import ClipSettings, stage_clip
from k710.video.cut import Window
from k710.video.encode import Encoding
from k710.video.frames import read_frames
from support.list_files import vid
from support.loopback import Answer, Loopback
from support.made_videos import number_in, numbers_by_time
from support.small_shards import clip_task
from support.small_site import (
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


# --- which stream

HLS = "application/vnd.apple.mpegurl"


def test_the_smallest_stream_that_is_large_enough_is_fetched_and_no_other(
    server: Loopback, tmp_path: Path
) -> None:
    sources = [f'<source src="/{height}.mp4" res="{height}">' for height in (144, 720, 360, 480)]
    for height in (144, 360, 480, 720):
        server.tell(f"/{height}.mp4", good())
    url = tell(server, "a", page(f"<title>t</title><video>{''.join(sources)}</video>"))
    assert fetch(tmp_path, url).status == "ok"
    assert [seen.path for seen in server.seen[1:]] == ["/360.mp4"]


def test_a_transport_stream_becomes_a_video_that_can_be_cut(
    server: Loopback, tmp_path: Path
) -> None:
    lines = ["#EXTM3U"]
    for height in (180, 360):
        size = f"RESOLUTION={height * 16 // 9}x{height}"
        lines += [f"#EXT-X-STREAM-INF:BANDWIDTH={height}000,{size}", f"{height}.m3u8"]
    media = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{}.ts\n#EXT-X-ENDLIST\n"
    for height in (180, 360):
        body = media.format(height).encode()
        server.tell(f"/{height}.m3u8", Answer(body=body, content_type=HLS))
    server.tell("/360.ts", Answer(body=video(format="mpegts"), content_type="video/mp2t"))
    url = tell(server, "a", Answer(body="\n".join(lines).encode(), content_type=HLS))
    fetched = fetch(tmp_path, url)
    assert (fetched.status, fetched.detail) == ("ok", None)
    (file,) = fetched.files
    assert Path(file.uri).suffix == ".mp4"
    frames = numbers_by_time(Path(file.uri))
    assert [number for _, number in frames] == list(range(40))
    assert [number_in(picture) for picture in read_frames(file.uri, [7, 33])] == [7, 33]
    assert fetched.num_bytes == len(video(format="mpegts"))


def test_a_stream_with_a_piece_missing_is_no_shorter_one(server: Loopback, tmp_path: Path) -> None:
    pieces = "".join(f"#EXTINF:4,\n{number}.ts\n" for number in (1, 2, 3))
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n{pieces}#EXT-X-ENDLIST\n"
    for number in (1, 3):
        server.tell(f"/{number}.ts", Answer(body=video(format="mpegts"), content_type="video/mp2t"))
    fetched = fetch(tmp_path, tell(server, "a", Answer(body=playlist.encode(), content_type=HLS)))
    assert (fetched.status, fetched.files) == ("transient", ()), fetched.detail


def test_a_transport_stream_that_is_none_is_damaged(server: Loopback, tmp_path: Path) -> None:
    bad = (b"G" + bytes(187)) * 20
    url = tell(server, "a", Answer(body=bad, content_type="video/mp2t"), ending=".ts")
    assert fetch(tmp_path, url).status == "damaged"


# --- sections


@pytest.fixture
def ffmpeg(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    ffmpeg_on_path(tmp_path_factory.mktemp("bin"), monkeypatch)


def encoded(folder: Path, uri: str, window: tuple[int, int], starts_at_s: float) -> EncodedClip:
    """The window, cut from a file as `k710 shard` does it."""
    folder.mkdir(exist_ok=True)
    settings = ClipSettings(Encoding(short_side=64), str(folder))
    known = {"trimmed": False, "starts_at_s": starts_at_s, "settings": settings}
    return stage_clip(clip_task(Path(uri), Window(*window), folder, **known))


FORMS: Any = [
    ("mp4", 3, 2),
    ("matroska", 3, 2),
    *(
        pytest.param(form, first, b_frames, marks=pytest.mark.slow)
        for form in ("mp4", "matroska")
        for first, b_frames in ((0, 0), (0, 2), (3, 0))
    ),
]


@pytest.mark.usefixtures("ffmpeg")
@pytest.mark.parametrize(("form", "first", "b_frames"), FORMS)
def test_a_window_of_a_section_has_the_pictures_that_it_has_in_the_whole(
    server: Loopback, tmp_path: Path, form: str, first: int, b_frames: int
) -> None:
    body = video(24, format=form, first=first, b_frames=b_frames)
    ending = ".mp4" if form == "mp4" else ".mkv"
    url = tell(server, "a", Answer(body=body, content_type=f"video/{ending[1:]}"), ending=ending)
    clips = (("one", 5, 8), ("two", 15, 18))
    fetched = fetch(tmp_path, url, policy="sections", clips=clips)
    assert (fetched.status, fetched.kind) == ("ok", "sections")
    assert [file.clips for file in fetched.files] == [("one",), ("two",)]
    assert fetched.num_bytes == sum(file.num_bytes for file in fetched.files)
    whole = tmp_path / f"whole{ending}"
    whole.write_bytes(body)
    for file, (clip_id, start, end) in zip(fetched.files, clips, strict=True):
        assert file.num_bytes < len(body) / 2
        name = f"{vid('a')}.{start - 1}-{end + 1}{ending}"
        assert Path(file.uri).name == name
        for shown_at, number in numbers_by_time(Path(file.uri))[:1]:
            assert (round(shown_at, 6), number) == (file.starts_at_s, round(10 * file.starts_at_s))
        cut = encoded(tmp_path / clip_id, file.uri, (start, end), file.starts_at_s)
        assert (cut.seen.status, cut.seen.detail) == ("ok", None)
        of_whole = encoded(tmp_path / f"{clip_id}w", str(whole), (start, end), 0.0)
        found = numbers_by_time(tmp_path / clip_id / "clip.mp4")
        assert found == numbers_by_time(tmp_path / f"{clip_id}w" / "clip.mp4")
        assert [number for _, number in found] == list(range(10 * start, 10 * end))
        assert cut.stored is not None and of_whole.stored is not None
        assert cut.stored.num_frames == of_whole.stored.num_frames


@pytest.mark.usefixtures("ffmpeg")
def test_windows_that_meet_are_one_section(server: Loopback, tmp_path: Path) -> None:
    url = tell(server, "a", good(24))
    clips = (("late", 8, 10), ("soon", 5, 7), ("far", 18, 20))
    fetched = fetch(tmp_path, url, policy="sections", clips=clips)
    assert [file.clips for file in fetched.files] == [("soon", "late"), ("far",)]


@pytest.mark.usefixtures("ffmpeg")
def test_a_window_behind_the_end_is_left_out(server: Loopback, tmp_path: Path) -> None:
    server.tell("/real.mp4", good(24))
    url = tell(server, "a", video_page(f"http://127.0.0.1:{server.server_port}/real.mp4"))
    clips = (("there", 5, 8), ("behind", 40, 43))
    fetched = fetch(tmp_path, url, policy="sections", clips=clips)
    assert (fetched.status, fetched.detail) == ("ok", "the video ends after 24 s")
    assert [file.clips for file in fetched.files] == [("there",)]
    fetched = fetch(tmp_path, url, policy="sections", clips=clips[1:])
    assert (fetched.status, fetched.files) == ("ok", ())


@pytest.mark.usefixtures("ffmpeg")
def test_a_window_behind_an_end_that_is_not_known_is_empty_when_it_is_cut(
    server: Loopback, tmp_path: Path
) -> None:
    clips = (("there", 5, 8), ("behind", 40, 43))
    fetched = fetch(tmp_path, tell(server, "a", good(24)), policy="sections", clips=clips)
    assert fetched.status == "ok"
    by_clip = {file.clips[0]: file for file in fetched.files}
    assert encoded(tmp_path / "x", by_clip["there"].uri, (5, 8), 4.0).seen.status == "ok"
    behind = by_clip["behind"]
    assert encoded(tmp_path / "y", behind.uri, (40, 43), behind.starts_at_s).seen.status == "empty"


@pytest.mark.usefixtures("ffmpeg")
@pytest.mark.parametrize(
    ("section_bytes_per_s", "kind"), [(900_000.0, "sections"), (100_000.0, "whole")]
)
def test_auto_takes_what_should_be_there_first(
    server: Loopback, tmp_path: Path, section_bytes_per_s: float, kind: str
) -> None:
    server.tell("/real.mp4", good(24))
    real = f"http://127.0.0.1:{server.server_port}/real.mp4"
    url = tell(server, "a", video_page(real, contentSize="300000000"))
    rates = Rates(1_000_000.0, section_bytes_per_s)
    assert fetch(tmp_path, url, policy="auto", rates=rates).kind == kind


def test_auto_without_ffmpeg_takes_the_whole(
    server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    server.tell("/real.mp4", good(24))
    real = f"http://127.0.0.1:{server.server_port}/real.mp4"
    url = tell(server, "a", video_page(real, contentSize="300000000"))
    assert fetch(tmp_path, url, policy="auto", rates=Rates(1.0, 1e9)).kind == "whole"


@pytest.mark.usefixtures("ffmpeg")
def test_what_a_site_says_to_ffmpeg_is_known(server: Loopback, tmp_path: Path) -> None:
    url = tell(server, "a", good(24), Answer(status=403))
    fetched = fetch(tmp_path, url, policy="sections")
    assert (fetched.status, fetched.is_wall) == ("blocked", True)
    assert fetched.detail == "HTTP Error 403: Forbidden"


# To ffmpeg a connection that breaks is the end of the video, unless it is told otherwise.
@pytest.mark.usefixtures("ffmpeg")
@pytest.mark.parametrize("form", ["mp4", "matroska"])
@pytest.mark.parametrize("how", [{"cut": 7000}, {"cut": 9000}, {"stall": 7000}], ids=str)
def test_a_section_that_breaks_off_is_no_shorter_one(
    server: Loopback, tmp_path: Path, form: str, how: dict[str, int]
) -> None:
    body = video(24, format=form)
    ending = ".mp4" if form == "mp4" else ".mkv"
    whole = Answer(body=body, content_type=f"video/{ending[1:]}")
    url = tell(server, "a", whole, dataclasses.replace(whole, **how), ending=ending)
    clips = (("clip", 15, 18),)
    fetched = fetch(tmp_path, url, policy="sections", clips=clips, stall_s=0.5)
    if fetched.status == "ok":  # it has asked for the rest
        numbers = [number for _, number in numbers_by_time(Path(fetched.files[0].uri))]
        assert set(range(150, 180)) <= set(numbers)
    else:
        assert fetched.status == "transient"
        assert files_below(tmp_path / "downloads") == set()


@pytest.mark.usefixtures("ffmpeg")
def test_a_section_that_is_there_is_not_asked_for_again(server: Loopback, tmp_path: Path) -> None:
    clips = (("one", 5, 8), ("two", 15, 18))
    url = tell(server, "a", good(24))
    first = fetch(tmp_path, url, policy="sections", clips=clips)
    num_asked = len(server.seen)
    again = fetch(tmp_path, url, policy="sections", clips=clips)
    assert (again.status, again.detail, again.files) == ("ok", "it was there", first.files)
    assert len(server.seen) == num_asked
    Path(first.files[1].uri).unlink()
    again = fetch(tmp_path, url, policy="sections", clips=clips)
    assert (again.detail, again.files) == (None, first.files)
