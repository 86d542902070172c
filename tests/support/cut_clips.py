"""Clips cut out of videos and encoded as `k710 shard` does it."""

from pathlib import Path
from typing import Any

from k710.video.cut import Cut, Window, decoder_log
from k710.video.encode import Encoded, Encoding, encode_window
from k710.video.frames import open_video


def cut_and_encode(
    source: Path | bytes, start_s: int, end_s: int, **settings: Any
) -> tuple[Cut, Encoded | None]:
    """The cut of that window, and the clip unless too little of it is there."""
    with decoder_log() as log, open_video(source) as video:
        window = Window(start_s, end_s)
        return encode_window(video, log, window, Encoding(**settings), from_s=start_s)


def clip_of(source: Path | bytes, start_s: int = 0, end_s: int = 1, **settings: Any) -> Encoded:
    """The clip of that window, which must be there."""
    clip = cut_and_encode(source, start_s, end_s, **settings)[1]
    assert clip is not None
    return clip
