"""What a file is by its name: published names, those of other programs, patterns, endings."""

from pathlib import Path
from typing import Any

import pytest

from k710.errors import SourceError
from k710.sources.index import IndexSummary, index_videos
from k710.sources.name_patterns import add_pattern, check_pattern
from support.list_files import Row, vid
from support.small_manifest import clip, manifest_of, pack, put, refresh, sources

READ = {
    "{clip}.mp4": "exact",
    "{clip}.mp4.webm": "youtube-dl's second ending",
    "{clip}.f137.mp4": "a format that was not merged",
    "{id}_12_22.mp4": "no zeros",
    "{id}_12.0_22.0.mkv": "yt-dlp's section_start",
    "v_{id}.mp4": "ActivityNet's",
    "v_{id}_000012_000022.avi": "and its clips",
    "A title, with [brackets] [{id}].mp4": "yt-dlp",
    "A title-{id}.flv": "youtube-dl",
    "{id}.mp4.webm": "merged to another container",
    "{id}.f137.mp4": "pictures alone",
    "{id}.f251-drc.webm": "",
    "{id}.f137+140.mkv": "two formats",
    "{id}.fhls-720.mp4": "",
    "riding_mule_{clip}.ts": "a class before it",
    "riding mule {clip}.mp4": "",
    "[{id}].3gp": "",
}
UNREAD = (
    "x{id}.mp4",  # an id has 11 characters, not 12
    "{id}x.mp4",
    "{id}.temp.mp4",
    "{id} (1).mp4",
    "{id}_h264.mp4",
    "[{id}]x.mp4",
    "{id}_12.mp4",
    "{id}_12_22_x.mp4",
    "{id}.mp4.part.mp4",
    "A title-notthatlist.mp4",
    "elevenwords.mp4",
)
IDS = [f"{'_-x'[n % 3]}n{n:02d}" for n in range(len(READ))]


def rows(*names: str) -> list[Row]:
    return [("archery", name, 12, 22) for name in names]


def named(pattern: str, name: str) -> str:
    return pattern.format(id=vid(name), clip=clip(name, 12))


def test_the_names_that_programs_give(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, *rows(*IDS, "u"))
    loose = {named(pattern, name): 1 for pattern, name in zip(READ, IDS, strict=True)}
    videos = put(tmp_path / "videos", dict(list(loose.items())[::2]))
    pack(videos / "a.tar", {f"./b/{name}": 1 for name in list(loose)[1::2]})
    unread = {named(pattern, "u"): 1 for pattern in UNREAD}
    put(videos / "unread", unread)
    summary = index_videos([videos], work=work)
    found = sources(work)
    for name, file in zip(IDS, loose, strict=True):
        row = found.pop(clip(name, 12))
        assert (row["member"] or row["uri"]).rpartition("/")[2] == file
        assert row["trimmed"] is (True if "12" in file.replace(vid(name), "") else None), file
    assert [row["uri"] for row in found.values()] == [None]
    assert (summary.used, summary.unknown) == (len(READ), len(UNREAD))
    told = [line for line in summary.remarks if "say no clip" in line]
    first = sorted(f"{videos}/unread/{name}" for name in unread if name != "elevenwords.mp4")[0]
    assert told == [
        f"{len(UNREAD) - 1} not taken, because their names say no clip: a clip is called "
        "ID_000012_000022.mp4, a whole video ID.mp4, where ID is YouTube's; other names are read "
        f"by --name-pattern. The first: {first}"
    ]


def test_a_name_that_is_read_in_two_ways_is_neither(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, *rows("abcde--hijk", "-hijk_12_22"))
    videos = put(tmp_path / "videos", {"x abcde--hijk_12_22.mp4": 1})
    summary = index_videos([videos], work=work)
    assert summary.used == 0
    assert summary.remarks == (
        "1 not taken, because their names are those of several videos. The first: "
        f"{videos}/x abcde--hijk_12_22.mp4",
    )


def test_a_window_that_no_list_has_is_said(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, *rows("a"))
    videos = put(tmp_path / "v", {f"{vid('a')}_12000_22000.mp4": 1, f"{clip('b', 12)}.mp4": 1})
    summary = index_videos([videos], work=work)
    assert (summary.used, summary.unknown) == (0, 2)
    assert summary.remarks == (
        "1 not taken, because their names say a window (in seconds) that no list has of the "
        f"video. The first: {videos}/{vid('a')}_12000_22000.mp4",
    )


def test_a_title_is_no_id_unless_a_list_has_it(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, *rows("a"))
    videos = put(tmp_path / "videos", {"my-basketballs.mp4": 1, f"bowling-balls {vid('b')}.mp4": 1})
    assert index_videos([videos], work=work).used == 0


# --- other endings


