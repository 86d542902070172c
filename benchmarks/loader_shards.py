"""Shards for benchmarks of the loader: the benchmark clips of ../shared/videos, many times over."""

import hashlib
import tarfile
from pathlib import Path

import numpy as np

from k710.shards.write import add_member
from k710.sources.outcomes import shard_name
from k710.video.frames import num_frames, read_frames
from uniformerv2.dataset.clips import ViewIndex

__all__ = ["encoded", "make_view"]


def encoded(profile: str) -> dict[str, bytes]:
    """Each benchmark clip as `k710 shard` encodes it with a profile."""
    from gop import CLIPS, VIDEOS, encode

    return {name: encode(VIDEOS / f"{name}.mp4", profile) for name in CLIPS}


def make_view(
    folder: Path, clips: dict[str, bytes], *, copies: int = 40, shards: int = 8
) -> ViewIndex:
    """Write shards that hold each of the clips `copies` times; returns the view of all of them."""
    names = [(name, f"{name}_{copy:06d}") for copy in range(copies) for name in clips]
    placed: list[tuple[str, str, int, int]] = []  # clip, its name in the shard, shard, offset
    for shard in range(shards):
        with tarfile.open(folder / f"{shard_name(shard)}.tar", "w") as tar:
            for name, clip_id in names[shard::shards]:
                offset = add_member(tar, f"{clip_id}.mp4", clips[name])
                placed.append((name, clip_id, shard, offset))
    shapes = {name: read_frames(data, [0]).shape[1:3] for name, data in clips.items()}
    frames = {name: num_frames(data) for name, data in clips.items()}
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in clips.items()}
    own = [name for name, *_ in placed]
    return ViewIndex(
        name="benchmark",
        clip_ids=[clip_id for _, clip_id, *_ in placed],
        labels=np.arange(len(placed)) % 710,
        shards=np.array([shard for *_, shard, _ in placed]),
        offsets=np.array([offset for *_, offset in placed]),
        num_bytes=np.array([len(clips[name]) for name in own]),
        num_frames=np.array([frames[name] for name in own]),
        heights=np.array([shapes[name][0] for name in own]),
        widths=np.array([shapes[name][1] for name in own]),
        digests=np.array([digests[name] for name in own], dtype="S64"),
        num_wanted=len(placed),
        sha256="0" * 64,
    )
