"""What yt-dlp says, in its own words, a site's and a server's, and what that means for a video."""

import pytest
from hypothesis import given, strategies as st

from k710.sources.refusals import Refusal, cleaned, refusal, status_today
from k710.statuses import Status, parse_status

ID = "-hQrSt_9xyz"
TITLE = "Video unavailable"


def told(words: str) -> Refusal:
    """What it means, and that the words as the ledger keeps them mean the same."""
    message = f"ERROR: [youtube] {ID}: {words}"
    made = refusal(message)
    assert refusal(cleaned(message, ID)) == made
    return made


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("blocked", "Sign in to confirm you\u2019re not a bot. Use --cookies"),
        ("blocked", "unable to download video data: HTTP Error 403: Forbidden"),
        ("blocked", "Unable to download webpage: HTTP Error 401: Unauthorized"),
        ("blocked", "Our systems have detected unusual traffic from your network"),
        ("blocked", "All player responses are invalid. Your IP is likely being blocked by Youtube"),
        ("blocked", "Please sign in. Use --cookies for the authentication"),
        ("blocked", "This video is only available for registered users. Use --cookies"),
        # Said of every video: to an account that is barred, behind a school's network, abroad.
        ("blocked", f"{TITLE}. This content isn\u2019t available."),
        ("blocked", f"{TITLE}. This content is not available"),
        (
            "blocked",
            f"{TITLE}. This video is restricted. Please check the Google Workspace administrator "
            "and/or the network administrator restrictions",
        ),
        ("blocked", "YouTube is not currently available in your country"),
        ("transient", "[Errno -3] Temporary failure in name resolution"),
        ("transient", "Failed to resolve 'www.youtube.com' ([Errno -2] Name not known)"),
        ("transient", "Failed to establish a new connection: [Errno 101] Network is unreachable"),
        ("transient", "[Errno 111] Connection refused"),
        ("transient", "Tunnel connection failed: 407 Proxy Authentication Required"),
        ("transient", "Unable to download webpage: HTTP Error 429: Too Many Requests"),
        ("transient", f"{TITLE}. This content isn't available, try again later."),
        (
            "transient",
            f"{TITLE}. This content isn\u2019t available, try again later. Your account "
            "has been rate-limited by YouTube for up to an hour",
        ),
    ],
)
def test_walls_are_of_the_address_and_no_video_is_dead(status: str, words: str) -> None:
    assert told(words) == Refusal(parse_status(status), is_wall=True)


@pytest.mark.parametrize(
    "words",
    [
        TITLE,
        "This video is not available",
        "This video isn\u2019t available anymore",
        f"{TITLE}. This video is not available",
        f"{TITLE}. This video is no longer available",
        f"{TITLE}. Playback on other websites has been disabled by the video owner",
        f"{TITLE}. This video contains content from X, who has blocked it from display on this "
        "website or application",
        f"{TITLE}. Watch on the latest version of YouTube.",
        f"{TITLE}. What nobody has seen so far",
        "This video is not available on this app",
        f"{TITLE}. This video may have been removed by the uploader",
        f"{TITLE}. If this video has been deleted, ask its owner",
        f"{TITLE}. If so, this video has been deleted. Ask its owner",
        f"{TITLE}. This video has been removed because it may have violated a policy. See why",
        f"{TITLE}. This video was deleted on your account. Nothing else is known",
        f"{TITLE}. You need another plan. This video has been removed from the free one",
        f"{TITLE}. This video has been removed. Watch it on another device",
        "This video is DRM protected",
        "This live event will begin in a few moments.",
        "Premieres in 5 hours",
        "We're processing this video. Check back later.",
    ],
)
def test_a_title_without_a_known_reason_is_no_death(words: str) -> None:
    assert told(words) == Refusal(Status.FAILED, is_unexplained=True)


@pytest.mark.parametrize(
    "words",
    [
        "This video has been removed by the uploader",
        "This video has been removed for violating YouTube's Terms of Service",
        "This video has been removed for violating YouTube's policy on nudity or sexual content.",
        "This video is no longer available because the account has been terminated.",
        "This video is no longer available because the YouTube account associated with this video "
        "has been terminated.",
        "The YouTube account associated with this video has been terminated due to multiple "
        "third-party notifications of copyright infringement.",
        "This video is no longer available because the uploader has closed their YouTube account.",
        "This video is no longer available due to a copyright claim by X & Sons Ltd.",
        "This video is no longer available due to a privacy claim by a third party",
        "X, whose content it is, blocked it on copyright grounds",
        "This video does not exist.",
        "Video was deleted",
        "This video has been removed for violating YouTube's policy on spam. If you're the owner "
        "of this video, you may appeal.",
        "This video has been removed by the uploader! Your subscriptions have others",
    ],
)
def test_a_known_reason_of_the_video_is_a_death_below_any_title(words: str) -> None:
    assert told(words) == told(f"{TITLE}. {words}") == Refusal(Status.GONE)