def test_what_ends_otherwise_is_taken_or_counted(tmp_path: Path) -> None:
    taken = ("flv", "3gp", "wmv", "asf", "ts", "m2ts", "mts", "mpg", "mpeg", "ogv", "gif")
    ids = [f"e{ending}" for ending in taken]
    work = manifest_of(tmp_path, *rows(*ids))
    files = {f"{vid(one)}.{ending.upper()}": 1 for one, ending in zip(ids, taken, strict=True)}
    videos = put(tmp_path / "videos", files)
    put(videos, {"a.rmvb": 1, "b.RMVB": 1, "c.rm": 1, "d.m4a": 1, "e.f140.m4a": 1, "f.zip": 1})
    put(videos, {"g.mp4.part": 1, "h.f137.mp4.part-Frag7.part": 1, "i.webm.ytdl": 1, "j.part": 1})
    pack(videos / "a.tar", {"k.mxf": 1, "l.zip": 1, "m/n.tar.gz": 1, "o.mp4.part": 1, "p.txt": 1})
    summary = index_videos([videos], work=work)
    assert (summary.used, summary.videos) == (len(taken), len(taken))
    assert summary.remarks == (
        "4 not taken, because videos with such endings are not read (2 .rmvb, 1 .mxf, 1 .rm): make "
        f".mp4 of them. The first: '{videos}/a.rmvb'",
        "3 not read: archives must be .tar or .tar.gz, and not in another (unpack them). The "
        f"first: '{videos}/f.zip'",
        f"4 not taken, because their downloads were not finished. The first: '{videos}/g.mp4.part'",
    )


# --- --name-pattern

PATTERN = r"clip-(?P<id>[\w-]{11})@(?P<start>\d+)(s?)-(?P<end>\d+)"


def index(work: Path, *folders: Path, pattern: str | None = None) -> IndexSummary:
    return index_videos(folders, work=work, name_pattern=pattern)


def uris(work: Path) -> dict[str, Any]:
    return {clip_id: row["uri"] and Path(row["uri"]).name for clip_id, row in sources(work).items()}


def test_a_pattern_reads_any_other_name_and_is_remembered(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, *rows("a", "b", "c"))
    one = put(tmp_path / "one", {f"clip-{vid('a')}@12-22.mp4": 1, f"{clip('b', 12)}.mp4": 1})
    two = put(tmp_path / "two", {f"clip-{vid('c')}@00012s-000022.mp4": 1})
    index(work, one, pattern=PATTERN)
    expected = {
        clip("a", 12): f"clip-{vid('a')}@12-22.mp4",
        clip("b", 12): f"{clip('b', 12)}.mp4",
        clip("c", 12): None,
    }
    assert uris(work) == expected
    index(work, two)
    refresh(work)
    assert uris(work) == expected, "it is of the folder that it was given for"
    index(work, two, pattern=PATTERN)
    index(work, one)
    expected[clip("c", 12)] = f"clip-{vid('c')}@00012s-000022.mp4"
    assert uris(work) == expected
    index(work, one, pattern="")
    assert uris(work) == {**expected, clip("a", 12): None}


def test_a_pattern_with_a_slash_is_of_the_path(tmp_path: Path) -> None:
    work = manifest_of(tmp_path, *rows("a", "b"))
    videos = put(tmp_path / "v", {f"{vid('a')}/0012.mp4": 1, f"{vid('a')}/0099.mp4": 1})
    pack(videos / f"{vid('b')}.tar", {"whole.mp4": 1})
    index(work, videos, pattern=r"/(?P<id>[^/]{11})/(?:(?P<start>\d+)|whole)\.mp4$")
    rows_found = sources(work)
    assert [row["trimmed"] for row in rows_found.values()] == [True, None]
    assert [Path(row["uri"]).name for row in rows_found.values()] == ["0012.mp4", f"{vid('b')}.tar"]


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("(", "can't be used: missing ), unterminated subpattern"),
        (r"(?P<id>.{11})(?=_)", "can't be used: invalid perl operator: (?="),
        (r"(?P<id>.)\1", "can't be used: invalid escape sequence"),
        (r"(?P<id>(a{999}){999})", "can't be used: "),
        ("[a-z]{11}", "has no group id"),
        ("(?P<id>.)(?P<stop>.)", "has a group 'stop': they are id, start and end"),
        ("(?P<id>.)(?P<end>.)", "has a group end and no start"),
        ("(?P<id>a)" + "b" * 1000, "has more than 1,000 characters"),
        ("(?P<id>\x1b[31m)", "can't be used"),
    ],
)
def test_a_wrong_pattern_is_refused(pattern: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError) as raised:
        index_videos([tmp_path], work=tmp_path / "none", name_pattern=pattern)
    assert words in str(raised.value)
    assert all(line.isprintable() for line in str(raised.value).splitlines())


def test_a_pattern_takes_linear_time(tmp_path: Path) -> None:
    """It would take Python's re longer than the world has been there."""
    work = manifest_of(tmp_path, *rows("a"))
    videos = put(tmp_path / "v", {f"{'a' * 200}!.mp4": 1})
    assert index(work, videos, pattern=r"(?P<id>(a+)+)$").used == 0


def test_the_nearest_folder_decides() -> None:
    known = add_pattern({}, ["/a/"], "(?P<id>one)")
    known = add_pattern(known, ["/a/b/"], "(?P<id>two)")
    assert known == {"/a/": "(?P<id>one)", "/a/b/": "(?P<id>two)"}
    assert add_pattern(known, ["/a/"], None) == known
    assert add_pattern(known, ["/a/"], "(?P<id>three)") == {"/a/": "(?P<id>three)"}
    assert add_pattern(known, ["/a/"], "") == {}
    assert check_pattern(PATTERN) == {"id": 1, "start": 2, "end": 4}
