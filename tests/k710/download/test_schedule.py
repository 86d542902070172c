"""Which video comes next: the plan in SQL, and the schedule, on time that doesn't pass."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings, strategies as st

from k710.download.rate_limit import Pace, pace_file
from k710.download.schedule import Schedule, Selection, Video, plan_videos, planned_videos
from k710.part import Part
from k710.tables.connection import define_common
from support.list_files import vid

TOOL = "yt-dlp 2"
Row = tuple[str, int, str, int, str, str | None]  # id, start, status, label, view, uri


def row(
    name: str,
    start: int = 0,
    status: str = "missing",
    *,
    label: int = 0,
    view: str = "v",
    uri: str | None = None,
) -> Row:
    return (vid(name), start, status, label, view, uri)


def planned(
    rows: Sequence[Row],
    *,
    tried: Sequence[str | tuple[str, str, str | None]] = (),
    stored: Sequence[str] = (),
    limit: int | None = None,
    **chosen: Any,
) -> list[Video]:
    """What is planned of a manifest and sources of these rows."""
    with duckdb.connect() as con:
        define_common(con)
        con.execute(
            "create table manifest (clip_id varchar, youtube_id varchar, time_start int, "
            "time_end int, label smallint, view varchar)"
        )
        con.execute("create table sources (clip_id varchar, status varchar, uri varchar)")
        con.execute(
            "create table attempts (place bigint, youtube_id varchar, detail varchar, "
            "is_unexplained boolean, tool varchar)"
        )
        con.execute("create table outcomes (clip_id varchar, stored boolean)")
        clips = {
            f"{youtube_id}_{start}": (status, uri) for youtube_id, start, status, _, _, uri in rows
        }
        for youtube_id, start, _, label, view, _ in rows:
            values = [f"{youtube_id}_{start}", youtube_id, start, start + 10, label, view]
            con.execute("insert into manifest values (?, ?, ?, ?, ?, ?)", values)
        for clip_id, (status, uri) in clips.items():
            con.execute("insert into sources values (?, ?, ?)", [clip_id, status, uri])
        for place, told in enumerate(tried):
            name, tool, words = (told, TOOL, None) if isinstance(told, str) else told
            values = [place, vid(name), words, words is not None, tool]
            con.execute("insert into attempts values (?, ?, ?, ?, ?)", values)
        for name in stored:
            con.execute("insert into outcomes values (?, true)", [f"{vid(name)}_0"])
        plan_videos(con, Selection(**{"views": ["v"], **chosen}), limit, tool=TOOL)
        return list(planned_videos(con))


def ids(videos: Sequence[Video]) -> set[str]:
    return {video.youtube_id.rstrip("_") for video in videos}


# --- the plan


def test_one_video_for_all_windows_of_its_id() -> None:
    (video,) = planned([row("a", 40), row("a", 5), row("a", 20, "ok")], tried=["a", "a", "b"])
    clips = ((f"{vid('a')}_5", 5, 15), (f"{vid('a')}_40", 40, 50))
    assert video == Video(vid("a"), clips, num_attempts=2, afresh=False)


def test_a_clip_that_is_in_two_views_is_there_once() -> None:
    (video,) = planned([row("a"), row("a", view="w", label=3)], views=["v", "w"])
    assert len(video.clips) == 1


def test_what_is_pending_is_tried_and_what_is_final_is_not() -> None:
    every = ("missing", "transient", "blocked", "failed", "ok", "truncated")
    final = ("gone", "private", "age", "region", "empty", "damaged")
    rows = [row(status, status=status) for status in (*every, *final)]
    assert ids(planned(rows)) == {"missing", "transient", "blocked", "failed"}
    assert ids(planned(rows, again=["gone", "empty"])) == {
        *("missing", "transient", "blocked", "failed"),
        *("gone", "empty"),
    }


def test_what_killed_a_worker_when_it_was_cut_is_not_fetched_again() -> None:
    rows = [row("a", status="failed", uri="/downloads/a.mp4"), row("b", status="failed")]
    assert ids(planned(rows)) == {"b"}
    assert ids(planned(rows, again=["failed"])) == {"a", "b"}


def test_only_what_was_no_good_is_fetched_afresh() -> None:
    rows = [row("a", status="damaged"), row("a", 40), row("b")]
    assert {one.youtube_id[0]: one.afresh for one in planned(rows, again=["damaged"])} == {
        "a": True,
        "b": False,
    }


def test_what_is_stored_is_not_fetched_whatever_became_of_its_copy() -> None:
    rows = [row("a", status="missing"), row("b", status="damaged"), row("c")]
    assert ids(planned(rows, stored=["a", "b"], again=["damaged"])) == {"c"}


def test_only_the_views_and_classes_that_are_wanted() -> None:
    rows = [row("a", label=1), row("b", label=2), row("c", label=1, view="w")]
    assert ids(planned(rows)) == {"a", "b"}
    assert ids(planned(rows, labels=[1])) == {"a"}
    assert ids(planned(rows, labels=[1, 2], views=["v", "w"])) == {"a", "b", "c"}
    assert planned(rows, labels=[]) == []


BARE = "Video unavailable"


def test_what_is_never_explained_is_asked_three_times_with_one_version() -> None:
    def left(*tried: tuple[str, str, str | None], **more: Any) -> list[Video]:
        return planned([row("a", 0, "failed"), row("a", 20, "failed")], tried=tried, **more)

    asked = ("a", TOOL, BARE)
    assert [video.unexplained for video in left(asked, asked)] == [BARE]
    assert left(asked, asked, asked) == []
    assert len(left(asked, asked, asked, again=["failed"])) == 1
    assert len(left(asked, asked, ("a", "yt-dlp 1", BARE))) == 1, "a newer one may understand"
    (video,) = left(asked, asked, ("a", TOOL, None))
    assert (video.unexplained, video.num_attempts) == (None, 3), "the last words were others"
    assert len(planned([row("a", 0, "blocked")], tried=[asked] * 3)) == 1


def test_what_is_given_up_leaves_no_gap_for_a_limit() -> None:
    rows = [row(name, 0, "failed") for name in "abcdef"]
    tried = [(name, TOOL, BARE) for name in "abc" for _ in range(3)]
    assert ids(planned(rows, tried=tried, limit=3)) == set("def")


def test_ids_that_differ_by_their_case_are_two() -> None:
    assert ids(planned([row("a"), row("A"), row("-a")])) == {"a", "A", "-a"}


def test_the_order_is_a_permutation_that_a_limit_only_cuts() -> None:
    names = [f"{letter}{number}" for letter in "abc" for number in range(4)]
    whole = [video.youtube_id for video in planned([row(name) for name in names])]
    assert sorted(whole) == sorted(map(vid, names))
    assert whole != sorted(whole)
    backwards = [row(name) for name in reversed(names)]
    assert [video.youtube_id for video in planned(backwards, limit=5)] == whole[:5]


NAMES = st.sets(st.text("abcdefgh-_XYZ019", min_size=11, max_size=11), max_size=12)


@pytest.mark.parametrize("examples", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_parts_share_out_the_videos_each_to_one(examples: int) -> None:
    @settings(max_examples=examples)
    @given(names=NAMES, num_parts=st.integers(1, 5))
    def law(names: set[str], num_parts: int) -> None:
        rows = [row(name) for name in sorted(names)]
        parts = [
            [video.youtube_id for video in planned(rows, part=Part(part + 1, num_parts))]
            for part in range(num_parts)
        ]
        assert sorted(youtube_id for part in parts for youtube_id in part) == sorted(names)
        # Whatever else is fetched by now, a video stays in its part.
        fewer = planned(rows[::2], part=Part(1, num_parts))
        assert {video.youtube_id for video in fewer} <= set(parts[0])

    law()


def test_many_videos_come_in_batches_in_order() -> None:
    with duckdb.connect() as con:
        con.execute(
            "create temp table todo as select range as place, lpad(range::varchar, 11, '0') as "
            "youtube_id, [('c', 0, 10)] as clips, 0 as num_attempts, false as afresh, "
            "null as unexplained "
            "from range(2500)"
        )
        numbers = [int(video.youtube_id) for video in planned_videos(con)]
    assert numbers == list(range(2500))


# --- the schedule


def schedule(folder: Path, names: str, *proxies: str | None, **more: Any) -> Schedule:
    addresses = proxies or (None,)
    sleep_s = more.pop("sleep_s", 0.0)
    paces = {one: Pace(str(pace_file(folder, "this", one)), sleep_s, None) for one in addresses}
    left = iter([Video(vid(name), (("c", 0, 10),), 0, afresh=False) for name in names])
    return Schedule(left, paces, **{"retries": 2, "backoff_s": 0.0, "walls": 3, **more})


def fares(status: str) -> tuple[str, bool]:
    return status.rstrip("!"), status.endswith("!")


def drain(turns: Iterator[Video | None], plan: Schedule, *statuses: str) -> list[str]:
    """Have each video fare as the next of `statuses` says (`!`: a wall), the last one for ever."""
    came = []
    left = list(statuses)
    for video in turns:
        assert video is not None, "nothing is in flight, and no time passes"
        came.append(video.youtube_id.rstrip("_"))
        plan.settle(video.youtube_id, *fares(left[0]))
        left = left[1:] or left
    return came


def test_only_what_may_pass_is_tried_again_and_only_so_often(tmp_path: Path) -> None:
    plan = schedule(tmp_path, "ab")
    came = drain(plan.videos(), plan, "transient", "gone", "transient")
    assert came == ["a", "a", "b", "b", "b"]
    for status in ("ok", "gone", "private", "age", "region", "blocked", "failed", "damaged"):
        plan = schedule(tmp_path, "a")
        assert drain(plan.videos(), plan, status) == ["a"]


def test_the_last_word_on_a_video_is_known(tmp_path: Path) -> None:
    plan = schedule(tmp_path, "a", retries=1)
    turns = plan.videos()
    said = []
    for video in turns:
        assert video is not None
        said.append((video.num_attempts, plan.settle(video.youtube_id, "transient", False)))
    assert said == [(0, False), (1, True)]


def test_a_retry_waits_for_its_time_while_others_come(tmp_path: Path) -> None:
    plan = schedule(tmp_path, "ab", backoff_s=3600)
    turns = plan.videos()
    first = next(turns)
    assert first is not None
    plan.settle(first.youtube_id, "transient", False)
    second = next(turns)
    assert second is not None and second.youtube_id != first.youtube_id
    plan.settle(second.youtube_id, "ok", False)
    assert [next(turns) for _ in range(5)] == [None] * 5


def test_while_something_is_in_flight_there_may_be_more(tmp_path: Path) -> None:
    plan = schedule(tmp_path, "a")
    turns = plan.videos()
    assert next(turns) is not None
    assert next(turns) is None
    plan.settle(vid("a"), "ok", False)
    assert next(turns, "the end") == "the end"


@pytest.mark.parametrize("wall", ["blocked!", "transient!"])
def test_after_walls_in_a_row_nothing_more_is_asked(tmp_path: Path, wall: str) -> None:
    plan = schedule(tmp_path, "abcdef")
    assert len(drain(plan.videos(), plan, wall)) == 3
    assert plan.stopped_by == "refusals"


def test_walls_with_others_between_stop_nothing(tmp_path: Path) -> None:
    plan = schedule(tmp_path, "abcdef", retries=0)
    drain(plan.videos(), plan, "blocked!", "transient!", "gone", "blocked!", "transient!", "ok")
    assert not plan.is_stopped


def test_what_was_there_already_says_nothing_of_walls(tmp_path: Path) -> None:
    plan = schedule(tmp_path, "abcd", retries=0)
    turns = plan.videos()
    for is_wall in (True, True, None):
        video = next(turns)
        assert video is not None
        plan.settle(video.youtube_id, "ok" if is_wall is None else "blocked", is_wall)
    assert plan.paces[None].walls_in_row() == 2


def test_after_answers_that_tell_nothing_in_a_row_it_stops_too(tmp_path: Path) -> None:
    for status in ("failed", "damaged"):
        plan = schedule(tmp_path, "abcdefg", retries=0)
        came = drain(plan.videos(), plan, status, status, "private", status, status, status)
        assert len(came) == 6
        assert plan.stopped_by == "unknown"
        plan.paces[None].note(is_wall=False)
    plan = schedule(tmp_path, "abcdefg", retries=1)
    assert len(drain(plan.videos(), plan, "transient")) == 6, "three videos, twice each"
    assert plan.stopped_by == "unknown"


def test_a_failure_that_is_tried_again_ends_no_row_and_is_none(tmp_path: Path) -> None:
    plan = schedule(tmp_path, "abcdefg", retries=1, backoff_s=3600)
    turns = plan.videos()
    for status in ("failed", "failed", "transient"):
        video = next(turns)
        assert video is not None
        plan.settle(video.youtube_id, status, False)
    assert plan.paces[None].walls_in_row() == 2 and not plan.is_stopped


def test_what_was_said_of_this_video_before_is_no_news(tmp_path: Path) -> None:
    plan = schedule(tmp_path, "")
    plan.left = iter(Video(vid(n), (("c", 0, 10),), 1, False, BARE) for n in "abcdef")
    words = iter([BARE] * 4 + ["others"] * 2)
    for video in plan.videos():
        assert video is not None
        plan.settle(video.youtube_id, "failed", False, next(words))
    assert plan.paces[None].walls_in_row() == 2 and not plan.is_stopped


def test_walls_that_another_machine_met_count(tmp_path: Path) -> None:
    plan = schedule(tmp_path, "abcdef")
    turns = plan.videos()
    assert next(turns) is not None
    for _ in range(3):
        plan.paces[None].note(is_wall=True)
    assert next(turns) is None
    assert plan.is_stopped
    assert next(turns, "the end") == "the end"


def test_addresses_are_taken_in_turn_and_one_that_is_walled_is_left_alone(tmp_path: Path) -> None:
    plan = schedule(tmp_path, "abcdefghij", "http://one", "http://two")
    through: list[str | None] = []
    for video in plan.videos():
        assert video is not None
        through.append(video.proxy)
        plan.settle(video.youtube_id, *fares("ok" if video.proxy == "http://one" else "blocked!"))
    assert through[:4] == ["http://one", "http://two"] * 2
    assert through.count("http://two") == 3
    assert len(through) == 10 and not plan.is_stopped


def test_when_every_address_is_walled_it_stops(tmp_path: Path) -> None:
    plan = schedule(tmp_path, "abcdefghij", "http://one", "http://two")
    assert len(drain(plan.videos(), plan, "blocked!")) in (5, 6)
    assert plan.is_stopped


def test_an_address_whose_turn_is_not_yet_does_not_hold_up_the_other(tmp_path: Path) -> None:
    plan = schedule(tmp_path, "abc", "http://one", "http://two", sleep_s=3600)
    turns = plan.videos()
    given = [next(turns) for _ in range(5)]
    assert [video.proxy for video in given if video] == ["http://one", "http://two"]
    assert given[2:] == [None, None, None]
    # The one that had no turn has lost none.
    for pace in plan.paces.values():
        Path(pace.path).unlink()
    plan._not_before.clear()
    video = next(turns)
    assert video is not None
    assert {one.youtube_id for one in (*given[:2], video) if one} == {vid(n) for n in "abc"}
