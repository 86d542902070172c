"""Where a window lies in a file: by its pictures, whatever header, sound and name say."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from k710.video.container import open_video
from k710.video.cut import Window
from k710.video.decoding import decoder_log
from k710.video.placing import Placed, is_window, place_window
from support.damaged_videos import remux
from support.made_videos import Format, make_video
from support.odd_videos import COPY, SECONDS, SIZE, ffmpeg, make_odd, picture

MPEG4 = Format(codec="mpeg4", gop=25)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("placing")
    (folder / "base").mkdir()
    return folder


def placed(path: Path, start_s: int, end_s: int, trimmed: bool | None, **known: Any) -> Placed:
    with decoder_log() as log, open_video(path) as (_, stream):
        return place_window(stream, log, Window(start_s, end_s), trimmed=trimmed, **known)


def pictures(
    path: Path, numbers: int, at_ms: Callable[[int], int] | None = None, format: Format = MPEG4
) -> Path:
    """A video of so many pictures, 25 a second or at those times."""
    return make_video(path, range(numbers), format=format, at_ms=at_ms, size=SIZE, draw=picture)


# Trimmed or whole


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(9.5, True), (9.49, False), (10.5, True), (10.51, False), (10, True), (300, False)],
)
def test_trimmed_is_within_half_a_second_of_the_window(seconds: float, expected: bool) -> None:
    assert is_window(seconds, Window(30, 40)) == expected


@pytest.mark.parametrize(
    "name",
    [
        *("longer_sound.mp4", "longer_sound.mkv", "live.webm", "fragmented.mp4", "own_times.mkv"),
        *("piped.mp4", "piped.mkv", "piped.flv", "piped.ts", "loud.avi", "moving.gif"),
    ],
)
def test_the_length_of_the_pictures_decides_what_a_file_is(folder: Path, name: str) -> None:
    path = make_odd(name, folder)
    for seconds, trimmed in ((SECONDS, True), (SECONDS - 1, False), (SECONDS + 1, False)):
        found = placed(path, 100, 100 + seconds, None)
        assert found.trimmed == trimmed
        assert not found.trimmed or found.pictures_s == pytest.approx(SECONDS, abs=0.05)


@pytest.mark.parametrize(("num_frames", "fits"), [(62, True), (63, False)])
def test_what_is_named_after_its_window_may_be_half_a_second_longer(
    tmp_path: Path, num_frames: int, fits: bool
) -> None:
    path = pictures(tmp_path / "a.mp4", num_frames)
    found = placed(path, 7, 9, True)
    assert (found.mismatch is None) == fits and found.trimmed
    assert placed(path, 7, 30, True).mismatch is None, "one that is shorter is another matter"
    if not fits:
        assert found.mismatch == (
            "its pictures last 2.5 s, and the window that it is named after 2 s; "
            "name it ID.mp4 if it is the whole video"
        )


def test_a_file_that_breaks_off_is_as_long_as_its_header_says(folder: Path) -> None:
    path = make_odd("breaks_off.mp4", folder)  # within the third second
    assert placed(path, 0, 3, None).trimmed and not placed(path, 0, 2, None).trimmed


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
def test_a_section_that_keeps_its_times_says_where_the_window_is(
    folder: Path, tmp_path: Path, ending: str
) -> None:
    path = remux(make_odd("plain.mp4", folder), tmp_path / f"a.{ending}", shift=7)
    found = placed(path, 8, 9, True)
    if ending == "ts":  # whose clock may be any
        assert found.mismatch is not None
        return
    assert (found.trimmed, found.starts_at_s, found.mismatch) == (False, 7, None)
    assert found.begins_s == 1
    for start_s, end_s in ((5, 6), (9, 11), (10, 11), (30, 31)):  # it ends at 10
        assert placed(path, start_s, end_s, True).mismatch is not None
    early = remux(make_odd("plain.mp4", folder), tmp_path / f"b.{ending}", shift=Fraction(7, 5))
    assert placed(early, 2, 3, True).mismatch is not None, "as what was a transport stream"


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_the_start_of_the_file_tells_whether_its_times_are_its_own(
    folder: Path, tmp_path: Path, ending: str
) -> None:
    plain, loud = make_odd("plain.mp4", folder), make_odd("longer_sound.mp4", folder)

    def shifted(sound_s: float, pictures_s: float) -> Placed:
        path = tmp_path / f"a.{ending}"
        inputs = ("-itsoffset", sound_s, "-i", loud, "-itsoffset", pictures_s, "-i", plain)
        ffmpeg(*inputs, "-map", "0:a", "-map", "1:v", *COPY, path)
        return placed(path, 6, 7, True)

    whole = shifted(0, 4.5)  # whose pictures come late
    assert whole.mismatch is not None and whole.starts_at_s is None
    section = shifted(4, 4.5)
    assert (section.starts_at_s, section.begins_s, section.mismatch) == (4.5, 1.5, None)


# Zero


LATE = ("late_pictures.mp4", "late_pictures.mkv", "late_pictures.ts", "late_pictures.flv")


@pytest.mark.parametrize("name", LATE)
def test_pictures_that_begin_after_the_sound_are_shown_then(folder: Path, name: str) -> None:
    path = make_odd(name, folder)
    assert placed(path, 2, 3, False).begins_s == 1
    assert placed(path, 0, 2, False).begins_s == -1
    assert placed(path, 7, 10, True).begins_s == -1
    cut_right = placed(path, 100, 100 + SECONDS + 1, None)  # to the window, and its pictures late
    assert (cut_right.trimmed, cut_right.begins_s) == (True, -1)
    assert placed(path, 2, 3, False, starts_at_s=0.0).begins_s == 1, "a whole video as well"
    assert placed(path, 9, 10, False, starts_at_s=7.5).begins_s == 1.5, "of the first picture"


@pytest.mark.parametrize("name", ["loud.flv", "own_times.mp4"])
def test_sound_that_begins_less_than_a_frame_before_shifts_nothing(folder: Path, name: str) -> None:
    path = make_odd(name, folder)
    with open_video(path) as (container, stream):
        assert stream.start_time is not None and stream.time_base is not None
        lead_s = stream.start_time * stream.time_base - Fraction(container.start_time, 1_000_000)
    assert 0.02 < lead_s < 0.03, "or else this would prove nothing"
    assert placed(path, 1, 2, False).begins_s == 1


def test_a_trimmed_file_begins_with_its_first_picture_within_half_a_second(folder: Path) -> None:
    # Two frames late: B-frames, and no edit list.
    assert placed(make_odd("fragmented.mp4", folder), 0, SECONDS, None).begins_s == 0
    assert placed(make_odd("fragmented.mp4", folder), 1, 2, False).begins_s == 1 - Fraction(2, 25)


# The rate


def rates(path: Path, *windows: tuple[int, int]) -> list[Fraction]:
    return [placed(path, start_s, end_s, False).fps for start_s, end_s in windows]


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts", "flv", "avi"])
def test_a_hole_is_none_of_the_rates_business(tmp_path: Path, ending: str) -> None:
    source = pictures(
        tmp_path / "source.mp4",
        75,
        lambda number: number * 40 + (20_000 if number >= 25 else 0),
        Format(options={"preset": "ultrafast"}, gop=25),
    )
    path = tmp_path / f"a.{ending}"
    ffmpeg("-i", source, *COPY, path)
    assert rates(path, (0, 1), (0, 3), (20, 23), (21, 23), (22, 23)) == [25] * 5


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_each_half_of_a_video_has_its_own_rate(tmp_path: Path, ending: str) -> None:
    format = Format({"mp4": "mp4", "mkv": "matroska"}[ending], "mpeg4")
    ntsc = Fraction(30_000, 1001)

    def at_ms(number: int) -> int:
        return number * 100 if number < 20 else 2000 + round((number - 20) / ntsc * 1000)

    path = pictures(tmp_path / f"a.{ending}", 80, at_ms, format)
    assert rates(path, (0, 2), (2, 4)) == [10, ntsc]


def test_a_rate_near_the_containers_is_the_containers(tmp_path: Path) -> None:
    def at_ms(number: int) -> int:
        return number * 40 + number % 3 * 5 + (number > 40) * 40

    path = pictures(tmp_path / "a.mp4", 75, at_ms)
    with open_video(path) as (_, stream):
        rate = stream.average_rate
    assert rates(path, (0, 1), (0, 2), (1, 3)) == [rate] * 3


def test_a_short_hole_slows_no_clip_in_it_or_elsewhere(tmp_path: Path) -> None:
    def at_ms(number: int) -> int:
        return number * 40 + (number >= 80) * 340

    path = pictures(tmp_path / "a.mp4", 125, at_ms)
    with open_video(path) as (_, stream):
        assert stream.average_rate is not None
        assert 22.5 < stream.average_rate < 24, "or else this would prove nothing"
    assert rates(path, (0, 2), (3, 4), (2, 5)) == [25] * 3


def test_idle_times_are_no_holes(tmp_path: Path) -> None:
    def at_ms(number: int) -> int:
        return number * 20 if number < 50 else 1000 + (number - 50) * 200

    path = pictures(tmp_path / "a.mp4", 60, at_ms)
    assert [round(rate) for rate in rates(path, (0, 1), (0, 3), (1, 3))] == [50, 21, 5]


def test_pictures_at_once_make_no_rate(tmp_path: Path) -> None:
    def at_ms(number: int) -> int:
        return number * 100 if number < 10 else 1000 + number + (number >= 60) * 1000

    path = pictures(tmp_path / "a.mp4", 70, at_ms)
    with open_video(path) as (_, stream):
        rate = stream.average_rate
    assert rate is not None and rate < 240
    assert rates(path, (0, 1), (1, 2)) == [10, rate]


def test_slides_have_the_rate_of_the_container(tmp_path: Path) -> None:
    path = pictures(tmp_path / "a.mp4", 4, lambda number: number * 3000)
    with open_video(path) as (_, stream):
        rate = stream.average_rate
    assert rates(path, (0, 10), (4, 5)) == [rate] * 2
