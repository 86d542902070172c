"""Which of a video's streams is fetched, and whether whole or in sections."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Rates", "Span", "best_streams", "prefers_sections", "spans"]

Stream = Mapping[str, Any]
"""A format as yt-dlp describes it: height, width, vcodec, acodec, tbr, filesize, protocol, ..."""

# H.264 before what is smaller: it is decoded fastest, and FFmpeg notices its damage.
_CODECS = ("avc1", "h264", "vp9", "vp09", "vp8", "av01")


@dataclass(frozen=True, slots=True)
class Rates:
    """What options was like so far, in bytes a second. What isn't known yet is assumed."""

    # Users see sections of long videos throttled to about 32 KiB/s (yt-dlp#17612).
    whole_bytes_per_s: float = 1_000_000.0
    section_bytes_per_s: float = 32_768.0


@dataclass(frozen=True, slots=True)
class Span:
    """Seconds [start_s, end_s) of a video, and the clips that lie in it."""

    start_s: int
    end_s: int
    clips: tuple[str, ...]


def best_streams(formats: Sequence[Stream], *, short_side: int, audio: bool) -> tuple[Stream, ...]:
    """The smallest stream of pictures that is `short_side` px or more, else the largest.

    With `audio` one that has sound as well, else two: pictures and sound. Without, one without
    sound is as good. Nothing where nothing has pictures.
    """
    pictures = [one for one in formats if one.get("vcodec") != "none" and _is_video(one)]
    if audio:
        both = [one for one in pictures if one.get("acodec") != "none"]
        sounds = [
            one
            for one in formats
            if one.get("vcodec") == "none" and one.get("acodec") not in (None, "none")
        ]
        if not both and sounds and pictures:
            loudest = max(sounds, key=lambda one: (one.get("abr") or 0, str(one.get("format_id"))))
            return _best(pictures, short_side), loudest
        pictures = both or pictures
    return (_best(pictures, short_side),) if pictures else ()


def _is_video(one: Stream) -> bool:
    return one.get("ext") != "mhtml" and not one.get("has_drm")


def _best(pictures: Sequence[Stream], short_side: int) -> Stream:
    def rank(one: Stream) -> tuple[object, ...]:
        side = _side(one)
        if side is None:
            size = (1, 0)
        elif side >= short_side:
            size = (0, side)
        else:
            size = (2, -side)
        has_sound = one.get("acodec") not in (None, "none")
        num_bytes = one.get("filesize") or one.get("filesize_approx") or one.get("tbr") or 1e12
        return (
            size,
            not str(one.get("protocol") or "http").startswith("http"),
            _codec_rank(one),
            has_sound,
            num_bytes,
            str(one.get("format_id")),
        )

    return min(pictures, key=rank)


def _side(one: Stream) -> int | None:
    sides = [side for side in (one.get("width"), one.get("height")) if side]
    return min(sides) if sides else None


def _codec_rank(one: Stream) -> int:
    codec = str(one.get("vcodec") or "").lower()
    known = [place for place, name in enumerate(_CODECS) if codec.startswith(name)]
    return known[0] if known else len(_CODECS)


def prefers_sections(
    stream: Stream, duration_s: float | None, section_s: float, rates: Rates
) -> bool:
    """Whether sections of `section_s` seconds in all are there sooner than the whole stream.

    False where that can't be told: a whole video is cut more exactly, and serves other windows.
    """
    num_bytes = stream.get("filesize") or stream.get("filesize_approx")
    if not num_bytes and stream.get("tbr") and duration_s:
        num_bytes = float(stream["tbr"]) * 125 * duration_s
    if not num_bytes or not duration_s:
        return False
    part = min(1.0, section_s / duration_s)
    return bool(num_bytes * part / rates.section_bytes_per_s < num_bytes / rates.whole_bytes_per_s)


def spans(clips: Sequence[tuple[str, int, int]], pad_s: int) -> tuple[Span, ...]:
    """Sections with the windows of `clips` (id, start, end), padded, and merged where they meet."""
    made: list[Span] = []
    for clip_id, start, end in sorted(clips, key=lambda clip: (clip[1], clip[2], clip[0])):
        start_s, end_s = max(0, start - pad_s), end + pad_s
        if made and start_s <= made[-1].end_s:
            last = made.pop()
            made.append(Span(last.start_s, max(last.end_s, end_s), (*last.clips, clip_id)))
        else:
            made.append(Span(start_s, end_s, (clip_id,)))
    return tuple(made)
