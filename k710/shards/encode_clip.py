"""One clip in, one staged file and one row out: the task that every engine runs.

Beside `<clip_id>.mp4` lies `<clip_id>.json`, written last: what was made of the clip, and the key
of all that decides it; of the second copy that is tried `<clip_id>.1.mp4`, and so on. A task whose
row is there with its key does nothing. So a run may be killed at any moment, and the same task may
run on two machines at once.
"""

import errno
import hashlib
import json
import socket
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, replace

import msgspec

import k710
from k710.errors import MediaError, StageError
from k710.machine import free_memory
from k710.shards.clip import EncodedClip, PlannedClip, StoredClip
from k710.shards.staging import read, remove, write
from k710.statuses import Status
from k710.video.byte_range import ByteRange
from k710.video.container import open_video
from k710.video.decoding import decoder_log
from k710.video.encode import Encoding, encode_window, encoder_versions
from k710.video.probe import Facts, Probed, media_words, place_in, probe_clip
from k710.video.profiles import COPY

__all__ = [
    "ClipSettings",
    "ClipTask",
    "read_staged",
    "remove_staged",
    "stage_clip",
    "staged_file",
]

_K710 = k710.__version__
_NOT_STAGED = (Status.MISSING, Status.FAILED)  # the next run may find another file there
# A file that may be seen and not read is no damaged one. EIO is: demuxers say it of broken files.
_NOT_OURS_TO_READ = (errno.EACCES, errno.EPERM, errno.ESTALE)


def _versions_here() -> tuple[tuple[str, str], ...]:
    return tuple(sorted(encoder_versions().items()))


@dataclass(frozen=True, slots=True)
class ClipSettings:
    """How and where all clips of a run are made."""

    encoding: Encoding
    folder: str  # of the staged files, or its URL
    versions: tuple[tuple[str, str], ...] = field(default_factory=_versions_here)
    k710: str = _K710  # a worker must have this version, and those libraries

    def key(self, clip: PlannedClip) -> str:
        """Hash all that decides the clip's bytes and row."""
        copy = clip.source.copy
        made_of = [
            *(clip.source.clip_id, copy.uri, copy.member, copy.num_bytes),
            *(None if copy.stamp is None else astuple(copy.stamp), copy.trimmed),
            *(copy.starts_at_s, clip.rivals),
            *(self.encoding.params(), self.versions),
        ]
        return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ClipTask:
    """What it takes to make one clip."""

    clip: PlannedClip
    source: ByteRange  # where the bytes of its copy are
    settings: ClipSettings

    def is_ambiguous(self, trimmed: bool | None) -> bool:
        """Whether the copy could be another clip's: named by its id alone, and one window long."""
        return bool(trimmed and self.clip.source.copy.trimmed is None and self.clip.rivals)


@dataclass(frozen=True, slots=True)
class _StagedRow:
    key: str
    clip: EncodedClip


def stage_clip(task: ClipTask) -> EncodedClip:
    """Make the clip of `task`, unless it is staged already; returns what came of it.

    Writes `<name>.mp4` (if it is kept) and `<name>.json` in the task's folder. StageError
    where this worker's k710 or libraries are others than the task's, or the disk is full.
    """
    clip, settings = task.clip, task.settings
    _refuse_other_versions(settings)
    video = staged_file(settings.folder, clip.name)
    row = video.removesuffix("mp4") + "json"
    encoded = read_staged(settings.key(clip), read(row))
    if encoded is not None:
        return encoded
    encoded, data = _make(task)
    free_memory()
    if data is not None:
        write(video, data)
    if encoded.seen.status not in _NOT_STAGED:
        write(row, msgspec.json.encode(_StagedRow(settings.key(clip), encoded)))
    return encoded


def read_staged(key: str, row: bytes | None) -> EncodedClip | None:
    """Take the row that an earlier run staged, if it has just this key; else None."""
    try:
        staged = msgspec.json.decode(row or b"", type=_StagedRow)
    except ValueError:  # also of msgspec.DecodeError, and of what is no UTF-8
        return None
    return staged.clip if staged.key == key else None


def staged_file(folder: str, name: str) -> str:
    """Where the bytes of a staged clip lie, by its name in the folder."""
    return f"{folder}/{name}.mp4"


def remove_staged(folder: str, names: Sequence[str]) -> None:
    """Remove what is staged of these clips, each one's row first."""
    remove([f"{folder}/{name}.{ending}" for name in names for ending in ("json", "mp4")])


