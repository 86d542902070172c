"""Clips out of the shards, as files: DIR/000012/<clip_id>.mp4, as if each shard were unpacked.

That place depends on no view, class or family, so that one folder serves them all; and no name in
it has a character that a list could choke on.
"""

import hashlib
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import duckdb

from k710.errors import StageError
from k710.files import disk_full, locked, replacing, word_os_errors
from k710.sources.outcomes import HEADER_BYTES, is_header_of, shard_name, tar_path
from k710.tables.clip_ids import require_clip_id
from k710.tables.connection import run
from k710.video.byte_range import ByteRange

__all__ = ["Extracted", "extract_clips"]

_WRITERS = 8  # each file waits for the disk: 190 clips/s by one, 470 by eight
_OF_SHARD = """
select clip_id, "offset", bytes, sha256 from exported
where reason is null and shard = $shard order by "offset"
"""


@dataclass(frozen=True, slots=True)
class Extracted:
    """What was written; clips that were there already don't count."""

    clips: int
    bytes: int


@dataclass(frozen=True, slots=True)
class _Clip:
    clip_id: str
    offset: int
    num_bytes: int
    sha256: str


def extract_clips(
    con: duckdb.DuckDBPyConnection,
    work: Path,
    root: Path,
    *,
    on_progress: Callable[[str, int, int | None], None],
) -> Extracted:
    """Write the clips of `exported`, a table on `con`, to `root`; returns what was not there yet.

    Each is checked against its hash when it is written, and is there whole or not at all: a run
    that was stopped goes on. Of what is there already the size is checked. StageError where a file
    of another size is in the way, the disk is too small, or a shard is not as it was written.
    """
    shards = run(con, "select distinct shard from exported where reason is null order by shard")
    with word_os_errors(root), locked(root):
        num_clips, num_bytes = 0, 0
        for (shard,) in shards:
            clips = _not_there(con, root, shard)
            num_clips += len(clips)
            num_bytes += sum(clip.num_bytes for clip in clips)
        free = shutil.disk_usage(root).free
        if num_bytes > free:
            raise disk_full(root, f"{num_bytes / 1e9:,.1f} GB to write, {free / 1e9:,.1f} GB free")
        done = 0
        with ThreadPoolExecutor(_WRITERS) as pool:
            for (shard,) in shards:
                _folder(root, shard).mkdir(exist_ok=True)
                write = partial(_write, work, root, shard)
                for _ in pool.map(write, _not_there(con, root, shard)):
                    done += 1
                    on_progress("writing clips", done, num_clips)
    return Extracted(num_clips, num_bytes)


def _folder(root: Path, shard: int) -> Path:
    return root / shard_name(shard)


def _not_there(con: duckdb.DuckDBPyConnection, root: Path, shard: int) -> list[_Clip]:
    """The clips of one shard that are no files yet, in the order of their bytes."""
    folder = _folder(root, shard)
    sizes = {}
    if folder.is_dir():
        with os.scandir(folder) as entries:
            sizes = {entry.name: entry.stat().st_size for entry in entries}
    clips = [_Clip(*row) for row in run(con, _OF_SHARD, {"shard": shard})]
    for clip in clips:
        name = f"{clip.clip_id}.mp4"
        if sizes.get(name, clip.num_bytes) != clip.num_bytes:
            raise StageError(
                f"{folder / name} is there with {sizes[name]:,} bytes, and the clip in the shards "
                f"has {clip.num_bytes:,}: it is of other shards, or not from any.\n"
                "Nothing is overwritten: remove it, or choose another --root."
            )
    return [clip for clip in clips if f"{clip.clip_id}.mp4" not in sizes]


def _write(work: Path, root: Path, shard: int, clip: _Clip) -> None:
    tar = tar_path(work, shard)
    span = ByteRange(str(tar), clip.offset - HEADER_BYTES, clip.num_bytes + HEADER_BYTES)
    data = b"".join(span.chunks())
    header, data = data[:HEADER_BYTES], data[HEADER_BYTES:]
    if not is_header_of(header, clip.clip_id) or hashlib.sha256(data).hexdigest() != clip.sha256:
        raise StageError(
            f"{clip.clip_id} in {tar} is not as it was written.\n"
            f"See what else isn't: k710 verify --work {work}"
        )
    with replacing(_folder(root, shard) / f"{require_clip_id(clip.clip_id)}.mp4") as unfinished:
        unfinished.write_bytes(data)
