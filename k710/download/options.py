"""How videos are fetched: what the user chose, checked before anything is asked."""

import math
import re
import shutil
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import urlsplit

from k710.errors import SourceError, StageError, shown, without_secrets

__all__ = [
    "YOUTUBE",
    "DownloadOptions",
    "Policy",
    "ffmpeg_keeps_to",
    "refuse_unready",
    "site_name",
    "with_environment",
]

YOUTUBE = "https://www.youtube.com/watch?v={id}"
Policy = Literal["auto", "whole", "sections"]
_WEB = ("http", "https")
_PROXIES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")


@dataclass(frozen=True, slots=True)
class DownloadOptions:
    """How videos are fetched; the defaults are careful with a site that counts."""

    url_template: str = YOUTUBE  # {id} stands for the YouTube id
    policy: Policy = "auto"  # whole, sections, or whichever should be there first
    short_side: int = 320  # px: the smallest stream that has as many is taken
    audio: bool = False
    pad_s: int = 5  # around the window of a section
    cookies: str | None = None  # a file in Netscape's format
    proxies: tuple[str, ...] = ()  # taken in turn; none: this machine's own address
    address: str = "this"  # machines that give the same name share one pace
    sleep_s: float = 5.0  # from one start to the next, for each address
    bytes_per_s: float | None = None  # for each address
    workers: int = 4
    retries: int = 3  # of what may pass
    backoff_s: float = 5.0  # before the first retry; doubles
    walls: int = 10  # in a row, after which an address is left alone
    stall_s: float = 30.0  # without a byte, after which a connection counts as dead
    timeout_s: float = 1800.0  # after which an attempt is killed
    keep: bool = True  # videos, when all that they were fetched for is stored

    def __post_init__(self) -> None:
        if self.url_template.count("{id}") != 1 or not _is_url(self.url_template, _WEB):
            raise ValueError(
                f"{shown(self.url_template)} must be an http(s) address with {{id}} in it, once"
            )
        for proxy in self.proxies:
            _refuse_bad_proxy(proxy)
        if self.policy not in get_args(Policy):
            raise ValueError(f"{shown(self.policy)} is none of {', '.join(get_args(Policy))}")
        if self.workers < 1 or self.walls < 1 or self.retries < 0:
            raise ValueError("workers and walls must be 1 or more, and retries 0 or more")
        for number in (self.sleep_s, self.backoff_s, self.pad_s):
            if not 0 <= number < math.inf:  # nan neither
                raise ValueError("sleep_s, backoff_s and pad_s must not be below 0")
        rate = 1.0 if self.bytes_per_s is None else self.bytes_per_s
        for number in (self.timeout_s, self.stall_s, self.short_side, rate):
            if not 0 < number < math.inf:
                raise ValueError("timeout_s, stall_s, short_side and bytes_per_s must be above 0")


def _refuse_bad_proxy(proxy: str) -> None:
    """ValueError that does not repeat it: it may hold a password."""
    if not _is_url(proxy, _PROXIES) or urlsplit(proxy).path not in ("", "/"):
        raise ValueError(
            "a proxy is written like http://host:8080 or socks5://name:password@host:1080, with "
            "% escapes for / @ : in name and password"
        )


def _is_url(text: str, schemes: tuple[str, ...]) -> bool:
    """Whether it is an address with a host, of one of these schemes."""
    try:
        parts = urlsplit(text)
        is_good = parts.scheme in schemes and bool(parts.hostname)
        is_good = is_good and (parts.port is None or parts.port > 0)
    except ValueError:  # such as http://[::1/
        return False
    return is_good and not re.search(r"[\s\x00-\x1f\x7f]", text)


def site_name(url_template: str) -> str:
    """What the ledger calls a template: no user part, and of the query what `{id}` stands in."""
    address, mark, query = without_secrets(url_template).partition("?")
    kept = re.search(r"[?&]([^?&#=]*=\{id\}(\.\w{1,4})?)(?=[&#]|$)", url_template)
    return f"{address}?{kept[1]}" if mark and kept else f"{address}{mark}{query}"


def with_environment(options: DownloadOptions) -> DownloadOptions:
    """`options`, with the proxy that the environment has for the site, where they name none.

    StageError where the environment's is no proxy.
    """
    from urllib.request import getproxies, proxy_bypass  # 40 ms, and `k710 --help` is here too

    parts, proxies = urlsplit(options.url_template), getproxies()
    if options.proxies or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return options
    # As yt-dlp: http_proxy is for https too, a bare host is an http:// one.
    proxy = proxies.get(parts.scheme) or proxies.get("http") or proxies.get("all")
    if not proxy or proxy == "__noproxy__":
        return options
    try:
        return replace(options, proxies=(proxy if "://" in proxy else f"http://{proxy}",))
    except ValueError as error:
        raise StageError(
            f"HTTP_PROXY, HTTPS_PROXY or ALL_PROXY in the environment names no proxy: {error}.\n"
            "Mend or unset it, or name one with --proxy."
        ) from error


def ffmpeg_keeps_to(proxies: Iterable[str]) -> bool:
    """Whether the ffmpeg program takes these proxies: others it goes past, without a word."""
    return all(urlsplit(proxy).scheme == "http" for proxy in proxies)


def refuse_unready(options: DownloadOptions) -> None:
    """StageError or SourceError where this machine can't fetch so."""
    has_ffmpeg = shutil.which("ffmpeg") is not None
    if options.policy == "sections" and not has_ffmpeg:
        raise StageError(
            "Sections are cut by the ffmpeg program, and there is none on PATH.\n"
            "Install ffmpeg, or use --fetch whole."
        )
    if options.audio and not has_ffmpeg:
        raise StageError(
            "Sound often comes as a stream of its own, which the ffmpeg program joins to the "
            "pictures, and there is none on PATH.\nInstall ffmpeg, or leave --audio out."
        )
    if options.policy == "sections" and not ffmpeg_keeps_to(options.proxies):
        raise StageError(
            "The ffmpeg program, which cuts sections, goes past proxies that aren't http:// ones.\n"
            "Use --fetch whole, or http:// proxies."
        )
    if options.cookies is not None:
        _refuse_bad_cookies(Path(options.cookies))


def _refuse_bad_cookies(path: Path) -> None:
    from http.cookiejar import LoadError, MozillaCookieJar  # 30 ms, and `k710 --help` is here too

    try:
        with warnings.catch_warnings(action="ignore"):  # it calls a bad line a bug of its own
            MozillaCookieJar().load(str(path), ignore_discard=True, ignore_expires=True)
    except (LoadError, UnicodeDecodeError) as error:  # whose text may have a cookie in it
        raise SourceError(
            f"{path} is no file of cookies in Netscape's format.\n"
            "Export them as such (cookies.txt) from a browser."
        ) from error
    except OSError as error:
        raise SourceError(f"{path} can't be read: {error.strerror}.") from error
