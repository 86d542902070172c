"""One clip in, one staged file and one row out: the task that every engine runs.

Beside `<clip_id>.mp4` lies `<clip_id>.json`, written last: the clip's row, and the key of all that
decides it. A task whose row is there with its key does nothing. So a run may be killed at any
moment, and the same task may run on two machines at once.
"""

import contextlib
import errno
import hashlib
import json
import socket
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any

import k710
from k710.errors import MediaError, StageError
from k710.machine import free_memory
from k710.shards.staging import read, remove, write
from k710.video.byte_range import ByteRange
from k710.video.cut import SLACK_S, Window, decoder_log
from k710.video.encode import Encoding, encode_window, encoder_versions
from k710.video.frames import open_video
from k710.video.probe import Facts, facts_of, is_window, media_words, probe_clip
from k710.video.profiles import COPY

__all__ = ["ClipTask", "Staged", "StoredClip", "forget", "parsed", "stage_clip", "staged_file"]

_K710 = k710.__version__
_NOT_STAGED = ("missing", "ours")  # the next run may find another file there
# A file that may be seen and not read is no damaged one. EIO is: demuxers say it of broken files.
_NOT_OURS_TO_READ = (errno.EACCES, errno.EPERM, errno.ESTALE)


@dataclass(frozen=True, slots=True)
class ClipTask:
    """What it takes to make one clip."""

    clip_id: str
    window: Window
    source: ByteRange
    source_key: str  # what names the copy: uri, member and size
    trimmed: bool | None  # None: the duration decides
    starts_at_s: float | None  # time in the video of the file's first frame; None: not known
    rivals: int  # other clips that a trimmed file of unknown window could be as well
    encoding: Encoding
    versions: tuple[tuple[str, str], ...]  # that the worker must have
    folder: str  # of the staged files, or its URL
    k710: str = _K710  # the version of the run, which the worker must have too

    def key(self) -> str:
        """A hash of all that decides the clip's bytes and row."""
        made_of = [
            *(self.clip_id, self.source_key, self.trimmed, self.starts_at_s, self.rivals),
            *(self.encoding.params(), self.versions),
        ]
        return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class StoredClip:
    """The bytes of a clip as they go into its shard."""

    num_bytes: int
    sha256: str
    num_frames: int
    fps: float
    width: int  # px
    height: int  # px
    gop: int | None  # the most frames from one keyframe to the next; None: as the source has it
    duration_s: float


@dataclass(frozen=True, slots=True)
class Staged:
    """How a clip fared. `stored` None: it is not kept, and `detail` says why."""

    clip_id: str
    key: str
    status: str
    detail: str | None
    trimmed: bool | None
    facts: Facts  # of the source
    stored: StoredClip | None
    unread_on: str | None = None  # the host on which the source could not be read


def stage_clip(task: ClipTask) -> Staged:
    """Make the clip of `task`, unless it is staged already; returns how it fared.

    Writes `<clip_id>.mp4` (if it is kept) and `<clip_id>.json` in the task's folder. StageError
    where this worker's k710 or libraries are others than the task's, or the disk is full.
    """
    here = tuple(sorted(encoder_versions().items()))
    if task.k710 != _K710:
        raise StageError(_other_k710(task.k710))
    if here != task.versions:
        raise StageError(_other_versions(dict(here), dict(task.versions)))
    staged = parsed(task, read(f"{task.folder}/{task.clip_id}.json"))
    if staged is not None:
        return staged
    staged, data = _made(task)
    free_memory()
    if data is not None:
        write(staged_file(task.folder, task.clip_id), data)
    if staged.status not in _NOT_STAGED:
        write(f"{task.folder}/{task.clip_id}.json", json.dumps(asdict(staged)).encode())
    return staged


def parsed(task: ClipTask, row: bytes | None) -> Staged | None:
    """The row that an earlier run staged, if it is of just this task; else None."""
    try:
        values = json.loads(row or b"")
        if values["key"] != task.key():
            return None
        stored = values.pop("stored")
        return Staged(
            facts=Facts(**values.pop("facts")),
            stored=None if stored is None else StoredClip(**stored),
            **values,
        )
    except (ValueError, TypeError, KeyError):
        return None


def staged_file(folder: str, clip_id: str) -> str:
    """Where the bytes of a staged clip lie."""
    return f"{folder}/{clip_id}.mp4"


def forget(folder: str, clip_ids: Sequence[str]) -> None:
    """Remove what is staged of these clips, each one's row first."""
    remove([f"{folder}/{name}.{ending}" for name in clip_ids for ending in ("json", "mp4")])


