"""Which stream is taken, and when sections are: laws over hand-made lists of streams."""

import itertools
from typing import Any

import pytest
from hypothesis import given, strategies as st

from k710.download.streams import Rates, best_streams, prefers_sections, spans

STORYBOARD = {"format_id": "sb0", "ext": "mhtml", "vcodec": "none", "acodec": "none", "height": 90}
SOUND = {"format_id": "140", "ext": "m4a", "vcodec": "none", "acodec": "mp4a.40.2", "abr": 129}


def pictures(height: int | None, **more: Any) -> dict[str, Any]:
    width = None if height is None else height * 16 // 9
    made = {"format_id": f"v{height}", "ext": "mp4", "vcodec": "avc1.4d401e", "acodec": "none"}
    return {**made, "height": height, "width": width, "protocol": "https", **more}


def chosen(*formats: dict[str, Any], short_side: int = 320, audio: bool = False) -> str:
    best = best_streams(formats, short_side=short_side, audio=audio)
    return "+".join(str(one["format_id"]) for one in best)


HEIGHTS = st.lists(st.integers(90, 2160), min_size=1, max_size=8)
ANY = st.lists(
    st.builds(
        pictures,
        st.none() | st.integers(90, 2160),
        vcodec=st.sampled_from(["avc1.64", "vp9", "av01.0", "none", None, "theora"]),
        acodec=st.sampled_from(["mp4a", "opus", "none", None]),
        ext=st.sampled_from(["mp4", "webm", "mhtml"]),
        has_drm=st.sampled_from([None, False, True]),
        filesize=st.none() | st.integers(1, 10**9),
        tbr=st.none() | st.floats(1, 5000),
    ),
    max_size=6,
)


@given(HEIGHTS, st.integers(64, 2500))
def test_the_smallest_that_is_large_enough_else_the_largest(
    heights: list[int], short_side: int
) -> None:
    (best,) = best_streams(
        [pictures(height) for height in heights], short_side=short_side, audio=False
    )
    enough = [height for height in heights if height >= short_side]
    assert best["height"] == (min(enough) if enough else max(heights))


@given(ANY, st.booleans(), st.randoms())
def test_whatever_is_taken_has_pictures_and_can_be_had_in_any_order_of_the_list(
    formats: list[dict[str, Any]], audio: bool, random: Any
) -> None:
    named = [{**one, "format_id": str(place)} for place, one in enumerate(formats)]
    taken = best_streams(named, short_side=320, audio=audio)
    usable = [
        one
        for one in named
        if one["vcodec"] != "none" and one["ext"] != "mhtml" and not one["has_drm"]
    ]
    assert bool(taken) == bool(usable)
    assert all(one in usable for one in taken[:1])
    random.shuffle(named)
    assert best_streams(named, short_side=320, audio=audio) == taken


def test_the_short_side_counts_not_the_height() -> None:
    upright = {"format_id": "upright", "width": 360, "height": 640}
    lying = {"format_id": "lying", "width": 640, "height": 360}
    small = {"format_id": "small", "width": 202, "height": 360}
    assert chosen({**pictures(1), **upright}, pictures(720), pictures(240)) == "upright"
    assert chosen({**pictures(1), **small}, {**pictures(1), **lying}) == "lying"


def test_what_does_not_say_its_size_comes_before_what_is_too_small() -> None:
    assert chosen(pictures(None), pictures(240)) == "vNone"
    assert chosen(pictures(None), pictures(2160)) == "v2160"
    assert chosen({"format_id": "only", "url": "http://x"}) == "only"


def test_of_one_size_h264_first_then_without_sound_then_the_smallest() -> None:
    h264, vp9, av1 = (pictures(360, vcodec=codec) for codec in ("avc1.42", "vp9", "av01.0.01"))
    av1["filesize"], h264["filesize"] = 1, 9
    vp9["format_id"], av1["format_id"] = "vp9", "av1"
    assert chosen(av1, vp9, h264) == "v360"
    assert chosen(av1, vp9) == "vp9"
    both = pictures(360, acodec="mp4a", format_id="18", filesize=1)
    assert chosen(both, h264) == "v360"
    assert chosen(pictures(360, filesize=20, format_id="large"), h264) == "v360"
    over_http = pictures(360, format_id="http", filesize=99)
    assert chosen(pictures(360, protocol="m3u8_native"), over_http) == "http"


