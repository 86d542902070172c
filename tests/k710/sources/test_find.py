"""Which files and members are videos, however a lab has laid them."""

import io
import os
import random
import tarfile
from pathlib import Path

import pytest

from k710.errors import SourceError
from k710.sources.find import Copy, Remarks, Tally, find_copies, roots_of


def put(folder: Path, *names: str, size: int = 1) -> None:
    """Write a file of `size` bytes for each name below `folder`."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))


def pack(path: Path, *names: str, size: int = 1) -> Path:
    """A tar with a member of `size` bytes for each name; packed if it is called .gz or .tgz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    packed = path.name.endswith("gz")
    with tarfile.open(path, "w:gz" if packed else "w") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = size
            tar.addfile(member, io.BytesIO(bytes(size)))
    return path


def found(*paths: Path, workers: int = 1) -> tuple[set[tuple[str, str | None, int]], list[str]]:
    """What is found at these paths, and the remarks."""
    remarks = Remarks()
    copies = list(find_copies(roots_of(paths), remarks, workers=workers))
    keys = {(copy.uri, copy.member, copy.bytes) for copy in copies}
    assert len(keys) == len(copies)
    return keys, remarks.lines()


def below(folder: Path, *names: str, size: int = 1) -> set[tuple[str, str | None, int]]:
    return {(f"{folder}/{name}", None, size) for name in names}


# --- folders


def test_videos_in_any_layout(tmp_path: Path) -> None:
    names = (
        "a.mp4",
        "train/massaging person's head/b.MKV",
        "vol_00/c.webm",
        "k600/val/d.Avi",
        "e.mov",
        "f.M4V",
        "folder.mp4/g.mp4",
        "-h/-i.mp4",
    )
    put(tmp_path, *names, size=7)
    put(tmp_path, "list.csv", "notes.mp4.txt", "x.part", "mp4")
    assert found(tmp_path) == (below(tmp_path, *names, size=7), [])


def test_a_single_video(tmp_path: Path) -> None:
    put(tmp_path, "a.mp4", "b.mp4", size=3)
    assert found(tmp_path / "a.mp4") == (below(tmp_path, "a.mp4", size=3), [])


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    put(tmp_path, "a.mp4", "._a.mp4", ".cache/b.mp4", "c/.d/e.mp4", ".f.tar")
    assert found(tmp_path) == (below(tmp_path, "a.mp4"), [])
    assert found(tmp_path / ".cache") == (below(tmp_path / ".cache", "b.mp4"), [])


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere", "a.mp4")
    put(tmp_path / "videos", "z/b.mp4")
    videos = tmp_path / "videos"
    (videos / "loop").symlink_to(videos)
    (videos / "z" / "up").symlink_to("..")
    (videos / "more").symlink_to(tmp_path / "elsewhere")
    (videos / "c.mp4").symlink_to(tmp_path / "elsewhere" / "a.mp4")
    assert found(videos) == (below(videos, "z/b.mp4", "more/a.mp4", "c.mp4"), [])


def test_a_true_name_wins_over_a_link(tmp_path: Path) -> None:
    put(tmp_path, "z/a.mp4", "y/b.mp4")
    (tmp_path / "a_link").symlink_to("z")
    (tmp_path / "y" / "link").symlink_to("../z")
    assert found(tmp_path)[0] == below(tmp_path, "z/a.mp4", "y/b.mp4")


def test_links_that_lead_nowhere_are_said(tmp_path: Path) -> None:
    for name in ("b.mp4", "a.mp4", "c.tar", "list.csv"):
        (tmp_path / name).symlink_to("gone")
    os.mkfifo(tmp_path / "d.mp4")
    remark = "4 not taken, because they are no plain files (links, devices). The first: "
    assert found(tmp_path) == (set(), [f"{remark}'{tmp_path}/a.mp4'"])


def test_names_that_are_no_utf8_are_said(tmp_path: Path) -> None:
    put(tmp_path, "good/größe.mp4", "bad/\udcff.mp4", "bad/\udcfe/a.mp4", "\udcff.csv")
    pack(tmp_path / "c.tar", "x/\udcff.mp4", "größe.mp4")
    copies, remarks = found(tmp_path)
    assert copies == {
        (f"{tmp_path}/good/größe.mp4", None, 1),
        (f"{tmp_path}/c.tar", "größe.mp4", 1),
    }
    assert len(remarks) == 1
    assert remarks[0].startswith("3 not taken, because their names are no UTF-8 (rename them). The")
    assert remarks[0].isprintable()


