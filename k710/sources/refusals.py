"""Why a video could not be had: what yt-dlp says -> a status of sources.parquet.

Only a reason that is known to be of the video itself is final: removed, account closed, copyright,
private, age, region, a page that is not there. Titles such as `Video unavailable` are no reason:
YouTube puts them above refusals of an account, a session, a network, an app, and above dead videos
alike, and sometimes says no more. What no rule knows is `failed`, which is pending; so is every
message in another language. The ledger keeps the words, and the rules are applied whenever it is
read: what an earlier version took for a death, or will be understood by a later one, is no matter.

The first rule that matches counts, so the order is: walls (the address or session, not the video,
is refused, or reaches nothing), conditions (age, region, private), pages that are not there,
refusals of who asks, deaths, then what may pass.
"""

import functools
import hashlib
import re
from dataclasses import dataclass

from k710.errors import printable
from k710.statuses import FORMER_NAMES, Status, parse_status

__all__ = ["Refusal", "cleaned", "refusal", "refusals_sha256", "status_today"]

_LONGEST = 500
_READ = 4000  # characters: a server may say anything, at any length


@dataclass(frozen=True, slots=True)
class Refusal:
    """A failure of one attempt."""

    status: Status
    is_wall: bool = False  # it is the address that can't be served: asking on is no use, or worse
    is_unexplained: bool = False  # the site calls the video unavailable, and no known reason why


# Wordings of YouTube's are those in yt-dlp/extractor/youtube/_video.py, its wiki, and its issues.
_WALLS = (
    (r"HTTP Error 429|too many requests|rate.?limited", Status.TRANSIENT),
    (r"not a bot|captcha|unusual traffic|ip is likely being blocked", Status.BLOCKED),
    (r"HTTP Error 40[13]", Status.BLOCKED),
    (
        r"HTTP Error 407|proxy|\bsocks|failed to (resolve|establish)|name resolution|unreachable"
        r"|connection refused",
        Status.TRANSIENT,
    ),
    # A session that asked too much, and an account that is barred: of every video.
    (r"content (is not|isn't) available, try again", Status.TRANSIENT),
    (r"\bthis content (is not|isn't) available(?! (in|on)\b)", Status.BLOCKED),
    (
        r"\b(youtube( \w+)?|(this|our|the) (service|web ?site|site|app))"
        r" (is|isn't)( \w+){0,2} available in your\b",
        Status.BLOCKED,
    ),
    (r"\badministrator|workspace admin|network restriction", Status.BLOCKED),
)
_CONDITIONS = (
    (
        r"(confirm|verify) your age|\bage.?(restrict|verif|gate|check)"
        r"|inappropriate for some users",
        Status.AGE,
    ),
    (
        r"(in|from) your (country|region|location|area|territory)|\bgeo.?(restrict|block)"
        r"|country domain",
        Status.REGION,
    ),
    (
        r"private video|video is private|members.only|channel's members|members on level"
        r"|join this channel|granted access|premium members|requires? payment|to rent or purchase",
        Status.PRIVATE,
    ),
)
# Of a stream, a piece of one, or what the site's own pages ask: the video's page is there.
_PAGE = r"unable to download webpage: HTTP Error (404|410)"
_SIGN_IN = (
    r"\b(sign|log|logged)[ -]?in\b|login (is )?required|registered users"
    r"|authentication (is )?required|requires authentication"
)
_VIDEO = r"\b(video|clip|vod)"
_DEATHS = (
    rf"{_VIDEO}( id)? (has been|was|is|got) (permanently )?(removed|deleted|taken down)\b",
    r"\b(removed|deleted|taken down) by (the |its )?(uploader|user|owner|author|creator)\b",
    r"\b(removed|deleted|taken down) (for|because|due to)\b[^.]*\bviolat",
    rf"{_VIDEO} (has )?violate[sd]\b",
    r"\baccount associated with (this|the) video (has been|was|is) "
    r"(terminated|closed|suspended|deleted)",
    r"\bno longer available because the (youtube )?account (has been|was|is) "
    r"(terminated|closed|suspended|deleted)",
    r"\b(uploader|owner) (has )?(closed|deleted) (their|its|the|his|her) (youtube )?account\b",
    r"\b(uploader|channel)('s account)? (has been|was|is) (terminated|closed|deleted|removed)",
    r"\bcopyright (claim|infringement|takedown|complaint)|\bon copyright grounds",
    r"\bno longer available (due to|because of) an? ([\w-]+ ){1,3}(claim|complaint)\b",
    rf"{_VIDEO}( id){{0,2}} (does not|doesn't|no longer) exists?\b",
)
# Said of who asks, or not as a fact: no death, unless in a sentence that follows it, as of appeals.
_DOUBTS = (
    r"\byour\b|\byou (have|are|need|must)\b"
    r"|\b(may|might|could|maybe|perhaps|possibly|probably|if|whether|unless)\b"
)
# Said of where the video is shown: no death, whatever else is said.
_ELSEWHERE = (
    r"\b(on|in) (this|other|another|your|an?) (web ?sites?|site|apps?|application|device|player"
    r"|browser|client)|restricted mode|try again|check back|reload"
)
_IS_DEAD = (
    rf"^(?!.*(?:{_ELSEWHERE}))(?:(?!{_DOUBTS}).)*?(?={'|'.join(_DEATHS)})"
    rf"(?!(?:(?![.!?] ).)*(?:{_DOUBTS}))"
)
_TITLES = (
    rf"{_VIDEO}( is|'s)?( \w+)? (unavailable|not available|isn't available)"
    rf"|{_VIDEO} isn't( \w+)? available|no longer available|drm protected"
    r"|\blive (event|stream|broadcast)|\bpremieres? in\b|being processed|processing this video"
)
_MACHINE = (
    r"no space left|disk quota|unable to (write|open for writing|rename)"
    r"|no connection adapters|redirect loop"
)
_PASSES = (
    r"HTTP Error (408|425|5\d\d)|(video data|got error): HTTP Error (404|410)"
    r"|timed? ?out|connection|reset by peer|refused|unreachable"
    r"|temporar|name resolution|incomplete ?read|more expected|bytes, expected"
    r"|did not get any data|downloaded file is empty|remote end|\bssl\b|\beof\b"
    r"|ffmpeg exited|network error|^not done after|try again later"
)
_RULES = tuple(
    (re.compile(pattern, re.IGNORECASE), made)
    for pattern, made in (
        *((pattern, Refusal(status, is_wall=True)) for pattern, status in _WALLS),
        *((pattern, Refusal(status)) for pattern, status in _CONDITIONS),
        (_PAGE, Refusal(Status.GONE)),
        (_SIGN_IN, Refusal(Status.BLOCKED, is_wall=True)),
        (_IS_DEAD, Refusal(Status.GONE)),
        (_MACHINE, Refusal(Status.FAILED)),
        (_PASSES, Refusal(Status.TRANSIENT)),
        (_TITLES, Refusal(Status.FAILED, is_unexplained=True)),
    )
)
_UNKNOWN = Refusal(Status.FAILED)
_HINTS = re.compile(
    r"[;,.]? *please report this issue on .*| \(caused by .*|\byou might want to use a VPN.*",
    re.IGNORECASE,
)
_BY_WORDS = {status for status in Status if status.subject == "site"} | {Status.FAILED}