@pytest.mark.parametrize(
    "words",
    [
        "Your account has been terminated for violating our terms",
        "Your channel has been removed due to copyright infringement",
        "The requested video format was deleted from the player",
        "Support for this has been removed",
        "Vid\u00e9o supprim\u00e9e par la personne qui l'a mise en ligne",
        "Dieses Video ist nicht mehr verf\u00fcgbar",
        "\u3053\u306e\u52d5\u753b\u306f\u524a\u9664\u3055\u308c\u307e\u3057\u305f",
        "The following content is not available on this app.. Watch on the latest version",
        "The page needs to be reloaded.",
        "Please update the app",
        "Failed to extract any player response",
        "Only images are available for download",
        "Unable to download API page: HTTP Error 404: Not Found",
        "Unable to download webpage: HTTP Error 400: Bad Request",
        "Unable to download webpage: HTTP Error 451: Unavailable For Legal Reasons",
        "An extractor error has occurred. (caused by KeyError('removed'))",
        "Unsupported URL: http://127.0.0.1/this-video-has-been-removed",
        "Requested format is not available. Use --list-formats for available formats",
        "nsig extraction failed: Some formats may be missing",
        "unable to open for writing: [Errno 13] Permission denied",
        "No connection adapters were found for 'file:///etc/passwd'",
        "what no rule knows",
        "",
    ],
)
def test_what_no_rule_knows_is_pending(words: str) -> None:
    assert told(words) == Refusal(Status.FAILED)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("age", "Sign in to confirm your age. This video may be inappropriate for some users."),
        ("age", "This video is age-restricted and only available on YouTube."),
        ("region", "The uploader has not made this video available in your country"),
        ("region", f"{TITLE}. X has blocked it in your country on copyright grounds"),
        ("region", "This video is not available from your location due to geo restriction"),
        (
            "region",
            f"{TITLE}. The uploader has not made this video available in your country\n"
            "This video is available in Japan.\n"
            "You might want to use a VPN or a proxy server (with --proxy) to workaround.",
        ),
        ("private", "Private video. Sign in if you've been granted access to this video."),
        ("private", f"{TITLE}. This video is private"),
        ("private", "Join this channel to get access to members-only content like this video"),
        ("private", "This video is available to this channel's members on level: x"),
        ("private", "This video is only available to Music Premium members"),
        ("private", "This video requires payment to watch."),
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
        ("transient", "An error occurred. Please try again later. (Playback ID: x)"),
    ],
)
def test_what_is_said_of_a_video(status: str, words: str) -> None:
    assert told(words) == Refusal(parse_status(status))


def test_a_line_means_what_its_words_mean_today() -> None:
    for status in ("gone", "failed", "region", "ours"):  # what earlier versions called it
        assert status_today(status, TITLE) == Refusal(Status.FAILED, is_unexplained=True)
        assert status_today(status, "This video does not exist.") == Refusal(Status.GONE)
    assert status_today("gone", None) == Refusal(Status.GONE), "there are no words to go by"
    for status in (Status.OK, Status.DAMAGED, Status.EMPTY):
        assert status_today(status, "This video does not exist.") == Refusal(status)
    assert status_today("transient", "not done after 1800 s") == Refusal(Status.TRANSIENT)
    with pytest.raises(KeyError):
        status_today("of another version", None)


def test_messages_that_differ_by_their_id_alone_are_equal() -> None:
    said = "ERROR: [youtube] {0}: Video unavailable (https://www.youtube.com/watch?v={0})"
    ids = (ID, "aaaaaaaaaaa", "-h_________")
    assert {cleaned(said.format(one), one) for one in ids} == {
        "Video unavailable (https://www.youtube.com/watch?...)"
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
    made = refusal(message)
    assert made.status == Status.FAILED or not made.is_unexplained
    assert made.status in (Status.BLOCKED, Status.TRANSIENT) or not made.is_wall


@given(st.text(), st.text())
def test_a_message_with_its_id_is_one_without(before: str, after: str) -> None:
    assert ID not in cleaned(f"{before}{ID}{after}", ID)
