"""A window shows just its pictures, at its times, whatever the file; and damage in it is found."""

import contextlib
import os
import random
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from k710.errors import MediaError
from k710.video.container import open_video
from k710.video.cut import Cut
from k710.video.decoding import decoder_log
from k710.video.streams import constant_rate
from support.damaged_videos import overwritten, packets_of, remux
from support.list_files import shared
from support.made_videos import FORMATS, make_video, number_in, numbers_in
from support.paths import SHARED

NUM_FRAMES = 100  # of the made videos: four seconds


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cut")


@cache
def made(kind: str, folder: Path) -> Path:
    return make_video(folder / f"{kind}.video", range(NUM_FRAMES), format=FORMATS[kind])


@cache
def whole(kind: str, folder: Path) -> list[int]:
    """The numbers of a made video, as they are read when all of it is decoded."""
    numbers = numbers_in(made(kind, folder).read_bytes())
    wrong = sum(number != place for place, number in enumerate(numbers))
    assert len(numbers) == NUM_FRAMES
    assert wrong <= (4 if kind == "av1" else 0), "AV1's encoder smears"
    return numbers


def cut_of(source: Path | bytes, start_s: int, seconds: int, **more: Any) -> tuple[Cut, list[int]]:
    """The cut, and the numbers that its frames show."""
    numbers: list[int] = []
    with decoder_log() as log, open_video(source) as (_, stream):
        cut = Cut(seconds, more.pop("fps", None) or constant_rate(stream), **more)
        for shown in cut.frames(stream, log, from_s=start_s):
            number = number_in(shown.frame.to_ndarray(format="rgb24"))
            numbers += [number] * shown.times
    return cut, numbers


def expected(times: dict[int, Fraction], start_s: int, seconds: int, fps: Fraction) -> list[int]:
    """The law in other words: a frame shows the last picture of those rounded to it or before."""
    slots = {number: (at - start_s) * fps for number, at in times.items()}
    wanted = []
    for slot in range(round(seconds * fps)):
        before = [number for number, at in slots.items() if at < slot + Fraction(1, 2)]
        wanted.append(max(before, default=min(slots)))
    return wanted


@pytest.mark.parametrize("kind", FORMATS)
def test_any_window_shows_its_own_pictures(folder: Path, kind: str) -> None:
    path = made(kind, folder)
    for start_s, end_s in ((0, 1), (0, 4), (1, 2), (1, 4), (2, 3), (3, 4)):
        cut, numbers = cut_of(path, start_s, end_s - start_s)
        assert numbers == whole(kind, folder)[start_s * 25 : end_s * 25], (start_s, end_s)
        assert cut.status() == ("ok", None, True)


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(24000, 1001), Fraction(2160, 77)])
def test_windows_at_whole_seconds_of_a_broken_rate(tmp_path: Path, rate: Fraction) -> None:
    path = make_video(tmp_path / "a.mp4", range(150), rate=rate, format=FORMATS["one group"])
    times = {number: number / rate for number in range(150)}
    for start_s in range(4):
        cut, numbers = cut_of(path, start_s, 1)
        assert cut.fps == rate
        assert numbers == expected(times, start_s, 1, rate)


@pytest.mark.parametrize("form", ["mp4", "matroska"])
@pytest.mark.parametrize("examples", [6, pytest.param(60, marks=pytest.mark.slow)])
def test_pictures_at_any_times(folder: Path, form: str, examples: int) -> None:
    @settings(max_examples=examples)
    @given(seed=st.integers(0, 1 << 30), fps=st.sampled_from([None, Fraction(10), Fraction(60)]))
    def law(seed: int, fps: Fraction | None) -> None:
        at_ms = np.cumsum(np.random.default_rng(seed).integers(5, 120, 60)).tolist()
        path = folder / "any.video"
        format = FORMATS["short groups"].but(container=form)
        make_video(path, range(60), format=format, at_ms=lambda number: at_ms[number] - at_ms[0])
        times = {number: Fraction(at_ms[number] - at_ms[0], 1000) for number in range(60)}
        for start_s in (0, 1):
            cut, numbers = cut_of(path, start_s, 1, fps=fps)
            assert numbers == expected(times, start_s, 1, cut.fps)

    law()


