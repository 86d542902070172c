"""Why a video could not be had: what yt-dlp says -> a status of sources.parquet.

The first rule that matches counts, so the order is: walls (the address, not the video, is refused,
or reaches nothing), conditions (age, region, private), then videos that are gone for good, then
what may pass. A message that no rule knows is `failed`: it stays pending, and its text is in the
ledger.
"""

import re
from dataclasses import dataclass

from k710.errors import printable
from k710.statuses import Status

__all__ = ["Refusal", "cleaned", "refusal"]

_LONGEST = 500


@dataclass(frozen=True, slots=True)
class Refusal:
    """A failure of one attempt."""

    status: Status
    is_wall: bool = False  # it is the address that can't be served: asking on is no use, or worse


# Messages of YouTube are those of yt-dlp/extractor/youtube/_video.py, and of its issues.
_RULES = tuple(
    (re.compile(pattern, re.IGNORECASE), Refusal(*made))
    for pattern, *made in (
        (r"HTTP Error 429|too many requests", Status.TRANSIENT, True),
        (r"rate.?limited by|content isn.t available, try again later", Status.TRANSIENT, True),
        (r"not a bot|captcha|unusual traffic", Status.BLOCKED, True),
        (r"HTTP Error 403", Status.BLOCKED, True),
        (
            r"HTTP Error 407|proxy|failed to (resolve|establish)|name resolution|unreachable"
            r"|connection refused",
            Status.TRANSIENT,
            True,
        ),
        (r"confirm your age|age.restricted|inappropriate for some users", Status.AGE),
        (r"in your (country|region|location)|geo.?restrict", Status.REGION),
        (
            r"private video|video is private|members.only|join this channel|granted access",
            Status.PRIVATE,
        ),
        # Of a stream, or a piece of one, when the video's page is there.
        (r"(video data|got error): HTTP Error (404|410)", Status.TRANSIENT),
        (r"HTTP Error (404|410)", Status.GONE),
        (
            r"\bremoved\b|no longer available|terminated|copyright|does not exist|deleted"
            r"|video (is )?(unavailable|not available)|channel (is|was) closed|violat",
            Status.GONE,
        ),
        (
            r"no space left|disk quota|unable to (write|open for writing|rename)"
            r"|no connection adapters|redirect loop",
            Status.FAILED,
        ),
        (
            r"HTTP Error (408|425|5\d\d)|timed? ?out|connection|reset by peer|refused|unreachable"
            r"|temporar|name resolution|incomplete ?read|more expected|bytes, expected"
            r"|did not get any data|downloaded file is empty|remote end|\bssl\b|\beof\b"
            r"|ffmpeg exited",
            Status.TRANSIENT,
        ),
    )
)


def refusal(message: str) -> Refusal:
    """What a message of yt-dlp means for the video."""
    for pattern, made in _RULES:
        if pattern.search(message):
            return made
    return Refusal(Status.FAILED)


def cleaned(message: str, youtube_id: str) -> str:
    """`message` on one line, safe to print, without id and yt-dlp's pleas: like ones are equal."""
    text = re.sub(r"\x1b\[[0-9;?]*[ -/]*[@-~]", "", message)
    text = printable(" ".join(text.split()))
    text = re.sub(r"^ERROR: ", "", text)
    text = re.sub(r"^\[[\w:.-]+\] ", "", text)
    text = text.replace(f"{youtube_id}: ", "").replace(youtube_id, "ID")
    text = re.sub(r"[;,.]? *please report this issue on .*", "", text, flags=re.IGNORECASE)
    text = re.sub(r" \(caused by .*", "", text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