def refusal(message: str) -> Refusal:
    """What a message of yt-dlp means for the video."""
    # An address of the user's, or a server's, may have any word in it.
    text = re.sub(r"\b[a-z][a-z0-9+.-]{0,20}://\S+", "", message[:_READ], flags=re.IGNORECASE)
    text = _without_hints(" ".join(text.split()).replace("\u2019", "'"))
    return next((made for pattern, made in _RULES if pattern.search(text)), _UNKNOWN)


def status_today(status: str, words: str | None) -> Refusal:
    """What a line of the ledger with `status` and the words `cleaned` means by today's rules.

    Statuses that are not learned from words stay. KeyError where there is no such status.
    """
    said = FORMER_NAMES.get(status) or parse_status(status)
    if not words or said not in _BY_WORDS:
        return Refusal(said)
    # Of numbers the rules know those of HTTP alone; a ledger may have as many others as lines.
    return _known(re.sub(r"(?<!HTTP Error )\b\d+", "0", words))


@functools.lru_cache(10_000)
def _known(words: str) -> Refusal:
    return refusal(words)


def refusals_sha256() -> str:
    """A hash of the rules, for the sidecars of tables that depend on them."""
    rules = [(pattern.pattern, made) for pattern, made in _RULES]
    return hashlib.sha256(repr((rules, _HINTS.pattern)).encode()).hexdigest()


def cleaned(message: str, youtube_id: str) -> str:
    """`message` on one line, safe to print, without id and yt-dlp's pleas: like ones are equal."""
    text = re.sub(r"\x1b\[[0-9;?]*[ -/]*[@-~]", "", message)
    text = printable(" ".join(text.split()))
    text = re.sub(r"^ERROR: ", "", text)
    text = re.sub(r"^\[[\w:.-]+\] ", "", text)
    text = text.replace(f"{youtube_id}: ", "").replace(youtube_id, "ID")
    text = _without_hints(text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _without_hints(text: str) -> str:
    """`text` without what yt-dlp adds to the words of a site."""
    return _HINTS.sub("", text).rstrip()
