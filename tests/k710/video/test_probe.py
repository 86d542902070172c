"""What a copy is: its facts, whether it is the window alone, and whether it is sound."""

import contextlib
import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from k710.errors import MediaError
from k710.video.byte_range import ByteRange
from k710.video.cut import Window
from k710.video.placing import is_window
from k710.video.probe import Facts, Probed, probe_clip
from support.cut_clips import cut_and_encode
from support.damaged_videos import overwritten, packets_of, remux
from support.list_files import shared
from support.loopback import Answer, Loopback
from support.made_videos import FORMATS, make_loud_video, make_video, numbered


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds in groups of ten pictures."""
    return make_video(tmp_path_factory.mktemp("probe") / "a.mp4")


def probed(path: Path, start_s: int, end_s: int, trimmed: bool | None = True) -> Probed:
    return probe_clip(ByteRange(str(path)), Window(start_s, end_s), trimmed=trimmed)


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


# What it is


def test_a_sound_copy_of_the_window(video: Path) -> None:
    found = probed(video, 10, 14)
    digest = hashlib.sha256(video.read_bytes()).hexdigest()
    facts = Facts(160, 96, 25.0, 100, 4.0, "h264")
    assert found == Probed("ok", None, True, facts, digest)


@pytest.mark.parametrize(
    ("seconds", "status", "detail"),
    [
        *((4, "ok", None), (8, "truncated", "4.0 of 8 s"), (20, "truncated", "4.0 of 20 s")),
        (
            3,
            "mismatched",
            "its pictures last 4.0 s, and the window that it is named after 3 s; "
            "name it ID.mp4 if it is the whole video",
        ),
    ],
)
def test_a_trimmed_copy_by_its_length(
    video: Path, seconds: int, status: str, detail: str | None
) -> None:
    found = probed(video, 10, 10 + seconds)
    assert (found.status, found.detail, found.trimmed) == (status, detail, True)


@pytest.mark.parametrize(
    ("window", "status", "detail"),
    [
        *(((0, 4), "ok", None), ((1, 3), "ok", None)),
        *(((2, 6), "truncated", "2.0 of 4 s"), ((4, 8), "empty", "the video ends at 4.0 s")),
    ],
)
def test_a_whole_video_by_where_it_ends(
    video: Path, window: tuple[int, int], status: str, detail: str | None
) -> None:
    found = probed(video, *window, trimmed=False)
    assert (found.status, found.detail, found.trimmed) == (status, detail, False)
    assert found.facts == Facts(160, 96, 25.0, 100, 4.0, "h264")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(9.5, True), (9.49, False), (10.5, True), (10.51, False), (10, True), (300, False)],
)
def test_trimmed_is_within_half_a_second_of_the_window(seconds: float, expected: bool) -> None:
    assert is_window(seconds, Window(30, 40)) == expected


@pytest.mark.parametrize(
    ("seconds", "trimmed"), [(4, True), (3, False), (5, False)], ids=["equal", "longer", "shorter"]
)
def test_a_copy_of_which_nobody_knows(video: Path, seconds: int, trimmed: bool) -> None:
    assert probed(video, 0, seconds, None).trimmed == trimmed


def test_a_matroska_file_and_an_avi_tell_as_much(tmp_path: Path) -> None:
    mkv = probed(make_video(tmp_path / "a.mkv", format=FORMATS["open in mkv"]), 0, 4, None)
    avi = probed(make_video(tmp_path / "a.avi", format=FORMATS["mpeg4 in avi"]), 0, 4, None)
    assert (mkv.status, mkv.trimmed, mkv.facts) == ("ok", True, Facts(160, 96, 25, 100, 4, "h264"))
    assert (avi.status, avi.trimmed, avi.facts) == ("ok", True, Facts(160, 96, 25, 100, 4, "mpeg4"))


# Whether it is sound


def test_damage_in_a_trimmed_copy(video: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "a.mp4", overwritten(video, 1.6, 2.0))
    assert probed(path, 10, 14).status == "damaged"
    assert probed(path, 10, 14).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert probed(path, 0, 4, trimmed=False).status == "ok", "a whole video is counted only"


def test_damage_after_the_window_harms_nothing_but_the_count(video: Path, tmp_path: Path) -> None:
    video = make_video(tmp_path / "b.mp4", range(110))
    path = written(tmp_path / "a.mp4", overwritten(video, 4.2, 4.4))
    found = probed(path, 10, 14)
    assert (found.status, found.facts.num_frames) == ("ok", None)
    assert probed(video, 10, 14).facts.num_frames == 110


def test_a_whole_video_that_breaks_off_after_the_window(video: Path, tmp_path: Path) -> None:
    front = remux(video, tmp_path / "b.mp4", options={"movflags": "faststart"})
    place = next(place for at, place, *_ in packets_of(front) if at >= 3)
    path = written(tmp_path / "a.mp4", front.read_bytes()[: place + 20])
    assert probed(path, 0, 2, trimmed=False).status == "ok"
    assert probed(path, 2, 4, trimmed=False).status in ("damaged", "truncated")
    assert probed(path, 10, 14).status == "damaged"


def test_what_is_no_video(tmp_path: Path) -> None:
    nothing = probed(written(tmp_path / "a.mp4", b""), 0, 4)
    assert (nothing.status, nothing.detail) == ("empty", "the file has no bytes in it")
    text = probed(written(tmp_path / "b.mp4", b"no video at all\n" * 99), 0, 4)
    assert (text.status, text.detail) == (
        "damaged",
        "Invalid data found when processing input: it seems to be text, beginning with "
        "'no video at all'",
    )
    missing = probed(tmp_path / "c.mp4", 0, 4)
    assert (missing.status, missing.sha256) == ("missing", None)
    folder = probed(tmp_path, 0, 4)
    assert folder.status == "missing"


def test_a_file_of_sound_alone(video: Path, tmp_path: Path) -> None:
    loud = make_loud_video(tmp_path / "a.mp4", "aac", "stereo")
    path = tmp_path / "b.mp4"
    with av.open(str(loud)) as reading, av.open(str(path), "w") as writing:
        sound = writing.add_stream_from_template(reading.streams.audio[0])
        for packet in reading.demux(audio=0):
            if packet.dts is not None:
                packet.stream = sound
                writing.mux(packet)
    found = probed(path, 0, 4)
    assert (found.status, found.detail) == ("damaged", "there is no video in it")


def test_still_pictures(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.png"), "w", format="image2") as container:
        stream: Any = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered(1), format="rgb24")))
        container.mux(stream.encode(None))
    assert probed((tmp_path / "a.png").rename(tmp_path / "a.mp4"), 0, 4).status == "damaged"
    one = make_video(tmp_path / "b.mp4", [7])
    found = probed(one, 0, 4)
    assert (found.status, found.detail) == ("truncated", "0.0 of 4 s")


def test_sound_is_none_of_its_business(tmp_path: Path) -> None:
    path = make_loud_video(tmp_path / "a.mp4", "aac", "stereo", seconds=9)
    assert probed(path, 10, 14, None).trimmed
    assert probed(path, 10, 14, None).status == "ok"
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(audio=0) if packet.size]
    data = bytearray(path.read_bytes())
    for place, size in places:
        data[place : place + size] = np.random.default_rng(0).bytes(size)
    assert probed(written(path, bytes(data)), 10, 14).status == "ok"


# What it must not do


def test_a_playlist_called_mp4_opens_no_other_file(video: Path, tmp_path: Path) -> None:
    playlist = tmp_path / "clip.mp4"
    playlist.write_text(f"ffconcat version 1.0\nfile '{video}'\n")
    with av.open(str(playlist), options={"safe": "0"}) as container:
        assert container.streams.video, "or else this would prove nothing"
    assert probed(playlist, 0, 4).status == "damaged"
    for trimmed in (False, None):
        assert probed(playlist, 0, 4, trimmed).status == "damaged"
    with pytest.raises(MediaError, match=r"clip\.mp4 can't be decoded"):
        cut_and_encode(playlist, 0, 1)


def test_a_playlist_called_mp4_asks_no_server(video: Path, tmp_path: Path) -> None:
    playlist = tmp_path / "clip.mp4"
    with Loopback() as server:
        url = server.tell("/part.ts", Answer(body=video.read_bytes()))
        playlist.write_text(
            f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{url}\n#EXT-X-ENDLIST\n"
        )
        trusting = {"protocol_whitelist": "file,http,tcp", "allowed_extensions": "ALL"}
        with contextlib.suppress(av.error.FFmpegError):
            av.open(str(playlist), format="hls", options=trusting).close()
        asked = len(server.seen)
        assert asked, "or else this would prove nothing"
        assert probed(playlist, 0, 4).status == "damaged"
        with pytest.raises(MediaError, match=r"clip\.mp4 can't be decoded"):
            cut_and_encode(playlist, 0, 1)
        assert len(server.seen) == asked


@pytest.mark.parametrize(
    "name", ["-x.mp4", "concat:a|b.mp4", "a%d.mp4", "x\x1b[31m.mp4", "ü ß.mp4"]
)
def test_names_are_only_names(video: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(video.read_bytes())
    assert probed(path, 10, 14).status == "ok"
    path.write_bytes(b"no video")
    assert (probed(path, 10, 14).detail or "").isprintable()


def test_probing_leaves_nothing_open(video: Path) -> None:
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc")
    before = os.listdir("/proc/self/fd")
    for number in range(60):
        probed(video, 0, 3 + number % 4, (True, False, None)[number % 3])
    assert len(os.listdir("/proc/self/fd")) == len(before)


# Real files: width, height, fps, frames, seconds, codec, as ffprobe -count_frames has them


REAL = {
    "Tw2yXa6CzWE.mp4": Facts(426, 320, 30, 300, 10, "h264"),
    "arm_wrestling_demo.mp4": Facts(340, 256, 28, 280, 10, "h264"),
    "av1_video.mkv": Facts(640, 360, 25, 125, 5, "av1"),
    "bt709_full_range.mp4": Facts(1280, 720, 30, 30, 1, "h264"),
    "demo_skeleton.mp4": Facts(1920, 1080, 2160 / 77, 72, 2.566667, "h264"),
    "eEG7ZOQG6LM.00.mp4": Facts(224, 224, 29.97, 276, 9.209209, "mpeg4"),
    "flipping_a_pancake.mkv": Facts(426, 240, 30, 310, 10.346, "h264"),
    "h265_10bits.mp4": Facts(200, 200, 30, 30, 1, "hevc"),
    "h265_video.mp4": Facts(128, 128, 10, 10, 1, "hevc"),
    "hitting_baseball.mp4": Facts(426, 320, 30, 300, 10, "h264"),
    "internvid_example1.mp4": Facts(640, 480, 5, 40, 8, "mpeg4"),
    "jesse_dance.mp4": Facts(1280, 720, 24, 235, 9.791667, "h264"),
    "making_cake.mp4": Facts(320, 426, 30, 300, 10, "h264"),
    "mmaction_test.avi": Facts(320, 240, 25, 164, 6.56, "mpeg4"),
    "mmaction_test.mp4": Facts(340, 256, 30, 300, 10, "h264"),
    "nasa_13013.mp4": Facts(480, 270, 30000 / 1001, 390, 13.013, "h264"),  # of two tracks
    "paddle_example.avi": Facts(320, 240, 25, 131, 5.24, "mpeg4"),
    "playing_guitar.mp4": Facts(470, 320, 30, 300, 10, "h264"),
    "yoga.mp4": Facts(568, 320, 30, 300, 10, "h264"),
}


@pytest.mark.parametrize("name", REAL)
def test_facts_of_real_videos(name: str) -> None:
    path, facts = shared("videos", name), REAL[name]
    assert facts.duration_s is not None
    window = Window(0, round(facts.duration_s) or 1)
    for trimmed in (True, False):
        found = probe_clip(ByteRange(str(path)), window, trimmed=trimmed)
        assert found.status == "ok"
        ours, theirs = found.facts, facts
        assert (ours.width, ours.height, ours.codec) == (theirs.width, theirs.height, theirs.codec)
        assert ours.num_frames == theirs.num_frames
        assert ours.fps == pytest.approx(theirs.fps, abs=1e-6)
        assert ours.duration_s == pytest.approx(theirs.duration_s, abs=0.05)
    assert is_window(found.facts.duration_s or 0, window)


def test_the_real_video_that_is_damaged() -> None:
    path = shared("videos", "corrupted.mp4")
    assert probed(path, 0, 5).status == "damaged"
    assert probed(path, 0, 5, trimmed=False).status == "ok"


SOUND = Facts(320, 240, 25.0, 250, 10.0, "h264")


@pytest.mark.parametrize(
    ("status", "seconds", "kept"),
    [
        ("ok", None, True),
        ("ok", 1.0, True),  # the header is wrong: all frames of the window came out
        ("truncated", 5.0, True),
        ("truncated", 4.9, False),
        ("truncated", None, False),
        ("damaged", 10.0, False),
        ("empty", 10.0, False),
    ],
)
def test_a_clip_is_kept_with_half_of_its_window(
    status: str, seconds: float | None, kept: bool
) -> None:
    found = Probed(status, None, True, replace(SOUND, duration_s=seconds))
    assert found.is_kept(Window(20, 30)) == kept


@pytest.mark.parametrize(
    ("trimmed", "change", "copied"),
    [
        (True, {}, True),
        (True, {"duration_s": 10.5}, True),
        (True, {"duration_s": 10.6}, False),
        (True, {"duration_s": None}, False),
        (True, {"num_frames": None}, False),
        (True, {"fps": None}, False),
        (False, {}, False),
        (None, {}, False),
    ],
)
def test_only_a_file_that_is_the_window_can_be_copied(
    trimmed: bool | None, change: dict[str, Any], copied: bool
) -> None:
    found = Probed("ok", None, trimmed, replace(SOUND, **change))
    assert found.can_be_copied(Window(20, 30)) == copied
