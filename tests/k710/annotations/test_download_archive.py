"""Downloads from a real server on 127.0.0.1 that cuts, lies, stalls and refuses."""

import hashlib
import ssl
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings, strategies as st

from k710.annotations import download_archive as http_download
from k710.annotations.fetch import fetch_annotations
from k710.errors import SourceError
from support.loopback import Answer, Loopback
from support.small_editions import (
    an_edition,
    assert_fetched,
    assert_nothing,
    fetch_k400,
    packed,
    write_sources,
)

pytest_plugins = ["support.edition_fixtures"]


def test_a_cut_download_goes_on_where_it_stopped(
    server: Loopback, sources: Path, root: Path
) -> None:
    body = packed(an_edition())
    server.tell(
        "/k400.tar.gz",
        Answer(body=body, cut=40_000),
        Answer(body=body, cut=10_000),
        Answer(body=body),
    )
    fetch_k400(root, sources)
    assert_fetched(root, an_edition())
    assert [seen.range for seen in server.seen] == [None, "bytes=40000-", "bytes=50000-"]
    assert [seen.headers.get("If-Range") for seen in server.seen] == [None, '"v1"', '"v1"']
    assert sum(seen.sent for seen in server.seen) == len(body)


def test_a_later_run_goes_on_where_the_last_one_gave_up(
    server: Loopback, sources: Path, root: Path
) -> None:
    body = packed(an_edition())
    url = server.tell("/k400.tar.gz", Answer(body=body, cut=40_000), Answer(body=body, cut=0))
    with pytest.raises(SourceError) as error:
        fetch_k400(root, sources)
    assert str(error.value) == (
        f"{url} could not be fetched, after 4 tries: the connection ended after 40,000 of "
        f"{len(body):,} bytes.\nThe first 40,000 bytes are kept: run the same command again later, "
        "or name a mirror with --sources FILE."
    )
    server.tell("/k400.tar.gz", Answer(body=body))
    fetch_k400(root, sources)
    assert_fetched(root, an_edition())
    assert server.seen[-1].sent == len(body) - 40_000


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_a_date_stands_in_for_a_strong_etag(
    server: Loopback, sources: Path, root: Path, etag: str | None
) -> None:
    date = "Tue, 15 Nov 1994 12:45:26 GMT"
    answer = Answer(body=packed(an_edition()), etag=etag, modified=date)
    server.tell("/k400.tar.gz", Answer(body=answer.body, etag=etag, modified=date, cut=9), answer)
    fetch_k400(root, sources)
    assert server.seen[1].headers["If-Range"] == date
    assert server.seen[1].sent == len(answer.body) - 9


def test_without_a_validator_a_download_starts_again(
    server: Loopback, sources: Path, root: Path
) -> None:
    body = packed(an_edition())
    server.tell(
        "/k400.tar.gz", Answer(body=body, etag=None, cut=40_000), Answer(body=body, etag=None)
    )
    fetch_k400(root, sources)
    assert_fetched(root, an_edition())
    assert [seen.range for seen in server.seen] == [None, None]


@pytest.mark.parametrize("knows_if_range", [True, False])
def test_an_archive_that_changed_on_the_way_starts_again(
    server: Loopback, sources: Path, root: Path, knows_if_range: bool
) -> None:
    new = Answer(body=packed(an_edition(seed=1)), etag='"v2"', knows_if_range=knows_if_range)
    server.tell("/k400.tar.gz", Answer(body=packed(an_edition()), cut=40_000), new)
    fetch_k400(root, sources)
    assert_fetched(root, an_edition(seed=1))
    assert server.seen[1].range == "bytes=40000-"


def test_an_archive_that_became_shorter_starts_again(
    server: Loopback, sources: Path, root: Path
) -> None:
    short = packed(an_edition(seed=1, size=10))
    server.tell("/k400.tar.gz", Answer(body=packed(an_edition()), cut=40_000), Answer(body=short))
    fetch_k400(root, sources)
    assert_fetched(root, an_edition(seed=1, size=10))
    assert [seen.range for seen in server.seen] == [None, "bytes=40000-", None]


def test_a_part_that_begins_elsewhere_is_not_added(
    server: Loopback, sources: Path, root: Path
) -> None:
    body = packed(an_edition())
    wrong = Answer(body=body, content_range=f"bytes 39999-{len(body) - 1}/{len(body)}")
    server.tell("/k400.tar.gz", Answer(body=body, cut=40_000), wrong, Answer(body=body))
    fetch_k400(root, sources)
    assert_fetched(root, an_edition())
    assert [seen.range for seen in server.seen] == [None, "bytes=40000-", None]


def test_a_part_of_another_address_is_not_gone_on_with(
    server: Loopback, sources: Path, root: Path
) -> None:
    body = packed(an_edition())
    server.tell("/k400.tar.gz", Answer(body=body, cut=40_000), Answer(status=403))
    with pytest.raises(SourceError, match="403"):
        fetch_k400(root, sources)
    write_sources(sources, server.tell("/mirror.tar.gz", Answer(body=body)))
    fetch_k400(root, sources)
    assert server.seen[-1].range is None
    assert_fetched(root, an_edition())