@pytest.mark.parametrize(
    "never", [STORYBOARD, SOUND, pictures(320, has_drm=True), pictures(320, ext="mhtml")]
)
def test_storyboards_and_what_is_locked_are_never_taken(never: dict[str, Any]) -> None:
    assert chosen(never) == ""
    assert chosen(never, pictures(144)) == "v144"


def test_with_sound_one_stream_that_has_both_else_two() -> None:
    both = pictures(720, acodec="mp4a", format_id="22")
    quiet = {**SOUND, "format_id": "139", "abr": 48}
    assert chosen(both, pictures(360), SOUND, audio=True) == "22"
    assert chosen(pictures(360), quiet, SOUND, STORYBOARD, audio=True) == "v360+140"
    assert chosen(pictures(360), STORYBOARD, audio=True) == "v360"
    assert chosen(SOUND, audio=True) == ""


# --- whole or sections

RATES = Rates(whole_bytes_per_s=1_000_000, section_bytes_per_s=100_000)


@pytest.mark.parametrize(
    ("stream", "duration_s", "is_better"),
    [
        ({"filesize": 30_000_000}, 300.0, True),  # a thirtieth of it, at a tenth of the rate
        ({"filesize": 30_000_000}, 60.0, False),  # a sixth
        ({"filesize_approx": 30_000_000}, 300.0, True),
        ({"tbr": 800.0}, 300.0, True),
        ({"tbr": 800.0}, 60.0, False),
        ({"filesize": 30_000_000}, None, False),
        ({}, 300.0, False),
        ({"filesize": 30_000_000}, 5.0, False),  # shorter than the section
    ],
)
def test_sections_where_they_should_be_there_first(
    stream: dict[str, Any], duration_s: float | None, is_better: bool
) -> None:
    assert prefers_sections(stream, duration_s, 10, RATES) is is_better


@given(st.integers(1, 10**10), st.floats(0.1, 1e5), st.floats(1, 600), st.floats(1, 1e8))
def test_sections_that_come_no_faster_than_the_whole_need_to_be_less_of_it(
    filesize: int, duration_s: float, section_s: float, rate: float
) -> None:
    stream = {"filesize": filesize}
    assert not prefers_sections(stream, duration_s, section_s, Rates(2 * rate, rate)) or (
        section_s < duration_s / 2
    )
    assert not prefers_sections(stream, duration_s, duration_s, Rates(rate, rate))


# --- spans

CLIPS = st.lists(
    st.tuples(st.integers(0, 300), st.integers(1, 20)).map(lambda c: ("x", c[0], c[0] + c[1])),
    min_size=1,
    max_size=8,
).map(lambda clips: [(str(place), start, end) for place, (_, start, end) in enumerate(clips)])


@given(CLIPS, st.integers(0, 10))
def test_each_window_is_in_one_span_padded_and_spans_do_not_meet(
    clips: list[tuple[str, int, int]], pad_s: int
) -> None:
    made = spans(clips, pad_s)
    for clip_id, start, end in clips:
        (span,) = (span for span in made if clip_id in span.clips)
        assert span.start_s <= max(0, start - pad_s) and end + pad_s <= span.end_s
    assert sorted(name for span in made for name in span.clips) == sorted(c[0] for c in clips)
    for one, other in itertools.pairwise(made):
        assert one.end_s < other.start_s
    wanted = {
        second for _, start, end in clips for second in range(max(0, start - pad_s), end + pad_s)
    }
    assert wanted == {second for span in made for second in range(span.start_s, span.end_s)}


def test_a_window_inside_another_does_not_shorten_the_span() -> None:
    (span,) = spans([("long", 10, 40), ("short", 12, 14)], 0)
    assert (span.start_s, span.end_s, span.clips) == (10, 40, ("long", "short"))
