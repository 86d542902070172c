"""What is refused before anything is asked: settings, cookies, proxies, views."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from k710.download.options import YOUTUBE, DownloadOptions, site_name, with_environment
from k710.download.run import check_again, download_videos
from k710.errors import K710Error, StageError
from support.loopback import Loopback
from support.small_site import (
    VIEW,
    download,
    fetching,
    ffmpeg_on_path,
    snapshot,
    without_proxies,
    work_of,
)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    without_proxies(monkeypatch)
    with Loopback() as server:
        yield server


def refused(work: Path, how: DownloadOptions, **options: Any) -> str:
    before = snapshot(work)
    with pytest.raises((K710Error, ValueError)) as error:
        download_videos(options.pop("views", [VIEW]), work=work, options=how, **options)
    assert snapshot(work) == before
    return str(error.value)


def test_sections_without_ffmpeg_are_refused(
    server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = work_of(tmp_path, ["a"])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert refused(work, fetching(server, policy="sections")) == (
        "Sections are cut by the ffmpeg program, and there is none on PATH.\n"
        "Install ffmpeg, or use --fetch whole."
    )


@pytest.mark.parametrize(
    "text",
    [
        '[{"name": "session"}]',
        "# Netscape HTTP Cookie File\nonly one field\n",
        "# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\tsoon\tsession\tsecret\n",
        "",
        "\x1b[31m",
        b"\xff\xfe\x00",
    ],
)
def test_what_is_no_file_of_cookies_is_refused(
    server: Loopback, tmp_path: Path, text: str | bytes
) -> None:
    work = work_of(tmp_path, ["a"])
    path = tmp_path / "cookies.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    words = refused(work, fetching(server, cookies=str(path)))
    assert words == (
        f"{path} is no file of cookies in Netscape's format.\n"
        "Export them as such (cookies.txt) from a browser."
    )


def test_cookies_that_are_not_there_are_said(server: Loopback, tmp_path: Path) -> None:
    work = work_of(tmp_path, ["a"])
    words = refused(work, fetching(server, cookies=str(tmp_path / "none.txt")))
    assert words == f"{tmp_path}/none.txt can't be read: No such file or directory."


def test_views_that_are_not_there_are_said(server: Loopback, tmp_path: Path) -> None:
    work = work_of(tmp_path, ["a"])
    for views in (["k400/train", "k999/x\x1b"], []):
        assert "There are k400/train, k710/train." in refused(work, fetching(server), views=views)
    with pytest.raises(StageError, match="Build it: k710 build-manifest"):
        download(tmp_path / "none", fetching(server))
    assert not (tmp_path / "none").exists()


def test_a_status_that_each_run_tries_or_that_is_none_is_refused() -> None:
    for wrong in ("missing", "ok", "gonne\x1b"):
        with pytest.raises(
            ValueError, match=r"is none of truncated, empty, damaged, mismatched, gone, "
        ):
            check_again(["gone", wrong])


@pytest.mark.parametrize(
    "wrong",
    [
        {"url_template": "file:///etc/{id}"},
        {"url_template": "ytsearch:{id}"},
        {"url_template": "https://x/watch"},
        {"url_template": "https://x/{id}/{id}"},
        {"url_template": "http://[::1/{id}"},
        {"url_template": "http:///{id}"},
        {"url_template": "http://host:port/{id}"},
        {"url_template": "http://me:hu sh@host/{id}"},
        {"policy": "all"},
        {"workers": 0},
        {"walls": 0},
        {"retries": -1},
        {"sleep_s": -1.0},
        {"backoff_s": -1.0},
        {"pad_s": -1},
        {"timeout_s": 0.0},
        {"timeout_s": float("nan")},
        {"sleep_s": float("nan")},
        {"backoff_s": float("nan")},
        {"bytes_per_s": 0.0},
        {"bytes_per_s": float("nan")},
        {"short_side": 0},
        {"stall_s": 0.0},
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        DownloadOptions(**wrong)


def test_a_limit_below_one_is_refused(server: Loopback, tmp_path: Path) -> None:
    assert refused(work_of(tmp_path, ["a"]), fetching(server), limit=0) == (
        "limit (0) must be 1 or more"
    )


@pytest.mark.parametrize(
    "proxy",
    [
        *("host:8080", "ftp://host", "http://", "http://me:hush@", "http://host/path/hush"),
        *("http://me:hu sh@host", "http://me:hush@host:port", "http://me:hush@host\x1b", "-x"),
        "http://me:hush@[::1/",
    ],
)
def test_what_is_no_proxy_is_refused_without_a_word_of_it(proxy: str) -> None:
    with pytest.raises(ValueError) as error:
        DownloadOptions(proxies=("http://good:8080", proxy))
    assert str(error.value).startswith("a proxy is written like http://host:8080 or socks5://")
    assert "hush" not in str(error.value)


def test_proxies_of_every_kind_are_taken() -> None:
    for proxy in ("http://host", "https://a:b@host:1/", "socks5://[::1]:1080", "socks5h://h:1"):
        assert DownloadOptions(proxies=(proxy,)).proxies == (proxy,)


@pytest.mark.parametrize(
    ("variables", "url", "proxy"),
    [
        ({}, "http://host/{id}", None),
        ({"HTTP_PROXY": "http://a:1"}, "http://host/{id}", "http://a:1"),
        ({"http_proxy": "a:1"}, "https://host/{id}", "http://a:1"),
        ({"HTTPS_PROXY": "http://a:1"}, "http://host/{id}", None),
        ({"ALL_PROXY": "socks5://a:1"}, "https://host/{id}", "socks5://a:1"),
        ({"ALL_PROXY": "socks5://a:1", "NO_PROXY": "host"}, "https://me@host:2/{id}", None),
        ({"HTTPS_PROXY": "__noproxy__"}, "https://host/{id}", None),
    ],
)
def test_the_proxy_of_the_environment_is_that_of_yt_dlp(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], url: str, proxy: str | None
) -> None:
    without_proxies(monkeypatch)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    options = with_environment(DownloadOptions(url_template=url))
    assert options.proxies == ((proxy,) if proxy else ())
    named = DownloadOptions(url_template=url, proxies=("http://named:1",))
    assert with_environment(named) == named


@pytest.mark.parametrize(
    ("template", "name"),
    [
        (YOUTUBE, YOUTUBE),
        ("http://me:hush@host:1/a/{id}.mp4?t=hush", "http://...@host:1/a/{id}.mp4?..."),
        ("https://host/get?t=hush&file={id}.mp4&u=hush", "https://host/get?file={id}.mp4"),
        ("https://host/get?t=hush{id}", "https://host/get?..."),
        ("https://host/{id}#hush", "https://host/{id}#..."),
    ],
)
def test_a_site_is_called_by_what_is_no_secret(template: str, name: str) -> None:
    assert site_name(template) == name


def test_sections_go_past_no_proxy(
    server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ffmpeg_on_path(tmp_path / "bin", monkeypatch)
    work = work_of(tmp_path, ["a"])
    how = fetching(server, policy="sections", proxies=("http://a:1", "socks5://b:1"))
    assert refused(work, how).startswith("The ffmpeg program, which cuts sections, goes past")
