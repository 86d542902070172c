"""Clips cut out of videos and encoded as `k710 shard` does it."""

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from k710.video.container import open_video
from k710.video.cut import Cut, Window
from k710.video.decoding import decoder_log
from k710.video.encode import Encoded, Encoding, encode_window


def cut_and_encode(
    source: Path | bytes, start_s: int, end_s: int, **settings: Any
) -> tuple[Cut, Encoded | None]:
    """The cut of that window, and the clip unless too little of it is there."""
    with decoder_log() as log, open_video(source) as video:
        window = Window(start_s, end_s)
        return encode_window(video[1], log, window, Encoding(**settings), from_s=start_s)


def clip_of(source: Path | bytes, start_s: int = 0, end_s: int = 1, **settings: Any) -> Encoded:
    """The clip of that window, which must be there."""
    clip = cut_and_encode(source, start_s, end_s, **settings)[1]
    assert clip is not None
    return clip


def print_digest() -> None:
    """Print one SHA-256 of clips of many looks, of each video in the folder of argument 1."""
    folder = Path(sys.argv[1])
    looks: list[Mapping[str, Any]] = [
        {},
        {"short_side": 54},
        {"profile": "compact"},
        {"audio": True},
    ]
    clips = [
        clip_of(path, 0, 1, **look).data
        for path in sorted(folder.glob("*.mp4")) + sorted(folder.glob("*.mkv"))
        for look in looks * 2
    ]
    assert clips == [clip for at in range(0, len(clips), 8) for clip in clips[at : at + 4] * 2]
    print(hashlib.sha256(b"".join(clips)).hexdigest())
