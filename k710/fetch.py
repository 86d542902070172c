"""The official annotation lists over HTTP: each edition's archive fetched, checked, unpacked once.

    <folder>/kinetics400/   the lists as published, and .fetched.json: from where, with which hashes
    <folder>/.downloads/    the lock and what is on its way; stays behind, nearly empty

An archive that stopped half-way is gone on with, in a later run too. Neither servers nor archives
are trusted.
"""

import contextlib
import difflib
import gzip
import hashlib
import http.client
import json
import logging
import os
import re
import shutil
import ssl
import tarfile
import time
import tomllib
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from k710.errors import SourceError, StageError, printable, shown
from k710.files import locked, manifests_dir, refuse_full_disk, sha256_of, write_json

__all__ = ["EDITIONS_DEFAULT", "Fetched", "fetch_annotations"]

log = logging.getLogger(__name__)

EDITIONS_DEFAULT = ("k400", "k600", "k700_2020")
PAUSES_S = (1.0, 2.0, 4.0, 8.0)  # between tries; from the first again when bytes have come
TIMEOUT_S = 30.0  # without a byte
MAX_MEMBERS = 1000
MAX_BYTES = 2 * 1024**3  # of an archive, and of what it unpacks to
MAX_RATIO = 200  # unpacked to packed; lists of text stay far below
_CHUNK_BYTES = 64 * 1024
_RECORD = ".fetched.json"
_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
_FIELDS = {
    "url": (r"https?://[^\s/?#@]+/[!-~]*", "an http:// or https:// address"),
    "folder": (_NAME, "a plain folder name"),
    "sha256": ("[0-9a-fA-F]{64}", "64 hex digits"),
}
_NET_ERRORS = (OSError, http.client.HTTPException, ValueError)
_TAR_ERRORS = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError, RecursionError)
Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True, slots=True)
class Fetched:
    """One edition on disk. `sha256` and `bytes` are the archive's; `files`, below `folder`."""

    edition: str
    folder: Path
    url: str
    sha256: str
    bytes: int
    files: tuple[str, ...]
    already_there: bool


@dataclass(frozen=True, slots=True)
class _File:
    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class _Record:
    """What .fetched.json says of its folder. `sha256` and `bytes` are the archive's."""

    url: str
    sha256: str
    bytes: int
    files: tuple[_File, ...]


@dataclass(frozen=True, slots=True)
class _Edition:
    """One table of sources.toml, and where its files go."""

    name: str
    url: str
    target: Path
    sha256: str | None = None

    def beside(self, ending: str) -> Path:
        return self.target.parent / ".downloads" / (self.name + ending)

    @property
    def part(self) -> Path:
        return self.beside(".tar.gz.part")

    def kept(self) -> tuple[int, str]:
        """How many bytes an earlier try left, and the validator to go on from there with."""
        with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError):
            told = json.loads(self.beside(".tar.gz.part.json").read_bytes())
            if told["url"] == self.url and told["validator"]:
                return self.part.stat().st_size, str(told["validator"])
        return 0, ""

    def forget(self) -> None:
        """Remove the download: first what vouches for the bytes, then the bytes."""
        self.beside(".tar.gz.part.json").unlink(missing_ok=True)
        self.part.unlink(missing_ok=True)

    def refused(self, what: str) -> SourceError:
        return SourceError(
            f"{self.url} {what}.\nName another mirror with --sources FILE, or put the lists into "
            f"{self.target} by hand and leave {self.name} out."
        )


class _Broken(Exception):
    """Why a try failed that is worth another one."""


class _BadArchive(Exception):
    """Why an archive isn't taken, worded to go on after its URL."""


def fetch_annotations(
    folder: str | os.PathLike[str] = "annotations",
    *,
    editions: Sequence[str] = EDITIONS_DEFAULT,
    sources: str | os.PathLike[str] | None = None,
    on_progress: Progress = lambda edition, done, total: None,
) -> list[Fetched]:
    """The editions asked for, each in its folder below `folder`: fetched now, or found there whole.

    `sources` is a TOML in the form of manifests/sources.toml, for mirrors. `on_progress` gets the
    edition, the archive's bytes so far, and all its bytes where the server tells. A folder whose
    files have changed since is fetched again and replaced whole; a killed run loses nothing.

    SourceError: an edition that doesn't exist, malformed `sources`, a server that refuses or fails
    for good, an archive that is none, is damaged or is hostile, a folder in the way. StageError:
    another process fetches into `folder`, or it can't be written.
    """
    root = Path(folder)
    known = _read_sources(Path(sources or manifests_dir() / "sources.toml"), root)
    for name in editions:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=len(known) or 1, cutoff=0.0)
            raise SourceError(f"There is no edition {shown(name)}. There are: {', '.join(near)}.")
    try:
        with refuse_full_disk(root), locked(root / ".downloads"):
            return [_fetch(known[name], on_progress) for name in dict.fromkeys(editions)]
    except OSError as error:
        if error.filename is None:
            raise
        raise StageError(
            f"{error.filename} can't be used: {error.strerror}.\nMend it, or choose another folder."
        ) from error


