"""Words of errors: safe to print, whatever they quote."""

import re

import pytest
from hypothesis import given, strategies as st

from k710 import errors
from k710.errors import K710Error, StageError, printable, shown, without_secrets


def test_every_error_can_be_caught_as_one() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    kinds = [kind for kind in kinds if issubclass(kind, Exception)]
    assert len(kinds) > 5 and all(issubclass(kind, K710Error) for kind in kinds)


@given(st.text())
def test_nothing_that_is_quoted_acts_on_a_terminal(text: str) -> None:
    for safe in (shown(text), printable(text)):
        assert safe.isprintable()
    assert len(shown(text, limit=20)) <= 2 + 10 * 20


def test_what_can_be_printed_stays_as_it_is() -> None:
    assert printable("a caf\xe9, \u65e5\u672c") == "a caf\xe9, \u65e5\u672c"
    assert printable("a\x1b[31mb\n") == "a\\x1b[31mb\\n"
    assert shown("it") == "'it'"
    assert shown("x" * 100, limit=10) == "'xxxxxxx...'"


def test_what_has_no_text_is_shown_by_its_kind() -> None:
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    assert shown(nested) == "'<list>'"
    assert shown(10**5000) == "'<int>'"


# --- secrets of URLs

ODD = st.text("ab1%:@/?#&=+-._~!$'(),;[]\u00e9", max_size=6)
URLS = st.builds(
    "{}://{}@{}{}?{}".format,
    st.sampled_from(["http", "HTTPS", "s3", "socks5h", "simplecache::http", "a+b"]),
    # After a port and a /, or a host and a /, there is a path: it is no password by any reading.
    st.builds("{}:{}hush{}".format, st.text("ab%-", max_size=4), ODD, ODD).filter(
        lambda user: not re.search(r":\d+[/?#'\"]|@.*[/?#]|//", user)
    ),
    st.sampled_from(["host", "127.0.0.1:80", "[::1]:8080", "b\u00fccket"]),
    st.sampled_from(["", "/", "/a/{id}.mp4", "/a@b/c"]),
    st.builds("{}=hush{}&v=hush".format, st.text("ab", min_size=1), ODD),
)


AROUND = ["{}", "'{}'", "GET {}: 404 (caused by <'{}'>)", "--proxy={} ", "{}\n{}"]


@given(URLS, st.sampled_from(AROUND))
def test_no_secret_of_a_url_is_shown_whatever_it_stands_in(url: str, text: str) -> None:
    said = text.replace("{}", url)
    public = without_secrets(said)
    assert "hush" not in public and without_secrets(public) == public
    assert public.count("://") >= 1
    for shows in (shown(said, limit=10_000), printable(said), str(StageError(said))):
        assert "hush" not in shows


@given(st.text())
def test_what_is_no_url_stays_as_it_is(text: str) -> None:
    text = text.replace(":/", ":")
    assert without_secrets(text) == text


@pytest.mark.parametrize(
    ("said", "public"),
    [
        ("http://me:hush@host:80/a/b.tar?t=hush", "http://...@host:80/a/b.tar?..."),
        ("url='http://host/a?t=hush')", "url='http://host/a?...')"),
        ("http://host/a#hush, or so", "http://host/a#..., or so"),
        ("s3://KEY:a/b+c=@bucket/k710", "s3://...@bucket/k710"),
        ("/here/http:/me:hush@host/a", "/here/http:/...@host/a"),  # as pathlib has it
        ("Max retries with url: /a?t=hush (x)", "Max retries with url: /a?... (x)"),
        ("http://host:8080/@me/a@b", "http://host:8080/@me/a@b"),
        ("is it http://host/a?", "is it http://host/a?"),
        ("/a/what?.mp4 and a:b@c", "/a/what?.mp4 and a:b@c"),
    ],
)
def test_what_a_url_leads_to_can_be_seen(said: str, public: str) -> None:
    assert without_secrets(said) == public