def test_a_gap_is_filled_with_the_picture_before_it(tmp_path: Path) -> None:
    numbers = [*range(30), *range(70, 100)]
    format = FORMATS["short groups"].but(container="matroska")
    path = make_video(tmp_path / "a.mkv", numbers, format=format, at_ms=lambda n: n * 40)
    _, shown = cut_of(path, 1, 2, fps=Fraction(25))
    assert shown == [25, 26, 27, 28, *[29] * 41, *range(70, 75)]


def test_avi_that_counts_pictures_shown_twice(tmp_path: Path) -> None:
    numbers = [number for number in range(100) if number % 4 == 0 or number > 60]
    path = tmp_path / "a.avi"
    make_video(path, numbers, format=FORMATS["plain avi"], at_ms=lambda n: n * 40)
    _, shown = cut_of(path, 1, 2, fps=Fraction(25))
    assert shown == [n // 4 * 4 if n <= 60 else n for n in range(25, 75)]


@pytest.mark.parametrize("form", ["mp4", "matroska"])
def test_a_file_begins_with_its_first_picture_whatever_its_time(
    folder: Path, tmp_path: Path, form: str
) -> None:
    path = tmp_path / "late.video"
    remux(made("short groups", folder), path, shift=7, container=form)
    assert cut_of(path, 0, 1)[1] == list(range(25))
    assert cut_of(path, 2, 1)[1] == list(range(50, 75))


def test_pictures_before_the_beginning_are_cut_off_by_an_edit_list(
    folder: Path, tmp_path: Path
) -> None:
    path = remux(made("one group", folder), tmp_path / "a.mp4", shift=-1)
    assert cut_of(path, 0, 1)[1] == list(range(25, 50))
    assert cut_of(path, 2, 1)[1] == list(range(75, 100))


def test_a_file_without_times_has_the_constant_rate(folder: Path, tmp_path: Path) -> None:
    path = remux(
        *(made("short groups", folder), tmp_path / "a.mkv"),
        shift=-20,
        container="matroska",
        options={"avoid_negative_ts": "disabled"},
    )
    with av.open(str(path)) as container:
        assert next(container.demux(video=0)).pts is None, "or else this would prove nothing"
    assert cut_of(path, 0, 1)[1] == list(range(25))
    assert cut_of(path, 2, 1)[1] == list(range(50, 75))


@pytest.mark.parametrize("form", ["mp4", "matroska"])
@pytest.mark.parametrize("number", [10, 20, 30, 40])
def test_a_stream_copy_from_an_open_group_is_sound(
    folder: Path, tmp_path: Path, form: str, number: int
) -> None:
    source = made("open groups", folder)
    first = [n for n, packet in enumerate(packets_of(source)) if packet[3]][number // 10]
    at = packets_of(source)[first][0]
    path = remux(source, tmp_path / "copy.video", from_packet=first, shift=-at, container=form)
    cut, numbers = cut_of(path, 0, 2)
    assert cut.status() == ("ok", None, True)
    assert numbers == list(range(number, number + 50)), "the pictures before it need others"


def test_files_that_call_every_picture_a_keyframe(folder: Path) -> None:
    data = made("one group", folder).read_bytes().replace(b"stss", b"free")
    assert cut_of(data, 2, 1)[1] == list(range(50, 75))


@pytest.mark.parametrize(
    ("num_frames", "status", "kept"),
    [
        *((300, "ok", True), (285, "ok", True), (284, "truncated", True)),
        *((150, "truncated", True), (149, "truncated", False), (1, "truncated", False)),
        (0, "empty", False),
    ],
)
def test_status_by_length(num_frames: int, status: str, kept: bool) -> None:
    found = Cut(10, Fraction(30), num_frames=num_frames).status()
    assert (found[0], found[2]) == (status, kept)


def test_length_is_of_the_window_in_a_file_that_ends_in_it(folder: Path) -> None:
    path = made("one group", folder)
    assert cut_of(path, 2, 3)[0].status() == ("truncated", "2.0 of 3 s", True)
    assert cut_of(path, 3, 4)[0].status() == ("truncated", "1.0 of 4 s", False)
    assert cut_of(path, 4, 2)[0].status()[0] == "empty"
    assert cut_of(path, 9, 2)[0].status()[0] == "empty"
    assert cut_of(path, 0, 4)[0].at_end


BROKEN = [
    kind
    for kind in FORMATS
    if kind not in ("hevc", "vp8", "vp9", "hidden frames", "one group", "intra")
]


@pytest.mark.parametrize("kind", BROKEN)
def test_damage_is_found_in_its_windows_and_in_no_other(folder: Path, kind: str) -> None:
    data = overwritten(made(kind, folder), 1.6, 2.0)
    assert cut_of(data, 1, 1)[0].status()[0] == "damaged"
    assert cut_of(data, 0, 3)[0].status()[0] == "damaged"
    assert cut_of(data, 0, 1)[1] == whole(kind, folder)[:25], "it comes after the window"
    if kind not in ("mpeg4", "mpeg4 in avi", "h264 in avi"):  # no keyframe at 2.0
        assert cut_of(data, 3, 1)[1] == whole(kind, folder)[75:], "it comes before the keyframe"


@pytest.mark.parametrize("kind", ["mpeg4 in avi", "mpeg4", "h264 in avi"])
def test_damage_long_before_the_window_is_none_of_it(folder: Path, kind: str) -> None:
    data = overwritten(made(kind, folder), 0.2, 0.4)
    cut, numbers = cut_of(data, 2, 1)
    assert cut.status()[0] == "ok"
    assert numbers == list(range(50, 75))


def test_damage_directly_after_the_window_is_none_of_it(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", format=FORMATS["short groups"].but({"bf": "0"}))
    for end_s in (1, 2, 3):
        data = overwritten(path, end_s, end_s + 0.3)
        assert cut_of(data, 0, end_s)[1] == list(range(end_s * 25))


def test_damage_after_the_window_in_what_it_needs_is_damage(folder: Path) -> None:
    path = made("one group", folder)
    at = {at for at, *_ in packets_of(path)}
    order = [at for at, *_ in packets_of(path)]
    ends = [end for end in range(1, 4) if order[sum(a < end for a in at) - 1] > end]
    assert ends, "a picture is needed before it is shown"
    for end_s in ends:
        data = overwritten(path, end_s, end_s + 0.2)
        assert cut_of(data, end_s - 1, 1)[0].status()[0] == "damaged"


def test_damage_is_found_a_second_time(folder: Path) -> None:
    # FFmpeg says the same of the second, and PyAV keeps to itself what it has just said.
    data = overwritten(made("short groups", folder), 1.6, 2.0)
    found = [cut_of(data, 0, 3)[0].status() for _ in range(3)]
    assert found == [found[0]] * 3
    assert found[0][0] == "damaged"


@pytest.mark.parametrize("examples", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_a_hole_in_a_file_is_found(folder: Path, examples: int) -> None:
    @settings(max_examples=examples)
    @given(kind=st.sampled_from(["one group", "open in mkv", "hevc"]), where=st.floats(0, 1))
    def law(kind: str, where: float) -> None:
        path = made(kind, folder)
        large = [packet for packet in packets_of(path) if packet[2] > 200]
        _, place, size, _ = large[int(where * (len(large) - 1))]
        at = place + 30 + int(where * (size - 130))
        data = bytearray(path.read_bytes())
        data[at : at + 64] = bytes(64)
        assert cut_of(bytes(data), 0, 4)[0].status()[0] == "damaged"

    law()


def share_found(path: Path, times: int) -> float:
    """Of single wrong bytes in the pictures of the first two seconds, those that are found."""
    places = [(place, size) for at, place, size, _ in packets_of(path) if size > 60 and at < 2]
    rng = random.Random(0)
    found = 0
    for _ in range(times):
        place, size = rng.choices(places, [size for _, size in places])[0]
        data = bytearray(path.read_bytes())
        data[place + rng.randrange(8, size)] ^= rng.randrange(1, 256)
        found += cut_of(bytes(data), 0, 2)[0].status()[0] == "damaged"
    return found / times


@pytest.mark.parametrize("times", [40, pytest.param(400, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("options", "least"), [("cabac=0", 0.65), ("cabac=1", 0.4)])
def test_wrong_bytes_in_h264_are_mostly_found(
    tmp_path: Path, options: str, least: float, times: int
) -> None:
    # With CABAC anything decodes to something; in a larger picture it soon shows.
    format = FORMATS["short groups"].but({"x264-params": options})
    path = make_video(tmp_path / "a.mp4", range(50), format=format)
    assert share_found(path, times) >= least


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Tw2yXa6CzWE.mp4", "mmaction_test.mp4", "yoga.mp4"])
def test_wrong_bytes_in_real_videos_are_mostly_found(name: str) -> None:
    assert share_found(shared("videos", name), 80) >= 0.8


@settings(max_examples=40)
@given(data=st.data())
def test_no_bytes_whatever_raise_anything_but_media_errors(
    folder: Path, data: st.DataObject
) -> None:
    whole = bytearray(made("short groups", folder).read_bytes())
    for _ in range(data.draw(st.integers(1, 20))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(MediaError):
        cut_of(bytes(whole), 1, 2)


@pytest.mark.parametrize("kind", ["short groups", "open in mkv", "mpeg4 in avi", "vp9"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_file_that_breaks_off_is_damaged_where_it_does(
    folder: Path, kind: str, share: float
) -> None:
    path = made(kind, folder)
    if kind == "short groups":  # its header lies at the end
        options = {"movflags": "faststart"}
        path = remux(path, folder / "faststart.mp4", options=options)
    data = path.read_bytes()
    data = data[: int(len(data) * share)]
    assert cut_of(data, 0, 4)[0].status()[0] == "damaged"
    left_s = sum(place + size <= len(data) for _, place, size, _ in packets_of(path)) // 25
    if left_s >= 2:
        assert cut_of(data, 0, left_s - 1)[0].status()[0] == "ok"


def test_the_log_is_left_as_it_was() -> None:
    before = av.logging.get_level(), av.logging.get_skip_repeated()
    with decoder_log():
        pass
    assert (av.logging.get_level(), av.logging.get_skip_repeated()) == before


def real_videos() -> list[str]:
    folder = SHARED / "videos"
    names = os.listdir(folder) if folder.is_dir() else ["none.mp4"]
    return sorted(n for n in names if n[-4:] in (".mp4", ".mkv", ".avi"))


@pytest.mark.parametrize("window_s", [5, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", real_videos())
def test_real_videos_are_sound_in_every_window_but_the_one_that_is_not(
    name: str, window_s: int
) -> None:
    path = shared("videos", name)
    with open_video(path) as (_, stream):
        seconds = int((stream.duration or 5 / stream.time_base) * stream.time_base)
    found = set()
    for start_s in range(0, seconds + 1, window_s):
        with decoder_log() as log, open_video(path) as (_, stream):
            cut = Cut(window_s, constant_rate(stream))
            for _ in cut.frames(stream, log, from_s=start_s):
                pass
        found.add(cut.status()[0])
    assert ("damaged" in found) == (name == "corrupted.mp4")