def _fetch(edition: _Edition, on_progress: Progress) -> Fetched:
    target, aside = edition.target, edition.beside(".old")
    if aside.exists() and not os.path.lexists(target):
        aside.replace(target)  # the last run was killed between the two renames of _unpack
    record = _read_record(target)
    whole = record if record and _is_whole(edition, record) else None
    if whole is None:
        _refuse_loss(edition, record)
        try:
            whole = _unpack(edition, _download(edition, on_progress))
        except _BadArchive as bad:
            edition.forget()
            raise edition.refused(str(bad)) from bad
    edition.forget()
    shutil.rmtree(aside, ignore_errors=True)
    names = tuple(file.name for file in whole.files)
    there = whole is record
    return Fetched(edition.name, target, whole.url, whole.sha256, whole.bytes, names, there)


def _read_sources(path: Path, root: Path) -> dict[str, _Edition]:
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _bad_sources(path, f"no TOML that can be read: {_words(error)}") from error
    editions: dict[str, _Edition] = {}
    for name, table in tables.items():
        edition = _read_edition(path, name, table, root)
        for other in editions.values():
            if other.target.name.casefold() == edition.target.name.casefold():
                raise _bad_sources(path, f"{name}.folder is the folder of {other.name} too")
        editions[name] = edition
    return editions


def _read_edition(path: Path, name: str, table: Any, root: Path) -> _Edition:
    if not isinstance(table, dict) or not re.fullmatch(_NAME, name):
        raise _bad_sources(path, f"{shown(name)} is no table like [k400], with a url and a folder")
    for key in table:
        if key not in _FIELDS:
            near = difflib.get_close_matches(key, _FIELDS, n=1, cutoff=0.0)[0]
            raise _bad_sources(
                path, f"{name} has an unknown key {shown(key)}; the nearest is {near}"
            )
    for key, (pattern, words) in _FIELDS.items():
        value = table.get(key)
        if value is None and key != "sha256":
            raise _bad_sources(path, f"{name}.{key} is missing, {words}")
        if value is not None and not (isinstance(value, str) and re.fullmatch(pattern, value)):
            raise _bad_sources(path, f"{name}.{key} is {shown(value)}, not {words}")
    sha256 = table["sha256"].lower() if "sha256" in table else None
    return _Edition(name, table["url"], root / table["folder"], sha256)


def _bad_sources(path: Path, what: str) -> SourceError:
    return SourceError(
        f"{path}: {what}.\nMend that, or leave --sources out: k710 has one of its own."
    )


# --- what lies there


def _read_record(folder: Path) -> _Record | None:
    try:
        told = json.loads((folder / _RECORD).read_bytes())
        return _Record(**{**told, "files": tuple(_File(**file) for file in told["files"])})
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None


def _is_whole(edition: _Edition, record: _Record) -> bool:
    if record.url != edition.url or edition.sha256 not in (None, record.sha256):
        return False
    paths = [(edition.target / file.name, file.sha256) for file in record.files]
    return all(path.is_file() and sha256_of(path) == sha256 for path, sha256 in paths)


def _refuse_loss(edition: _Edition, record: _Record | None) -> None:
    """SourceError if replacing the edition's folder would lose something that was not fetched."""
    target = edition.target
    if not os.path.lexists(target):
        return
    if record is None:
        raise SourceError(
            f"{target} exists, and this command did not fetch it: it holds no {_RECORD}.\n"
            f"Use it as it is and leave {edition.name} out, or move it away."
        )
    found = {p.relative_to(target).as_posix() for p in target.rglob("[!.]*") if not p.is_dir()}
    others = sorted(found - {file.name for file in record.files})
    if others or target.is_symlink():
        raise SourceError(
            f"{target} is not what {edition.url} holds, and can't be replaced: "
            + (f"{shown(others[0])} in it was not fetched.\n" if others else "it is a link.\n")
            + "Move that away, and run the same command again."
        )


# --- download