def _made(task: ClipTask) -> tuple[Staged, bytes | None]:
    try:
        if task.source.size_bytes() == 0:
            return _not_kept(task, "empty", "the file has no bytes in it"), None
        if task.encoding.profile == COPY and (task.trimmed or task.trimmed is None):
            copied = _copied(task)
            if copied is not None:
                return copied
        with decoder_log() as log, _open(task) as (container, stream):
            facts = facts_of(container, stream)
            trimmed = task.trimmed
            if trimmed is None:
                trimmed = is_window(facts.duration_s, task.window)
            if trimmed and task.trimmed is None and task.rivals:
                return _ambiguous(task), None
            from_s = 0 if trimmed else _from_s(task)
            cut, encoded = encode_window(
                (container, stream), log, task.window, task.encoding, from_s=from_s
            )
    except MediaError as error:
        if getattr(error.__cause__, "errno", None) in _NOT_OURS_TO_READ:
            return _unread(task, "can't be read: permission denied, or a stale mount"), None
        return _not_kept(task, "damaged", media_words(error)), None
    except OSError as error:
        return _unread(task, f"can't be read: {error.strerror}"), None
    status, detail, _ = cut.status()
    staged = Staged(task.clip_id, task.key(), status, detail, trimmed, facts, None)
    if encoded is None:
        return staged, None
    stored = StoredClip(
        num_bytes=len(encoded.data),
        sha256=hashlib.sha256(encoded.data).hexdigest(),
        num_frames=encoded.num_frames,
        fps=encoded.fps,
        width=encoded.width,
        height=encoded.height,
        gop=encoded.gop,
        duration_s=encoded.duration_s,
    )
    return replace(staged, stored=stored), encoded.data


def _copied(task: ClipTask) -> tuple[Staged, bytes | None] | None:
    """The clip with its source's own bytes; None where that is not the window as it is."""
    probed = probe_clip(task.source, task.window, trimmed=task.trimmed)
    if probed.status == "missing":
        return _unread(task, probed.detail), None
    facts = probed.facts
    if probed.trimmed and task.trimmed is None and task.rivals:
        return _ambiguous(task), None
    staged = Staged(
        task.clip_id, task.key(), probed.status, probed.detail, probed.trimmed, facts, None
    )
    if probed.status not in ("ok", "truncated"):
        return staged, None
    if not can_be_copied(probed.trimmed, facts, task.window):
        return None
    if probed.status == "truncated" and (facts.duration_s or 0) < task.window.seconds / 2:
        return staged, None
    data = b"".join(task.source.chunks())
    if hashlib.sha256(data).hexdigest() != probed.sha256:
        return _not_kept(task, "ours", "the file changed while it was read"), None
    return replace(staged, stored=copied_clip(facts, len(data), probed.sha256)), data


def can_be_copied(trimmed: bool | None, facts: Facts, window: Window) -> bool:
    """Whether a sound copy may go into a shard as it is: it's no longer than the window."""
    known = None not in (facts.fps, facts.num_frames, facts.width, facts.height)
    seconds = facts.duration_s
    return bool(trimmed) and known and seconds is not None and seconds <= window.seconds + SLACK_S


def copied_clip(facts: Facts, num_bytes: int, sha256: str) -> StoredClip:
    """The row of a clip whose bytes are its source's own."""
    assert facts.num_frames and facts.fps and facts.width and facts.height and facts.duration_s
    return StoredClip(
        num_bytes=num_bytes,
        sha256=sha256,
        num_frames=facts.num_frames,
        fps=facts.fps,
        width=facts.width,
        height=facts.height,
        gop=None,
        duration_s=facts.duration_s,
    )


@contextlib.contextmanager
def _open(task: ClipTask) -> Iterator[tuple[Any, Any]]:
    with task.source.opened() as file, open_video(file) as opened:
        yield opened


def _from_s(task: ClipTask) -> int | Fraction:
    after = task.window.start_s - Fraction(task.starts_at_s or 0)
    return max(Fraction(0), after)


def _ambiguous(task: ClipTask) -> Staged:
    words = (
        f"the copy is {task.window.seconds} s long and named by its id alone: it could be any of "
        f"{task.rivals + 1} clips; name it {task.clip_id} if it is this one"
    )
    return replace(_not_kept(task, "missing", words), trimmed=True)


def _unread(task: ClipTask, detail: str | None) -> Staged:
    return replace(_not_kept(task, "missing", detail), unread_on=socket.gethostname())


def _not_kept(task: ClipTask, status: str, detail: str | None) -> Staged:
    return Staged(task.clip_id, task.key(), status, detail, task.trimmed, Facts(), None)


def _other_k710(wanted: str) -> str:
    return (
        f"A worker has k710 {_K710}, and this run is of {wanted}.\n"
        f"One shard set is made by one version: install k710 {wanted} there."
    )


def _other_versions(here: dict[str, str], wanted: dict[str, str]) -> str:
    names = sorted({*here, *wanted})
    differing = [
        f"{name} {here.get(name)} (not {wanted.get(name)})"
        for name in names
        if here.get(name) != wanted.get(name)
    ]
    return (
        f"A worker has other libraries than this run: {', '.join(differing)}.\n"
        f"One shard set is made by one version: pip install av=={wanted.get('av')} there."
    )