def test_a_folder_that_can_not_be_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "a/b/c.mp4")
    scandir = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("/b"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(SourceError, match=r"/a/b can't be read: Permission denied\.$"):
        found(tmp_path)


def test_a_deep_tree(tmp_path: Path) -> None:
    folder = tmp_path
    for _ in range(300):
        folder = folder / "d"
    put(folder, "a.mp4")
    assert len(found(tmp_path)[0]) == 1


# --- archives


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz", "A.TAR"])
def test_archives_are_looked_into(tmp_path: Path, name: str) -> None:
    names = ("train/a.mp4", "./b.mkv", "../../c.avi")
    path = pack(tmp_path / "in" / name, *names, "x.txt", "._a.mp4", "a/.hidden/b.mp4", size=600)
    copies: set[tuple[str, str | None, int]] = {(str(path), member, 600) for member in names}
    assert found(tmp_path) == found(path) == (copies, [])


def test_archives_that_can_not_be_read_are_said(tmp_path: Path) -> None:
    put(tmp_path, "a.zip", "b.tar.xz", "c.csv.gz", "d.rar")
    (tmp_path / "e.tar").write_bytes(b"junk" * 500)
    whole = pack(tmp_path / "f.tar", "a.mp4", "b.mp4", size=600)
    os.truncate(whole, 2048)
    with tarfile.open(tmp_path / "g.tar", "w") as tar:
        for name in ("b.mp4", "a.mp4", "c.txt"):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(member)
    copies, remarks = found(tmp_path)
    assert copies == {(f"{tmp_path}/f.tar", "a.mp4", 600)}
    assert remarks == [
        f"{tmp_path}/e.tar is no tar archive.",
        f"{tmp_path}/f.tar is cut short.",
        f"2 not taken, because they are no plain files (links, devices). The first: "
        f"{tmp_path}/g.tar: 'a.mp4'",
        f"3 not read: archives must be .tar or .tar.gz, and not in another (unpack them). The "
        f"first: '{tmp_path}/a.zip'",
    ]


@pytest.mark.parametrize("workers", [1, 4])
def test_many_archives(tmp_path: Path, workers: int) -> None:
    for number in range(20):
        ending = random.Random(number).choice(["tar", "tar.gz", "tgz"])
        pack(tmp_path / f"{number}.{ending}", *(f"{n}.mp4" for n in range(number)))
    told: list[tuple[int, int]] = []
    copies = find_copies(
        [str(tmp_path)], Remarks(), workers=workers, on_archive=lambda *call: told.append(call)
    )
    assert len(list(copies)) == sum(range(20))
    assert told == [(number, 20) for number in range(1, 21)]


def test_a_search_that_is_stopped_leaves_no_thread_at_work(tmp_path: Path) -> None:
    for number in range(6):
        pack(tmp_path / f"{number}.tar", *(f"{n}.mp4" for n in range(50)))
    copies = find_copies([str(tmp_path)], Remarks(), workers=2)
    assert isinstance(next(copies), Copy)
    copies.close()  # type: ignore[attr-defined]


# --- what is searched


def test_roots_are_absolute_sorted_and_not_inside_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "b/c/d.mp4", "b2/e.mp4", "a.mp4")
    monkeypatch.chdir(tmp_path)
    roots = roots_of(["b2/", "b/c", "./b", "a.mp4", tmp_path / "b/c/d.mp4", "b"])
    assert roots == [f"{tmp_path}/{name}" for name in ("a.mp4", "b", "b2")]
    assert roots_of(["/", tmp_path]) == ["/"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none", r"none can't be read: No such file or directory\.$"),
        ("list.csv", r"list.csv is no folder, no archive \(.tar, .tar.gz, .tgz\) and no video \("),
        ("fifo.mp4", r"fifo.mp4 is no folder, no archive"),
        ("\udcff", r"The name '.*\\udcff' is no UTF-8. Rename it.$"),
    ],
)
def test_what_can_not_be_searched_is_said(tmp_path: Path, name: str, words: str) -> None:
    put(tmp_path, "list.csv")
    os.mkfifo(tmp_path / "fifo.mp4")
    with pytest.raises(SourceError, match=words):
        roots_of([tmp_path, tmp_path / name])


def test_an_address_is_no_place_to_search_and_its_secret_is_not_said() -> None:
    with pytest.raises(SourceError, match=r"'http://...@host/a' is an address") as error:
        roots_of(["http://me:hush@host/a"])
    assert "hush" not in str(error.value)


def test_nothing_to_search_is_said() -> None:
    with pytest.raises(
        SourceError, match=r"No folder, archive or video was named\.\nName one: --v"
    ):
        roots_of([])


def test_a_tally_keeps_the_first() -> None:
    tally = Tally()
    for name in ("b", "a", "c"):
        tally.add(name)
    assert (tally.num, tally.first) == (3, "a")