class _Replies(urllib.request.HTTPRedirectHandler):
    def http_error_default(self, req: object, fp: IO[bytes], *_: object) -> IO[bytes]:
        return fp  # not raised: _try_once decides

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        # urllib follows to ftp: too, and from https: down to http:, where anyone can write along.
        if not newurl.startswith("https:" if req.type == "https" else ("http:", "https:")):
            raise urllib.error.HTTPError(newurl, code, f"{msg}, to {newurl}", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _download(edition: _Edition, on_progress: Progress) -> str:
    """Have the whole archive at `edition.part`, and return its SHA-256."""
    best = tries = failures = 0
    while True:
        tries += 1
        try:
            _try_once(edition, on_progress)
            return _check_download(edition)
        except _Broken as broken:
            size, _ = edition.kept()
            if size > best:
                best, failures = size, 0
            if failures == len(PAUSES_S):
                kept = f"The first {size:,} bytes are kept: run" if size else "Run"
                raise SourceError(
                    f"{edition.url} could not be fetched, after {tries} tries: {broken}.\n"
                    f"{kept} the same command again later, or name a mirror with --sources FILE."
                ) from broken
            log.info("%s: %s; again in %s s", edition.url, broken, PAUSES_S[failures])
            time.sleep(PAUSES_S[failures])
            failures += 1


def _try_once(edition: _Edition, on_progress: Progress) -> None:
    start, validator = edition.kept()
    headers = {"Range": f"bytes={start}-", "If-Range": validator} if start else {}
    with _open(edition, headers) as reply:
        status = reply.status
        span = re.match(r"bytes (?:(\d+)-\d+|\*)/(\d+)$", reply.headers.get("Content-Range", ""))
        first, total = (span[1], int(span[2])) if span else (None, None)
        if status == 416 and start and total == start:
            return on_progress(edition.name, start, total)
        # Not every server that knows Range knows If-Range.
        strange = first != str(start) or (start and _validator(reply) not in ("", validator))
        if (status == 416 and start) or (status == 206 and strange):
            edition.forget()
            raise _Broken(f"the rest of the archive was asked for, and another came ({status})")
        if status in (408, 429) or status >= 500:
            raise _Broken(f"the server answered {status} {shown(reply.reason)}")
        if status not in (200, 206):
            raise edition.refused(f"was refused with {status} {shown(reply.reason)}")
        if status == 200:
            start, total = 0, reply.length
        _receive(edition, reply, start, total, on_progress)


def _open(edition: _Edition, headers: dict[str, str]) -> http.client.HTTPResponse:
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
    request = urllib.request.Request(edition.url, headers=headers)
    try:
        reply: http.client.HTTPResponse = opener.open(request, timeout=TIMEOUT_S)
        return reply
    except urllib.error.HTTPError as error:
        error.close()
        what = f"leads where it can't be followed: {error.code} {shown(error.reason)}"
        raise edition.refused(what) from error
    except _NET_ERRORS as error:
        if isinstance(getattr(error, "reason", None), ssl.SSLCertVerificationError):
            raise edition.refused(f"can't prove who it is: {_words(error)}") from error
        raise _Broken(_words(error)) from error


def _receive(
    edition: _Edition,
    reply: http.client.HTTPResponse,
    size: int,
    total: int | None,
    on_progress: Progress,
) -> None:
    if size == 0:
        edition.forget()
    with edition.part.open("ab") as file:
        if size == 0:
            told = {"url": edition.url, "validator": _validator(reply)}
            write_json(edition.beside(".tar.gz.part.json"), told)
        on_progress(edition.name, size, total)
        while chunk := _read(reply):
            size += len(chunk)
            if size > MAX_BYTES:
                raise _BadArchive(f"sends more than {MAX_BYTES:,} bytes, too much for lists")
            file.write(chunk)
            on_progress(edition.name, size, total)
    if total is not None and size < total:
        raise _Broken(f"the connection ended after {size:,} of {total:,} bytes")


def _read(reply: http.client.HTTPResponse) -> bytes:
    try:
        return reply.read1(_CHUNK_BYTES)
    except _NET_ERRORS as error:  # caught here, so that an error of the disk isn't
        raise _Broken(_words(error)) from error


def _validator(reply: http.client.HTTPResponse) -> str:
    """What tells this version of the archive from others, fit for If-Range; empty if nothing is."""
    etag = str(reply.headers.get("ETag", ""))
    return etag if etag.startswith('"') else str(reply.headers.get("Last-Modified", ""))


def _words(error: BaseException) -> str:
    cause = getattr(error, "reason", error)
    return printable(getattr(cause, "strerror", None) or str(cause) or type(cause).__name__)


def _check_download(edition: _Edition) -> str:
    with edition.part.open("rb") as file:
        head = file.read(4096)
    if not head.startswith(b"\x1f\x8b"):
        page = " ".join(re.sub(rb"<[^>]*>", b" ", head).decode("utf-8", "replace").split())
        raise _BadArchive(f"sent no .tar.gz, but something that begins {shown(page)}")
    sha256 = sha256_of(edition.part)
    if edition.sha256 not in (None, sha256):
        raise _BadArchive(f"has the SHA-256 {sha256}, and {edition.sha256} was expected")
    return sha256


# --- unpack


class _Gunzip(gzip.GzipFile):
    """A .gz that gives no more than lists can be, and at once no more than a tar header can be."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "rb")
        self.limit = min(MAX_BYTES, MAX_RATIO * path.stat().st_size)

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= _CHUNK_BYTES:
            raise _BadArchive(f"has a header of {size} bytes")
        data = super().read(size)
        if self.tell() > self.limit:
            raise _BadArchive(f"unpacks to more than {self.limit:,} bytes, too much for its size")
        return data


def _unpack(edition: _Edition, sha256: str) -> _Record:
    """Put the archive's files in the place of `edition.target`, all at once or not at all."""
    new, aside = edition.beside(".unpacked"), edition.beside(".old")
    for leftover in (new, aside):
        shutil.rmtree(leftover, ignore_errors=True)
    new.mkdir()
    try:
        files = _unpack_into(new, edition)
        record = _Record(edition.url, sha256, edition.part.stat().st_size, files)
        write_json(new / _RECORD, asdict(record))
        if edition.target.exists():
            edition.target.replace(aside)
        new.replace(edition.target)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return record


def _unpack_into(folder: Path, edition: _Edition) -> tuple[_File, ...]:
    files: dict[str, _File] = {}
    try:
        with (
            _Gunzip(edition.part) as packed,
            tarfile.open(fileobj=packed, mode="r:", encoding="utf-8") as tar,
        ):
            for number, member in enumerate(tar, start=1):
                if number > MAX_MEMBERS:
                    raise _BadArchive(f"holds more than {MAX_MEMBERS:,} members")
                name = _place(member, edition.target.name)
                if name and name.casefold() in files:
                    raise _BadArchive(f"holds {shown(member.name)} twice")
                if name:
                    files[name.casefold()] = _write(tar.extractfile(member), folder / name, name)
            # tarfile takes a header that it can't read for the end, and leaves gzip's CRC unread.
            while rest := packed.read(_CHUNK_BYTES):
                if rest.strip(b"\0"):
                    raise _BadArchive("is damaged: it goes on after its end")
            if packed.tell() % tarfile.BLOCKSIZE:
                raise _BadArchive("is damaged or cut short: its last block is not whole")
    except _TAR_ERRORS as error:
        raise _BadArchive(f"is damaged or cut short: {printable(str(error))}") from error
    if not any(name.endswith(".csv") for name in files):
        raise _BadArchive("holds no .csv file")
    return tuple(sorted(files.values(), key=lambda file: file.name))


def _place(member: tarfile.TarInfo, folder: str) -> str:
    """Where the member goes below its edition's folder; empty for what is passed over."""
    name = member.name
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if member.isdir():
        return ""
    if not member.isreg() or member.issparse() or member.size < 0:
        raise _BadArchive(f"holds {shown(name)}, which is no plain file")
    if name.startswith("/") or ".." in parts or "\\" in name or not name.isprintable():
        raise _BadArchive(f"holds {shown(name)}, a name that is not safe to write")
    if not parts or len(name.encode()) > 255:
        raise _BadArchive(f"holds {shown(name)}, which is no file name")
    if any(part.startswith(".") for part in parts):  # what macOS puts beside each file
        return ""
    if len(parts) > 1 and parts.pop(0) != folder:
        raise _BadArchive(f"holds {shown(name)}, which is not in its folder, {folder}")
    return "/".join(parts)


def _write(member: IO[bytes] | None, path: Path, name: str) -> _File:
    assert member is not None  # _place lets only plain files pass
    digest = hashlib.sha256()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("xb")
    except (FileExistsError, NotADirectoryError) as error:
        raise _BadArchive(f"holds {shown(name)} both as a file and as a folder") from error
    with file:
        while chunk := member.read(_CHUNK_BYTES):
            digest.update(chunk)
            file.write(chunk)
    return _File(name, path.stat().st_size, digest.hexdigest())
