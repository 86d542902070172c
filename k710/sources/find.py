"""Find video files: in folders, and in archives that stay packed.

A copy is a file, or a member of an archive, whose name ends as a video's does. What the rest of its
name says of the clip in it is read by named.sql.
"""

import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from k710.errors import SourceError, shown
from k710.files import is_url
from k710.sources.archives import ENDINGS, whole_members
from k710.sources.stamps import Stamp, stamp_of
from k710.video.formats import VIDEO_ENDINGS

__all__ = ["Copy", "Remarks", "Tally", "find_copies", "roots_of"]

_OTHER_VIDEO_ENDINGS = (
    *(".rm", ".rmvb", ".mxf", ".dv", ".mp2", ".xvid", ".amv", ".swf", ".nut"),
    *(".h264", ".264", ".hevc", ".265", ".y4m"),
)
_UNREAD_ENDINGS = (
    *(".zip", ".7z", ".rar", ".tar.bz2", ".tar.xz", ".tar.zst", ".tbz2", ".txz", ".tzst"),
)
_UNFINISHED = re.compile(
    rf"({'|'.join(map(re.escape, VIDEO_ENDINGS))})"
    r"\.(part|ytdl|part-frag\d+(\.part)?|crdownload|aria2)$"
)


@dataclass(frozen=True, slots=True)
class Copy:
    """One video file that is there. Its name may mean anything yet."""

    uri: str  # absolute path of the file, or of the archive that holds it
    member: str | None  # its name in the archive
    bytes: int  # of the video
    stamp: Stamp  # of the file, or of the archive


@dataclass(slots=True)
class Tally:
    """How many, and the first by path: there may be millions."""

    num: int = 0
    first: str = ""

    def add(self, path: str, num: int = 1) -> None:
        """Count `num` more, of which `path` is the first."""
        self.first = min(self.first, path) if self.num else path
        self.num += num


@dataclass(slots=True)
class Remarks:
    """What was not taken, for the summary."""

    damaged: list[str] = field(default_factory=list)  # archives: why, after what was taken of it
    not_utf8: Tally = field(default_factory=Tally)  # tables hold no other names
    no_file: Tally = field(default_factory=Tally)  # links that lead nowhere, links in archives
    unread: Tally = field(default_factory=Tally)  # archives of other kinds, archives in archives
    unfinished: Tally = field(default_factory=Tally)  # what downloads left that were broken off
    other_videos: Tally = field(default_factory=Tally)
    other_endings: Counter[str] = field(default_factory=Counter)  # of these

    def lines(self) -> list[str]:
        """The remarks in words, one a line."""
        lines = sorted(self.damaged)
        endings = sorted(self.other_endings.items(), key=lambda pair: (-pair[1], pair[0]))
        named = ", ".join(f"{num:,} {ending}" for ending, num in endings)
        for tally, words in (
            (self.not_utf8, "not taken, because their names are no UTF-8 (rename them)"),
            (self.no_file, "not taken, because they are no plain files (links, devices)"),
            (
                self.other_videos,
                f"not taken, because videos with such endings are not read ({named}): make .mp4 of "
                "them",
            ),
            (
                self.unread,
                "not read: archives must be .tar or .tar.gz, and not in another (unpack them)",
            ),
            (self.unfinished, "not taken, because their downloads were not finished"),
        ):
            if tally.num:
                lines.append(f"{tally.num:,} {words}. The first: {tally.first}")
        return lines

    def pass_over(self, name: str, path: str) -> None:
        """Count what is no video that is taken, by its name in lower case, if it may be missed."""
        ending = name[name.rfind(".") :]
        if ending in _OTHER_VIDEO_ENDINGS:
            self.other_videos.add(path)
            self.other_endings[ending] += 1
        elif name.endswith((*_UNREAD_ENDINGS, *ENDINGS)):
            self.unread.add(path)
        elif _UNFINISHED.search(name):
            self.unfinished.add(path)

    def add(self, other: "Remarks") -> None:
        """Add those of another search."""
        self.damaged += other.damaged
        self.other_endings += other.other_endings
        for mine, more in (
            (self.not_utf8, other.not_utf8),
            (self.no_file, other.no_file),
            (self.unread, other.unread),
            (self.unfinished, other.unfinished),
            (self.other_videos, other.other_videos),
        ):
            if more.num:
                mine.add(more.first, more.num)


