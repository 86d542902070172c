"""What yt-dlp says, in its own words and in a server's, and what that means for a video."""

import pytest
from hypothesis import given, strategies as st

from k710.download.refusals import Refusal, cleaned, refusal

ID = "-hQrSt_9xyz"
WALL = {"blocked": Refusal("blocked", True), "transient": Refusal("transient", True)}


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (
            "blocked",
            "Sign in to confirm you\u2019re not a bot. Use --cookies",
        ),
        ("blocked", "unable to download video data: HTTP Error 403: Forbidden"),
        ("blocked", "Our systems have detected unusual traffic from your network"),
        ("transient", "[Errno -3] Temporary failure in name resolution"),
        ("transient", "Failed to resolve 'www.youtube.com' ([Errno -2] Name not known)"),
        ("transient", "Failed to establish a new connection: [Errno 101] Network is unreachable"),
        ("transient", "[Errno 111] Connection refused"),
        ("transient", "Tunnel connection failed: 407 Proxy Authentication Required"),
        ("transient", "Unable to download webpage: HTTP Error 429: Too Many Requests"),
        (
            "transient",
            "Video unavailable. This content isn\u2019t available, try again later. Your account "
            "has been rate-limited by YouTube for up to an hour",
        ),
    ],
)
def test_walls_are_of_the_address_and_no_video_is_dead(status: str, message: str) -> None:
    assert refusal(f"ERROR: [youtube] {ID}: {message}") == WALL[status]


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ("age", "Sign in to confirm your age. This video may be inappropriate for some users."),
        ("region", "The uploader has not made this video available in your country"),
        ("region", "Video unavailable. X has blocked it in your country on copyright grounds"),
        ("private", "Private video. Sign in if you've been granted access to this video."),
        ("private", "Join this channel to get access to members-only content like this video"),
        ("gone", "Video unavailable"),
        ("gone", "Video unavailable. This video is not available"),
        ("gone", "Video unavailable. This video has been removed by the uploader"),
        ("gone", "This video has been removed for violating YouTube's Terms of Service"),
        ("gone", "This video is no longer available because the account has been terminated."),
        (
            "gone",
            "Video unavailable. X, whose content it is, blocked it on copyright grounds",
        ),
        ("gone", "Unable to download webpage: HTTP Error 404: Not Found"),
        ("gone", "Unable to download webpage: HTTP Error 410: Gone"),
        ("transient", "Unable to download webpage: HTTP Error 500: Internal Server Error"),
        ("transient", "Unable to download API page: HTTP Error 503: Service Unavailable"),
        ("transient", "Got error: 1000 bytes read, 46930 more expected. Giving up after 2 retries"),
        ("transient", "Did not get any data blocks"),
        ("transient", "unable to download video data: HTTP Error 404: Not Found"),
        ("transient", "Got error: HTTP Error 410: Gone. Giving up after 2 retries"),
        ("transient", "The read operation timed out"),
        ("transient", "('Connection aborted.', RemoteDisconnected('Remote end closed'))"),
        ("transient", "[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred (_ssl.c:1006)"),
        ("failed", "unable to open for writing: [Errno 13] Permission denied"),
        ("failed", "Unsupported URL: http://127.0.0.1/x"),
        ("failed", "No connection adapters were found for 'file:///etc/passwd'"),
        ("failed", "Requested format is not available. Use --list-formats for available formats"),
        ("failed", "nsig extraction failed: Some formats may be missing"),
        ("failed", "what no rule knows"),
        ("failed", ""),
    ],
)
def test_what_is_said_of_a_video(status: str, message: str) -> None:
    assert refusal(f"ERROR: [youtube] {ID}: {message}") == Refusal(status)


# Users met it as the rate limit's own words: dead would be wrong for good.
def test_not_available_now_is_no_death() -> None:
    said = "Video unavailable. This content isn't available, try again later."
    assert refusal(said) == Refusal("transient", True)


def test_messages_that_differ_by_their_id_alone_are_equal() -> None:
    said = "ERROR: [youtube] {0}: Video unavailable (https://www.youtube.com/watch?v={0})"
    ids = (ID, "aaaaaaaaaaa", "-h_________")
    assert {cleaned(said.format(one), one) for one in ids} == {
        "Video unavailable (https://www.youtube.com/watch?v=ID)"
    }


def test_pleas_and_causes_are_left_out() -> None:
    said = (
        f"ERROR: [generic] {ID}: Unable to extract x; please report this issue on  https://x.y "
        "(caused by KeyError('x'))"
    )
    assert cleaned(said, ID) == "Unable to extract x"
    said = "HTTP Error 500: Server Error (caused by <HTTPError 500: Server Error>)"
    assert cleaned(said, ID) == "HTTP Error 500: Server Error"


def test_nothing_that_a_terminal_acts_on_is_left() -> None:
    said = "\x1b[31mred\x1b[0m \x1b]0;title\x07 two\nlines\r\n\u202eback [bold]%(id)s {id}\x00"
    assert (
        cleaned(said, ID) == "red \\x1b]0;title\\x07 two lines \\u202eback [bold]%(id)s {id}\\x00"
    )


@given(st.text(max_size=700))
def test_any_message_is_one_short_line_that_can_be_printed(message: str) -> None:
    text = cleaned(message, ID)
    assert text.isprintable() and len(text) <= 500
    assert refusal(message).status in ("transient", "blocked", "age", "region", "private") or (
        refusal(message).status in ("gone", "failed") and not refusal(message).is_wall
    )


@given(st.text(), st.text())
def test_a_message_with_its_id_is_one_without(before: str, after: str) -> None:
    assert ID not in cleaned(f"{before}{ID}{after}", ID)
