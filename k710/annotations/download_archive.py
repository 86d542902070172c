"""Download an archive over HTTP. What broke off is gone on with, in a later run too.

The server is not trusted: not with its addresses, nor its lengths, nor that it sends what it sent
before. Not covered: whether what came is an archive beyond its first two bytes; `unpack` says.
"""

import hashlib
import http.client
import logging
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import msgspec

from k710.annotations.unpack import BadArchive
from k710.errors import SourceError, printable, shown, without_secrets
from k710.files import sha256_of, write_json

__all__ = ["Download", "Refused", "download"]

log = logging.getLogger(__name__)

OnBytes = Callable[[int, int | None], None]
"""Called with the bytes so far, and all bytes of the archive where the server tells."""

PAUSES_S = (1.0, 2.0, 4.0, 8.0)  # between tries; from the first again when bytes have come
TIMEOUT_S = 30.0  # without a byte
MAX_ARCHIVE_BYTES = 2 * 1024**3
_CHUNK_BYTES = 64 * 1024
_GZIP_MAGIC = b"\x1f\x8b"
_NET_ERRORS = (OSError, http.client.HTTPException, ValueError)


class Refused(Exception):
    """Why the server does not give an archive, worded to go on after its URL."""


class _Broken(Exception):
    """Why a try failed that is worth another one."""


@dataclass(frozen=True, slots=True)
class Download:
    """An archive on a server, and what of it is here."""

    url: str
    part: Path  # the archive, or as much of it as has come
    sha256: str | None = None  # that it must have, in lower case; None takes any

    @property
    def name(self) -> str:
        """The URL as it is shown and written down: two that differ have two names."""
        public = without_secrets(self.url)
        if public == self.url:
            return public
        return f"{public} ({hashlib.sha256(self.url.encode()).hexdigest()[:12]})"

    def accepts(self, sha256: str) -> bool:
        """Whether an archive with this SHA-256 may be the one."""
        return self.sha256 is None or self.sha256 == sha256

    def remember(self, validator: str) -> None:
        """Note what `part` is a part of, so that `kept` can tell. Without a validator it can't."""
        write_json(self._origin_path, {"url": self.name, "validator": validator})

    def kept(self) -> tuple[int, str]:
        """How many bytes an earlier try left, and the validator to go on from there with.

        0 and "" where there are none, or where nothing vouches for them.
        """
        try:
            origin = msgspec.json.decode(self._origin_path.read_bytes(), type=dict[str, str])
            if origin.get("url") == self.name and (validator := origin.get("validator")):
                return self.part.stat().st_size, validator
        except (FileNotFoundError, ValueError, RecursionError):
            pass
        return 0, ""

    def forget(self) -> None:
        """Remove the download: first what vouches for the bytes, then the bytes."""
        self._origin_path.unlink(missing_ok=True)
        self.part.unlink(missing_ok=True)

    @property
    def _origin_path(self) -> Path:
        return self.part.with_name(self.part.name + ".json")


def download(archive: Download, on_bytes: OnBytes) -> str:
    """Download what is missing of `archive.part`; returns the SHA-256 of the whole.

    Refused: the server does so. SourceError: it fails at every try. BadArchive: what came is too
    long, no gzip file, or has another hash than the one expected.
    """
    tries = most_bytes = failures = 0  # failures in a row that brought nothing new
    while True:
        tries += 1
        try:
            _try_once(archive, on_bytes)
            break
        except _Broken as broken:
            num_bytes, _ = archive.kept()
            if num_bytes > most_bytes:
                most_bytes, failures = num_bytes, 0
            if failures == len(PAUSES_S):
                again = f"The first {num_bytes:,} bytes are kept: run" if num_bytes else "Run"
                raise SourceError(
                    f"{archive.name} could not be fetched, after {tries} tries: {broken}.\n"
                    f"{again} the same command again later, or name a mirror with --sources FILE."
                ) from broken
            log.info("%s: %s; again in %s s", archive.name, broken, PAUSES_S[failures])
            time.sleep(PAUSES_S[failures])
            failures += 1
    return _check(archive)


def _try_once(archive: Download, on_bytes: OnBytes) -> None:
    """Ask for what is missing and append it. Done if it returns; _Broken if more is to come."""
    start, validator = archive.kept()
    headers = {"Range": f"bytes={start}-", "If-Range": validator} if start else {}
    with _open(archive, headers) as reply:
        status = reply.status
        first, total = _content_range(reply)
        if status == 200:
            _receive(archive, reply, start=0, total=reply.length, on_bytes=on_bytes)
        elif status == 206 and first == start and (start == 0 or _is_of(reply, validator)):
            _receive(archive, reply, start=start, total=total, on_bytes=on_bytes)
        elif status == 416 and start and total == start:  # nothing is missing
            on_bytes(start, total)
        elif status == 206 or (status == 416 and start):
            archive.forget()
            raise _Broken(f"the rest of the archive was asked for, and another came ({status})")
        elif status in (408, 429) or status >= 500:
            raise _Broken(f"the server answered {status} {shown(reply.reason)}")
        else:
            raise Refused(f"was refused with {status} {shown(reply.reason)}")