def roots_of(paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Make the paths to search absolute and sort them; those inside another are left out.

    SourceError where there is nothing, or something that holds no videos.
    """
    if not paths:
        raise SourceError("No folder, archive or video was named.\nName one: --videos ./videos")
    roots: list[str] = []
    for path in paths:
        if is_url(str(path)):
            raise SourceError(
                f"{shown(path)} is an address, and videos are looked for on disks.\n"
                "Mount it, or copy what lies there."
            )
    # With a slash at its end a folder stands just before what is in it.
    for root in sorted({os.path.abspath(path) for path in paths}, key=lambda root: f"{root}/"):
        if not _is_text(root):
            raise SourceError(f"The name {shown(root)} is no UTF-8. Rename it.")
        try:
            mode = os.stat(root).st_mode
        except OSError as error:
            raise SourceError(f"{root} can't be read: {error.strerror}.") from error
        if not S_ISDIR(mode) and not (
            S_ISREG(mode) and root.lower().endswith((*VIDEO_ENDINGS, *ENDINGS))
        ):
            raise SourceError(
                f"{root} is no folder, no archive ({', '.join(ENDINGS)}) and no video "
                f"({', '.join(VIDEO_ENDINGS)})."
            )
        if not roots or not root.startswith(roots[-1].rstrip("/") + "/"):
            roots.append(root)
    return sorted(roots)


def find_copies(
    roots: Sequence[str],
    remarks: Remarks,
    *,
    workers: int,
    on_archive: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Copy]:
    """Yield each copy in the folders, archives and videos at `roots` (of `roots_of`), in any order.

    Hidden files and folders are passed over. Links are followed, each true folder being read once.
    Then the archives are read, `workers` at a time; `on_archive` is told how many. What is not
    taken is added to `remarks`, an archive that can't be read too. SourceError where a folder can't
    be read.
    """
    archives: list[str] = []
    for root in roots:
        if root.lower().endswith(ENDINGS) and os.path.isfile(root):
            archives.append(root)
        elif os.path.isfile(root):
            stat = os.stat(root)
            yield Copy(root, None, stat.st_size, stamp_of(stat))
    folders = [root for root in roots if os.path.isdir(root)]
    yield from _walk(folders, archives, remarks)
    yield from _in_archives(sorted(archives), remarks, workers, on_archive)


# --- folders


def _walk(folders: list[str], archives: list[str], remarks: Remarks) -> Iterator[Copy]:
    """The videos below `folders`; the archives there are added to `archives`."""
    seen: set[tuple[int, int]] = set()
    links: list[str] = []  # to folders: after all others, so that a true name wins over a link's
    waiting = folders[::-1]
    while waiting or links:
        if not waiting:
            links.sort(reverse=True)
        folder = (waiting or links).pop()
        try:
            stat = os.stat(folder)
            if (stat.st_dev, stat.st_ino) in seen:
                continue
            seen.add((stat.st_dev, stat.st_ino))
            with os.scandir(folder) as entries:
                below: list[str] = []
                yield from _videos(entries, below, links, archives, remarks)
        except OSError as error:
            raise SourceError(
                f"{error.filename or folder} can't be read: {error.strerror}."
            ) from error
        waiting += sorted(below, reverse=True)


def _videos(
    entries: Iterator["os.DirEntry[str]"],
    below: list[str],
    links: list[str],
    archives: list[str],
    remarks: Remarks,
) -> Iterator[Copy]:
    for entry in entries:
        name = entry.name.lower()
        if name.startswith("."):
            continue
        is_video = name.endswith(VIDEO_ENDINGS)
        if entry.is_dir():
            (links if entry.is_symlink() else below).append(entry.path)
        elif not (is_video or name.endswith(ENDINGS)):
            remarks.pass_over(name, shown(entry.path, limit=400))
        elif not entry.is_file():
            remarks.no_file.add(shown(entry.path, limit=400))
        elif not _is_text(entry.path):
            remarks.not_utf8.add(shown(entry.path, limit=400))
        elif is_video:
            stat = entry.stat()
            yield Copy(entry.path, None, stat.st_size, stamp_of(stat))
        else:
            archives.append(entry.path)


def _is_text(path: str) -> bool:
    return path.isascii() or not any("\ud800" <= character <= "\udfff" for character in path)


# --- archives


def _in_archives(
    archives: Sequence[str],
    remarks: Remarks,
    workers: int,
    on_archive: Callable[[int, int], None],
) -> Iterator[Copy]:
    """The videos in `archives`. Threads do: zlib and the disk work without Python's lock."""
    stop = threading.Event()
    pool = ThreadPoolExecutor(workers)
    try:
        lists = pool.map(lambda archive: _in_archive(archive, stop), archives)
        for done, (copies, found) in enumerate(lists, start=1):
            yield from copies
            remarks.add(found)
            on_archive(done, len(archives))
    finally:
        stop.set()  # on Ctrl-C, those that are being read end at their next member
        pool.shutdown(cancel_futures=True)


def _in_archive(archive: str, stop: threading.Event) -> tuple[list[Copy], Remarks]:
    remarks = Remarks()
    copies: list[Copy] = []

    def skipped(name: str) -> None:
        if _is_video(name):
            remarks.no_file.add(f"{archive}: {shown(name)}")

    try:
        # Before it is read: what is put into it meanwhile makes it another.
        stamp = stamp_of(os.stat(archive))
        for member in whole_members(Path(archive), on_skipped=skipped):
            if stop.is_set():
                break
            if _is_hidden(member.name):
                continue
            if not _is_video(member.name):
                remarks.pass_over(member.name.lower(), f"{archive}: {shown(member.name)}")
            elif _is_text(member.name):
                copies.append(Copy(archive, member.name, member.size_bytes, stamp))
            else:
                remarks.not_utf8.add(f"{archive}: {shown(member.name)}")
    except SourceError as error:
        remarks.damaged.append(str(error))
    except OSError as error:
        remarks.damaged.append(f"{archive} can't be read: {error.strerror}.")
    return copies, remarks


def _is_video(name: str) -> bool:
    """Whether a member is one, and is not hidden: what macOS puts beside each file is."""
    return name.lower().endswith(VIDEO_ENDINGS) and not _is_hidden(name)


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") and part not in (".", "..") for part in name.split("/"))