@pytest.mark.parametrize(
    "bad",
    [
        Answer(status=0),
        Answer(status=503, body=b"busy"),
        Answer(status=429),
        Answer(status=408),
        Answer(status=206, body=b"never asked for", content_range="bytes 9-23/24"),
        Answer(status=206, body=b"no number", content_range=f"bytes 0-8/{'9' * 5000}"),
    ],
    ids=lambda answer: str(answer.status),
)
def test_what_may_pass_is_tried_again(
    server: Loopback, sources: Path, root: Path, bad: Answer
) -> None:
    server.tell("/k400.tar.gz", bad, bad, Answer(body=packed(an_edition())))
    fetch_k400(root, sources)
    assert_fetched(root, an_edition())
    assert len(server.seen) == 3


def test_a_server_that_stays_busy_is_named_in_the_end(
    server: Loopback, sources: Path, root: Path
) -> None:
    url = server.tell("/k400.tar.gz", Answer(status=503))
    with pytest.raises(SourceError) as error:
        fetch_k400(root, sources)
    assert str(error.value) == (
        f"{url} could not be fetched, after 4 tries: the server answered 503 "
        "'Service Unavailable'.\n"
        "Run the same command again later, or name a mirror with --sources FILE."
    )
    assert len(server.seen) == 4