def _receive(
    archive: Download,
    reply: http.client.HTTPResponse,
    *,
    start: int,
    total: int | None,
    on_bytes: OnBytes,
) -> None:
    if start == 0:
        archive.forget()
    num_bytes = start
    with archive.part.open("ab") as file:
        if start == 0:
            archive.remember(_validator(reply))
        on_bytes(num_bytes, total)
        while chunk := _read(reply):
            num_bytes += len(chunk)
            if num_bytes > MAX_ARCHIVE_BYTES:
                raise BadArchive(f"sends more than {MAX_ARCHIVE_BYTES:,} bytes, too much for lists")
            file.write(chunk)
            on_bytes(num_bytes, total)
    if total is not None and num_bytes < total:
        raise _Broken(f"the connection ended after {num_bytes:,} of {total:,} bytes")


def _check(archive: Download) -> str:
    with archive.part.open("rb") as file:
        head = file.read(4096)
    if not head.startswith(_GZIP_MAGIC):
        page = " ".join(re.sub(rb"<[^>]*>", b" ", head).decode("utf-8", "replace").split())
        raise BadArchive(f"sent no .tar.gz, but something that begins {shown(page)}")
    sha256 = sha256_of(archive.part)
    if not archive.accepts(sha256):
        raise BadArchive(f"has the SHA-256 {sha256}, and {archive.sha256} was expected")
    return sha256


class _Replies(urllib.request.HTTPRedirectHandler):
    """Gives back every reply whatever its status, and raises HTTPError for a redirect only."""

    def http_error_default(self, req: object, fp: IO[bytes], *_: object) -> IO[bytes]:
        return fp

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        # urllib follows to ftp: too, and from https: down to http:, where anyone can write along.
        if not newurl.startswith("https:" if req.type == "https" else ("http:", "https:")):
            raise urllib.error.HTTPError(newurl, code, f"{msg}, to {newurl}", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(archive: Download, headers: dict[str, str]) -> http.client.HTTPResponse:
    opener = urllib.request.OpenerDirector()  # build_opener would add file:, ftp: and data:
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPErrorProcessor,
        _Replies,
    ):
        opener.add_handler(handler())
    opener.addheaders = [("User-Agent", f"k710/{metadata.version('k710')}")]
    request = urllib.request.Request(archive.url, headers=headers)
    try:
        reply: http.client.HTTPResponse = opener.open(request, timeout=TIMEOUT_S)
        return reply
    except urllib.error.HTTPError as error:
        error.close()
        why = f"leads where it can't be followed: {error.code} {shown(error.reason)}"
        raise Refused(why) from error
    except _NET_ERRORS as error:
        if isinstance(getattr(error, "reason", None), ssl.SSLCertVerificationError):
            raise Refused(f"can't prove who it is: {_word(error)}") from error
        raise _Broken(_word(error)) from error


def _read(reply: http.client.HTTPResponse) -> bytes:
    try:
        return reply.read1(_CHUNK_BYTES)
    except _NET_ERRORS as error:  # caught here, so that an error of the disk isn't
        raise _Broken(_word(error)) from error


def _content_range(reply: http.client.HTTPResponse) -> tuple[int | None, int | None]:
    """The offset of the reply's first byte, and the bytes of the whole; None for what is untold."""
    header = reply.headers.get("Content-Range", "")
    span = re.fullmatch(r"bytes (?:(\d{1,18})-\d+|\*)/(\d{1,18})", header)
    if span is None:
        return None, None
    return None if span[1] is None else int(span[1]), int(span[2])


def _validator(reply: http.client.HTTPResponse) -> str:
    """What tells this version of the archive from others, fit for If-Range; empty if nothing is."""
    etag = str(reply.headers.get("ETag", ""))
    if etag.startswith('"'):  # a weak one begins W/"
        return etag
    return str(reply.headers.get("Last-Modified", ""))


def _is_of(reply: http.client.HTTPResponse, validator: str) -> bool:
    """Whether the reply is of the version that was asked for, or at least doesn't say otherwise."""
    # Not every server that knows Range knows If-Range.
    return _validator(reply) in ("", validator)


def _word(error: BaseException) -> str:
    cause = getattr(error, "reason", error)  # a URLError wraps what happened
    return printable(getattr(cause, "strerror", None) or str(cause) or type(cause).__name__)