def _make(task: ClipTask) -> tuple[EncodedClip, bytes | None]:
    """Copy or encode the clip; its bytes are None where it is not kept."""
    trimmed = task.clip.source.copy.trimmed
    try:
        if task.source.size_bytes() == 0:
            return _not_kept(task, Status.EMPTY, "the file has no bytes in it"), None
        if task.settings.encoding.profile == COPY and trimmed is not False:
            copied = _copy(task)
            if copied is not None:
                return copied
        return _encode(task)
    except MediaError as error:
        if getattr(error.__cause__, "errno", None) in _NOT_OURS_TO_READ:
            return _unread(task, "can't be read: permission denied, or a stale mount"), None
        return _not_kept(task, Status.DAMAGED, media_words(error)), None
    except OSError as error:
        return _unread(task, f"can't be read: {error.strerror}"), None


def _encode(task: ClipTask) -> tuple[EncodedClip, bytes | None]:
    window, copy = task.clip.source.window, task.clip.source.copy
    placed, facts = place_in(
        task.source, window, trimmed=copy.trimmed, starts_at_s=copy.starts_at_s
    )
    if task.is_ambiguous(placed.trimmed):
        return _ambiguous(task, facts), None
    if placed.mismatch is not None:
        return EncodedClip(Probed(Status.MISMATCHED, placed.mismatch, True, facts)), None
    with decoder_log() as log, task.source.opened() as file, open_video(file) as (_, stream):
        cut, encoded = encode_window(
            stream,
            log,
            window,
            task.settings.encoding,
            from_s=placed.begins_s,
            fps=placed.fps,
        )
    status, detail, _ = cut.status()
    seen = Probed(status, detail, placed.trimmed, facts, starts_at_s=placed.starts_at_s)
    if encoded is None:
        return EncodedClip(seen), None
    digest = hashlib.sha256(encoded.data).hexdigest()
    stored = StoredClip.of(len(encoded.data), digest, encoded, gop=encoded.gop)
    return EncodedClip(seen, stored), encoded.data


def _copy(task: ClipTask) -> tuple[EncodedClip, bytes | None] | None:
    """Take the source's own bytes; None where those are not the window as it is."""
    window, copy = task.clip.source.window, task.clip.source.copy
    seen = probe_clip(task.source, window, trimmed=copy.trimmed, starts_at_s=copy.starts_at_s)
    if seen.status == Status.MISSING:
        return _unread(task, seen.detail), None
    if task.is_ambiguous(seen.trimmed):
        return _ambiguous(task, seen.facts), None
    if seen.status.state == "to_shard" and not seen.can_be_copied(window):
        return None
    if not seen.is_kept(window):
        return EncodedClip(seen), None
    data = b"".join(task.source.chunks())
    digest = hashlib.sha256(data).hexdigest()
    if digest != seen.sha256:
        return _not_kept(task, Status.FAILED, "the file changed while it was read"), None
    return EncodedClip(seen, StoredClip.of(len(data), digest, seen.facts, gop=None)), data


def _ambiguous(task: ClipTask, facts: Facts) -> EncodedClip:
    source = task.clip.source
    words = (
        f"the copy is {source.window.seconds} s long and named by its id alone: it could be any of "
        f"{task.clip.rivals + 1} clips; name it {source.clip_id} if it is this one"
    )
    return EncodedClip(Probed(Status.MISSING, words, True, facts))


def _unread(task: ClipTask, detail: str | None) -> EncodedClip:
    return replace(_not_kept(task, Status.MISSING, detail), unread_on=socket.gethostname())


def _not_kept(task: ClipTask, status: Status, detail: str | None) -> EncodedClip:
    return EncodedClip(Probed(status, detail, task.clip.source.copy.trimmed, Facts()))


def _refuse_other_versions(settings: ClipSettings) -> None:
    """StageError where this process has another k710, or other libraries, than the run."""
    if settings.k710 != _K710:
        raise StageError(
            f"A worker has k710 {_K710}, and this run is of {settings.k710}.\n"
            f"One shard set is made by one version: install k710 {settings.k710} there."
        )
    here, wanted = dict(_versions_here()), dict(settings.versions)
    differing = [
        f"{name} {here.get(name)} (not {wanted.get(name)})"
        for name in sorted({*here, *wanted})
        if here.get(name) != wanted.get(name)
    ]
    if differing:
        raise StageError(
            f"A worker has other libraries than this run: {', '.join(differing)}.\n"
            f"One shard set is made by one version: pip install av=={wanted.get('av')} there."
        )