def test_pauses_grow_and_begin_anew_when_bytes_have_come(
    server: Loopback, sources: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(http_download, "PAUSES_S", (1.0, 2.0, 4.0))
    monkeypatch.setattr(http_download.time, "sleep", pauses.append)
    body = packed(an_edition())
    busy = Answer(status=500)
    server.tell("/k400.tar.gz", busy, busy, Answer(body=body, cut=9), busy, Answer(body=body))
    fetch_k400(root, sources)
    assert pauses == [1.0, 2.0, 1.0, 2.0]


def test_a_server_that_always_starts_again_and_always_breaks_is_given_up(
    server: Loopback, sources: Path, root: Path
) -> None:
    server.tell("/k400.tar.gz", Answer(body=packed(an_edition()), knows_range=False, cut=40_000))
    with pytest.raises(SourceError, match="after 4 tries: the connection ended after 40,000 of"):
        fetch_k400(root, sources)


def test_silence_is_a_broken_connection(
    server: Loopback, sources: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_download, "TIMEOUT_S", 0.1)
    body = packed(an_edition())
    server.tell("/k400.tar.gz", Answer(body=body, stall=40_000), Answer(body=body))
    fetch_k400(root, sources)
    assert server.seen[1].range == "bytes=40000-"
    server.tell("/k400.tar.gz", Answer(body=body, stall=0))
    (root / "kinetics400/train.csv").unlink()
    with pytest.raises(SourceError, match="tries: timed out"):
        fetch_k400(root, sources)


def test_no_server_at_all(sources: Path, root: Path) -> None:
    with Loopback() as gone:
        url = gone.tell("/x", Answer())
    with pytest.raises(SourceError, match=r"after 4 tries: Connection refused\.\nRun the same"):
        fetch_k400(root, write_sources(sources, url))


def test_without_a_length_the_end_of_the_body_is_the_end(
    server: Loopback, sources: Path, root: Path
) -> None:
    body = packed(an_edition())
    totals = set()
    server.tell("/k400.tar.gz", Answer(body=body, length=None))
    fetch_annotations(
        root,
        editions=["k400"],
        sources=sources,
        on_progress=lambda edition, done, total: totals.add(total),
    )
    assert totals == {None}
    assert_fetched(root, an_edition())


def test_a_length_that_is_too_large_ends_where_the_bytes_end(
    server: Loopback, sources: Path, root: Path
) -> None:
    body = packed(an_edition())
    server.tell("/k400.tar.gz", Answer(body=body, length=len(body) + 99))
    fetch_k400(root, sources)
    assert_fetched(root, an_edition())
    assert server.seen[1].range == f"bytes={len(body)}-"


@pytest.mark.parametrize("length", [None, 40_000])
def test_a_cut_that_no_length_betrays_is_seen_when_unpacked(
    server: Loopback, sources: Path, root: Path, length: int | None
) -> None:
    body = packed(an_edition())
    url = server.tell("/k400.tar.gz", Answer(body=body, length=length, cut=40_000))
    with pytest.raises(SourceError) as error:
        fetch_k400(root, sources)
    assert str(error.value) == (
        f"{url} is damaged or cut short: Compressed file ended before the end-of-stream marker was "
        f"reached.\nName another mirror with --sources FILE, or put the lists into "
        f"{root / 'kinetics400'} by hand and leave k400 out."
    )
    assert_nothing(root)


@settings(max_examples=40)
@given(cuts=st.lists(st.integers(1, 30_000), max_size=12), resumes=st.booleans())
@pytest.mark.usefixtures("quick")
def test_whatever_the_cuts_the_same_files_arrive(cuts: list[int], resumes: bool) -> None:
    files = an_edition(size=20_000)
    body = packed(files)
    etag = '"v1"' if resumes else None
    answers = [Answer(body=body, cut=at, etag=etag) for at in (cuts if resumes else cuts[:3])]
    with tempfile.TemporaryDirectory() as folder, Loopback() as server:
        sources = write_sources(
            Path(folder, "s.toml"),
            server.tell("/a", *answers, Answer(body=body, etag=etag)),
        )
        fetch_k400(Path(folder, "annotations"), sources)
        assert_fetched(Path(folder, "annotations"), files)
        if resumes:
            assert sum(seen.sent for seen in server.seen) == len(body)


@pytest.mark.parametrize("status", [204, 304, 401, 404])
def test_a_refusal_is_told_at_once(
    server: Loopback, sources: Path, root: Path, status: int
) -> None:
    url = server.tell("/k400.tar.gz", Answer(status=status))
    with pytest.raises(SourceError) as error:
        fetch_k400(root, sources)
    first, second = str(error.value).split("\n")
    assert first.startswith(f"{url} was refused with {status} '")
    assert second == (
        f"Name another mirror with --sources FILE, or put the lists into {root / 'kinetics400'} "
        "by hand and leave k400 out."
    )
    assert len(server.seen) == 1
    assert_nothing(root)


def test_redirects_to_http_are_followed_with_the_range(
    server: Loopback, sources: Path, root: Path
) -> None:
    body = packed(an_edition())
    server.tell("/elsewhere", Answer(body=body, cut=40_000), Answer(body=body))
    server.tell("/k400.tar.gz", Answer(status=302, location="/elsewhere"))
    fetch_k400(root, sources)
    assert_fetched(root, an_edition())
    assert [(seen.path, seen.range) for seen in server.seen[2:]] == [
        ("/k400.tar.gz", "bytes=40000-"),
        ("/elsewhere", "bytes=40000-"),
    ]


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/x", "/k400.tar.gz"])
def test_redirects_elsewhere_are_not_followed(
    server: Loopback, sources: Path, root: Path, location: str
) -> None:
    url = server.tell("/k400.tar.gz", Answer(status=302, location=location))
    with pytest.raises(SourceError) as error:
        fetch_k400(root, sources)
    words = str(error.value)
    assert words.startswith(f"{url} leads where it can't be followed: 302 ")
    assert location in words
    assert_nothing(root)


def test_no_step_down_from_https_to_http() -> None:
    request = urllib.request.Request("https://example.org/a")
    with pytest.raises(urllib.error.HTTPError) as error:
        http_download._Replies().redirect_request(
            request, None, 302, "Found", {}, "http://example.org/a"
        )
    assert error.value.reason == "Found, to http://example.org/a"
    error.value.close()


def test_a_bad_certificate_is_not_tried_again(sources: Path, root: Path) -> None:
    cause = ssl.SSLCertVerificationError(1, "certificate verify failed: self-signed certificate")
    refusal = urllib.error.URLError(cause)
    with (
        mock.patch.object(urllib.request.OpenerDirector, "open", side_effect=refusal) as opened,
        pytest.raises(SourceError, match=r"can't prove who it is: certificate .*: self-signed"),
    ):
        fetch_k400(root, sources)
    assert opened.call_count == 1


def test_a_page_in_place_of_the_archive_is_quoted(
    server: Loopback, sources: Path, root: Path
) -> None:
    page = b"<!doctype html>\n<html><title>Quota\x1b[2J exceeded</title><p>Try   later</html>"
    url = server.tell("/k400.tar.gz", Answer(body=page))
    with pytest.raises(SourceError) as error:
        fetch_k400(root, sources)
    assert str(error.value).startswith(
        f"{url} sent no .tar.gz, but something that begins "
        "'Quota\\x1b[2J exceeded Try later'.\nName another mirror"
    )
    assert_nothing(root)


def test_an_endless_body_is_cut_off(
    server: Loopback, sources: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_download, "MAX_ARCHIVE_BYTES", 50_000)
    server.tell("/k400.tar.gz", Answer(body=packed(an_edition()), length=None))
    with pytest.raises(SourceError, match="sends more than 50,000 bytes, too much for lists"):
        fetch_k400(root, sources)
    assert_nothing(root)


def test_the_expected_hash(server: Loopback, sources: Path, root: Path) -> None:
    body = packed(an_edition())
    url = server.tell("/k400.tar.gz", Answer(body=body))
    write_sources(sources, url, sha256="0" * 64)
    is_so = hashlib.sha256(body).hexdigest()
    with pytest.raises(SourceError) as error:
        fetch_k400(root, sources)
    assert f"{url} has the SHA-256 {is_so}, and {'0' * 64} was expected.\n" in str(error.value)
    assert_nothing(root)

    write_sources(sources, url, sha256=is_so.upper())
    assert not fetch_k400(root, sources).already_there
    assert fetch_k400(root, sources).already_there

    write_sources(sources, url, sha256="0" * 64)
    with pytest.raises(SourceError, match="was expected"):
        fetch_k400(root, sources)
    assert_fetched(root, an_edition())
