"""fetch_annotations against a real server on 127.0.0.1 that cuts, lies, stalls and sets traps."""

import contextlib
import gzip
import hashlib
import io
import json
import os
import random
import signal
import ssl
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import Answer, Loopback

from k710 import fetch
from k710.errors import SourceError, StageError
from k710.fetch import Fetched, fetch_annotations
from k710.files import locked, manifests_dir

FETCH = (
    "import sys; from k710.fetch import fetch_annotations as f; "
    "f(sys.argv[1], editions=['k400'], sources=sys.argv[2])"
)
HEADER = b"label,youtube_id,time_start,time_end,split\n"


def an_edition(seed: int = 0, size: int = 100_000) -> dict[str, bytes]:
    """The files of an edition, in bytes that don't compress, so that cuts fall where meant."""
    noise = random.Random(seed)
    return {
        "kinetics400/test.csv": HEADER + noise.randbytes(100),
        "kinetics400/train.csv": HEADER + noise.randbytes(size),
        "kinetics400/train.json": noise.randbytes(50),
    }


def packed(files: dict[str, bytes], *more: tarfile.TarInfo, level: int = 1) -> bytes:
    """A .tar.gz of these files, then of members without contents."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=level) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for member in more:
            tar.addfile(member)
    return buffer.getvalue()


def odd(name: str, kind: bytes, linkname: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, linkname
    return member


def write_sources(path: Path, url: str, **more: str) -> Path:
    fields = {"url": url, "folder": "kinetics400", **more}
    path.write_text("[k400]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in fields.items()))
    return path


def below(folder: Path) -> dict[str, bytes]:
    """Every file under `folder`, hidden ones too."""
    paths = (p for p in folder.rglob("*") if p.is_symlink() or not p.is_dir())
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in paths}


def assert_fetched(root: Path, files: dict[str, bytes]) -> None:
    """`root` holds these lists, their record, the lock, and nothing else."""
    found = below(root)
    found.pop(".downloads/.lock")
    found.pop("kinetics400/.fetched.json")
    assert found == files


def assert_nothing(root: Path) -> None:
    assert sorted(below(root)) == [".downloads/.lock"]
    assert [p.name for p in root.iterdir()] == [".downloads"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "PAUSES_S", (0.0, 0.0, 0.0))
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server() -> Iterator[Loopback]:
    with Loopback() as server:
        yield server


@pytest.fixture
def sources(tmp_path: Path, server: Loopback) -> Path:
    return write_sources(tmp_path / "sources.toml", server.tell("/k400.tar.gz", Answer(status=404)))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "annotations"


def fetch_k400(root: Path, sources: Path) -> Fetched:
    [fetched] = fetch_annotations(root, editions=["k400"], sources=sources)
    return fetched


# --- what comes back


def test_an_edition_is_fetched_whole_and_its_record_tells_from_where(
    server: Loopback, sources: Path, root: Path
) -> None:
    files, archive = an_edition(), packed(an_edition())
    url = server.tell("/k400.tar.gz", Answer(body=archive))
    progress: list[tuple[str, int, int | None]] = []

    [fetched] = fetch_annotations(
        root, editions=["k400"], sources=sources, on_progress=lambda *step: progress.append(step)
    )

    sha256 = hashlib.sha256(archive).hexdigest()
    names = ("test.csv", "train.csv", "train.json")
    assert fetched == Fetched(
        "k400", root / "kinetics400", url, sha256, len(archive), names, already_there=False
    )
    assert_fetched(root, files)
    assert json.loads((root / "kinetics400/.fetched.json").read_text()) == {
        "url": url,
        "sha256": sha256,
        "bytes": len(archive),
        "files": [
            {
                "name": name,
                "bytes": len(files[f"kinetics400/{name}"]),
                "sha256": hashlib.sha256(files[f"kinetics400/{name}"]).hexdigest(),
            }
            for name in names
        ],
    }
    assert progress[0] == ("k400", 0, len(archive))
    assert progress[-1] == ("k400", len(archive), len(archive))
    [seen] = server.seen
    assert seen.headers["User-Agent"].startswith("k710/")
    assert seen.range is None


def test_a_second_run_sends_no_request(server: Loopback, sources: Path, root: Path) -> None:
    server.tell("/k400.tar.gz", Answer(body=packed(an_edition())))
    first = fetch_k400(root, sources)
    second = fetch_k400(root, sources)
    assert (first.already_there, second.already_there) == (False, True)
    assert (first.sha256, first.bytes, first.files) == (second.sha256, second.bytes, second.files)
    assert len(server.seen) == 1


def test_editions_come_in_the_order_asked_for_each_once(server: Loopback, root: Path) -> None:
    text = ""
    for name in ("k400", "k700", "k700_2020"):
        url = server.tell(f"/{name}", Answer(body=packed({f"kinetics{name[1:]}/a.csv": b"1"})))
        text += f'[{name}]\nurl = "{url}"\nfolder = "kinetics{name[1:]}"\n'
    root.mkdir()
    (root / "s.toml").write_text(text)
    asked = ["k700_2020", "k700", "k700_2020"]
    fetched = fetch_annotations(root, editions=asked, sources=root / "s.toml")
    assert [f.edition for f in fetched] == ["k700_2020", "k700"]
    assert [f.folder.name for f in fetched] == ["kinetics700_2020", "kinetics700"]
    assert [seen.path for seen in server.seen] == ["/k700_2020", "/k700"]


@pytest.mark.parametrize("damage", ["flipped", "missing", "longer"])
def test_a_folder_with_a_changed_file_is_fetched_again(
    server: Loopback, sources: Path, root: Path, damage: str
) -> None:
    server.tell("/k400.tar.gz", Answer(body=packed(an_edition())))
    fetch_k400(root, sources)
    train = root / "kinetics400/train.csv"
    data = bytearray(train.read_bytes())
    data[500] ^= 1
    if damage == "missing":
        train.unlink()
    else:
        train.write_bytes(data if damage == "flipped" else data + b"\n")
    assert not fetch_k400(root, sources).already_there
    assert_fetched(root, an_edition())
    assert len(server.seen) == 2


def test_another_address_is_another_source(server: Loopback, sources: Path, root: Path) -> None:
    server.tell("/k400.tar.gz", Answer(body=packed(an_edition())))
    fetch_k400(root, sources)
    write_sources(sources, server.tell("/mirror.tar.gz", Answer(body=packed(an_edition(seed=1)))))
    assert not fetch_k400(root, sources).already_there
    assert_fetched(root, an_edition(seed=1))


def test_members_without_a_folder_hidden_ones_and_folders(
    server: Loopback, sources: Path, root: Path
) -> None:
    body = packed(
        {
            "train.csv": b"1",
            "./kinetics400/val.csv": b"2",
            "kinetics400/more/x.csv": b"3",
            "._kinetics400": b"mac",
            "kinetics400/._train.csv": b"mac" * 300,
            "kinetics400/.DS_Store": b"mac",
        },
        odd("kinetics400", tarfile.DIRTYPE),
        odd("elsewhere", tarfile.DIRTYPE),
    )
    server.tell("/k400.tar.gz", Answer(body=body))
    assert fetch_k400(root, sources).files == ("more/x.csv", "train.csv", "val.csv")
    assert_fetched(
        root,
        {
            "kinetics400/train.csv": b"1",
            "kinetics400/val.csv": b"2",
            "kinetics400/more/x.csv": b"3",
        },
    )


def test_modes_and_owners_of_the_archive_are_not_taken(
    server: Loopback, sources: Path, root: Path
) -> None:
    member = tarfile.TarInfo("kinetics400/train.csv")
    member.mode, member.uid, member.mtime = 0o6777, 12345, 1
    server.tell("/k400.tar.gz", Answer(body=packed({}, member)))
    fetch_k400(root, sources)
    stat = (root / "kinetics400/train.csv").stat()
    assert (stat.st_mode & 0o7111, stat.st_uid) == (0, os.getuid())


# --- downloads that break


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


def test_a_server_that_ignores_range_sends_all_of_it_again(
    server: Loopback, sources: Path, root: Path
) -> None:
    body = packed(an_edition())
    server.tell("/k400.tar.gz", Answer(body=body, cut=40_000), Answer(body=body, knows_range=False))
    fetch_k400(root, sources)
    assert_fetched(root, an_edition())
    assert server.seen[1].sent == len(body)


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
        Answer(status=500),
        Answer(status=503, body=b"busy"),
        Answer(status=429),
        Answer(status=408),
        Answer(status=206, body=b"never asked for", content_range="bytes 9-23/24"),
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
    monkeypatch.setattr(fetch, "PAUSES_S", (1.0, 2.0, 4.0))
    monkeypatch.setattr(fetch.time, "sleep", pauses.append)
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
    monkeypatch.setattr(fetch, "TIMEOUT_S", 0.1)
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


@settings(max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(1, 30_000), max_size=12), resumes=st.booleans())
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


# --- servers that refuse


@pytest.mark.parametrize("status", [204, 304, 401, 403, 404, 410])
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


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "/k400.tar.gz"]
)
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
        fetch._Replies().redirect_request(request, None, 302, "Found", {}, "http://example.org/a")
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
    monkeypatch.setattr(fetch, "MAX_BYTES", 50_000)
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


# --- archives that are damaged, or traps


def sparse(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(2**50)}
    return member


TRAPS = {
    "above": ({"../x.csv": b"1"}, [], "holds '../x.csv', a name that is not safe to write"),
    "above, inside": ({"kinetics400/../../x.csv": b"1"}, [], "a name that is not safe to write"),
    "absolute": ({"/tmp/k710_trap.csv": b"1"}, [], "holds '/tmp/k710_trap.csv', a name that is"),
    "backslash": ({"kinetics400/..\\x.csv": b"1"}, [], r"holds 'kinetics400/..\\x.csv', a name"),
    "escape": ({"kinetics400/\x1b[2J.csv": b"1"}, [], r"holds 'kinetics400/\x1b[2J.csv', a name"),
    "newline": ({"kinetics400/a\n.csv": b"1"}, [], r"holds 'kinetics400/a\n.csv', a name"),
    "bidi": (
        {"kinetics400/\u202evsc.csv": b"1"},
        [],
        r"holds 'kinetics400/\u202evsc.csv', a name",
    ),
    "not unicode": (
        {"kinetics400/\udcff.csv": b"1"},
        [],
        r"holds 'kinetics400/\udcff.csv', a name",
    ),
    "long": ({"kinetics400/" + "a" * 300: b"1"}, [], "aaa...', which is no file name"),
    "dot": ({".": b"1"}, [], "holds '.', which is no file name"),
    "elsewhere": (
        {"kinetics600/a.csv": b"1"},
        [],
        "holds 'kinetics600/a.csv', which is not in its folder, kinetics400",
    ),
    "twice, with and without folder": (
        {"kinetics400/a.csv": b"1", "a.csv": b"2"},
        [],
        "holds 'a.csv' twice",
    ),
    "twice but for case": (
        {"kinetics400/A.csv": b"1", "kinetics400/a.CSV": b"2"},
        [],
        "holds 'kinetics400/a.CSV' twice",
    ),
    "file, then folder": (
        {"kinetics400/a": b"1", "kinetics400/a/b.csv": b"2"},
        [],
        "holds 'a/b.csv' both as a file and as a folder",
    ),
    "folder, then file": (
        {"kinetics400/a/b.csv": b"2", "kinetics400/a": b"1"},
        [],
        "holds 'a' both as a file and as a folder",
    ),
    "symlink": ({}, [odd("kinetics400/a.csv", tarfile.SYMTYPE, "/etc/passwd")], "no plain file"),
    "hidden symlink": ({}, [odd("kinetics400/.a", tarfile.SYMTYPE, "/etc")], "no plain file"),
    "hard link": ({}, [odd("kinetics400/a.csv", tarfile.LNKTYPE, "../../x")], "no plain file"),
    "fifo": ({}, [odd("kinetics400/a.csv", tarfile.FIFOTYPE)], "no plain file"),
    "character device": ({}, [odd("kinetics400/a.csv", tarfile.CHRTYPE)], "no plain file"),
    "block device": ({}, [odd("kinetics400/a.csv", tarfile.BLKTYPE)], "no plain file"),
    "unknown kind": ({}, [odd("kinetics400/a.csv", b"Z")], "no plain file"),
    "sparse": ({}, [sparse("kinetics400/a.csv")], "no plain file"),
    "bomb": ({"kinetics400/b.csv": bytes(5_000_000)}, [], "unpacks to more than"),
    "hidden bomb": ({"kinetics400/.b": bytes(5_000_000)}, [], "unpacks to more than"),
    "many": (
        {f"kinetics400/{n}": random.Random(n).randbytes(9) for n in range(1001)},
        [],
        "holds more than 1,000 members",
    ),
    "many folders": ({}, [odd("kinetics400", tarfile.DIRTYPE)] * 1001, "holds more than 1,000"),
    "no list": ({"kinetics400/README": b"1"}, [], "holds no .csv file"),
    "nothing": ({}, [], "holds no .csv file"),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_a_trap_is_named_and_leaves_nothing(
    server: Loopback, sources: Path, root: Path, tmp_path: Path, trap: str
) -> None:
    files, odd_members, words = TRAPS[trap]
    body = packed(
        {"kinetics400/first.csv": b"1"} | files if trap != "nothing" else {}, *odd_members
    )
    if trap == "no list":
        body = packed(files)
    url = server.tell("/k400.tar.gz", Answer(body=body))
    outside = below(tmp_path)
    with pytest.raises(SourceError) as error:
        fetch_k400(root, sources)
    assert str(error.value).startswith(f"{url} ")
    assert words in str(error.value)
    assert_nothing(root)
    assert below(tmp_path).keys() - {"annotations/.downloads/.lock"} == outside.keys()
    assert not Path("/tmp/k710_trap.csv").exists()


def header_of(size: int) -> bytes:
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, size
    return member.tobuf(tarfile.GNU_FORMAT)


GOOD_TAR = gzip.decompress(packed({"kinetics400/a.csv": b"1" * 3000, "kinetics400/b.csv": b"2"}))


@pytest.mark.parametrize(
    ("tar", "words"),
    [
        (b"", "is damaged or cut short: empty file"),
        (b"no tar at all" * 100, "is damaged or cut short: "),
        (GOOD_TAR[:2000], "is damaged or cut short: unexpected end of data"),
        (GOOD_TAR[: 512 + 3072 + 100], "is damaged or cut short: its last block is not whole"),
        (GOOD_TAR[: 512 + 3072] + b"x" * 512 + GOOD_TAR, "is damaged: it goes on after its end"),
        (GOOD_TAR + b"more", "is damaged: it goes on after its end"),
        (
            b"".join(header_of(500) + random.Random(n).randbytes(512) for n in range(2000)),
            "is damaged or cut short: maximum recursion depth exceeded",
        ),
        (header_of(2**40) + GOOD_TAR, "has a header of 1099511627776 bytes"),
        (header_of(-(2**40)) + GOOD_TAR, "has a header of -1099511627776 bytes"),
    ],
)
def test_a_damaged_tar_in_a_sound_gzip(
    server: Loopback, sources: Path, root: Path, tar: bytes, words: str
) -> None:
    server.tell("/k400.tar.gz", Answer(body=gzip.compress(tar)))
    with pytest.raises(SourceError) as error:
        fetch_k400(root, sources)
    assert words in str(error.value)
    assert_nothing(root)


def test_a_flipped_bit_is_found_by_the_checksum(
    server: Loopback, sources: Path, root: Path
) -> None:
    body = bytearray(packed(an_edition(), level=0))
    body[50_000] ^= 1
    server.tell("/k400.tar.gz", Answer(body=bytes(body)))
    with pytest.raises(SourceError, match="is damaged or cut short: CRC check failed"):
        fetch_k400(root, sources)
    assert_nothing(root)


@settings(max_examples=150, deadline=None)
@given(
    edits=st.lists(st.tuples(st.integers(0, 1100), st.integers(0, 255)), min_size=1, max_size=8),
    form=st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
def test_a_mangled_tar_is_unpacked_or_refused(edits: list[tuple[int, int]], form: int) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name in ("kinetics400/\u00e4" + "b" * 120 + ".csv", "kinetics400/c.csv"):
            member = tarfile.TarInfo(name)
            member.size = 600
            tar.addfile(member, io.BytesIO(bytes(600)))
    data = bytearray(buffer.getvalue())
    for at, value in edits:
        data[at] = value
    for at in range(0, 2048, 512):  # sums that fit, so that the edits are believed
        block = data[at : at + 512]
        data[at + 148 : at + 156] = b"%06o\0 " % (sum(block[:148]) + sum(block[156:]) + 8 * 32)
    with tempfile.TemporaryDirectory() as folder:
        edition = fetch._Edition("k400", "http://x/", Path(folder, "in/kinetics400"))
        edition.part.parent.mkdir(parents=True)
        edition.part.write_bytes(gzip.compress(bytes(data)))
        with contextlib.suppress(fetch._BadArchive):
            fetch._unpack(edition, "")
        outside = [
            p for p in Path(folder).rglob("*") if p.is_file() and "kinetics400" not in p.parts
        ]
        assert outside == [edition.part]


# --- what is asked for


def test_an_unknown_edition_names_the_known_ones(root: Path) -> None:
    with pytest.raises(SourceError) as error:
        fetch_annotations(root, editions=["k400", "k7oo\n"])
    assert (
        str(error.value) == "There is no edition 'k7oo\\n'. There are: k700, k700_2020, k600, k400."
    )
    assert not root.exists()


def test_the_official_sources() -> None:
    tables = tomllib.loads((manifests_dir() / "sources.toml").read_text())
    assert list(tables) == ["k400", "k600", "k700", "k700_2020"]
    for name, table in tables.items():
        folder = "kinetics" + name.removeprefix("k")
        host = "https://storage.googleapis.com/deepmind-media/Datasets"
        assert table == {"url": f"{host}/{folder}.tar.gz", "folder": folder}
    assert set(fetch.EDITIONS_DEFAULT) < set(tables)


K400 = '[k400]\nurl = "http://a/b"\nfolder = "k"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[k400", "no TOML that can be read: "),
        ("\ufffe", "no TOML that can be read: "),
        ("k400 = 1", "'k400' is no table like [k400], with a url and a folder."),
        ('["../k"]\nurl = "http://a/b"', "'../k' is no table like [k400]"),
        ('[k400]\nfolder = "k"', "k400.url is missing, an http:// or https:// address."),
        ('[k400]\nurl = "http://a/b"', "k400.folder is missing, a plain folder name."),
        (K400 + 'sha265 = "0"', "k400 has an unknown key 'sha265'; the nearest is sha256."),
        (K400 + 'sha256 = "0"', "k400.sha256 is '0', not 64 hex digits."),
        (K400 + "sha256 = 7", "k400.sha256 is '7', not 64 hex digits."),
        (K400.replace('"k"', '"../k"'), "k400.folder is '../k', not a plain folder name."),
        (
            K400.replace('"k"', '".downloads"'),
            "k400.folder is '.downloads', not a plain folder name",
        ),
        (K400.replace('"k"', "[]"), "k400.folder is '[]', not a plain folder name."),
        (
            K400 + K400.replace("k400", "k600").replace('"k"', '"K"'),
            "k600.folder is the folder of k400 too",
        ),
        *(
            (
                K400.replace("http://a/b", url),
                f"k400.url is {url!r}, not an http:// or https:// address.",
            )
            for url in ("file:///etc/passwd", "ftp://a/b", "data:,x", "http://", "http:///a", "a/b")
        ),
    ],
)
def test_malformed_sources_name_file_and_key(
    root: Path, sources: Path, text: str, words: str
) -> None:
    sources.write_text(text)
    with pytest.raises(SourceError) as error:
        fetch_annotations(root, editions=["k400"], sources=sources)
    first, second = str(error.value).split("\n")
    assert first.startswith(f"{sources}: ")
    assert words in first
    assert second == "Mend that, or leave --sources out: k710 has one of its own."
    assert not root.exists()


def test_missing_sources(root: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"none\.toml: no TOML .*: No such file or directory"):
        fetch_annotations(root, sources=tmp_path / "none.toml")


# --- what is in the way


@pytest.mark.parametrize("kind", ["folder", "file", "dangling link", "unreadable record"])
def test_what_was_not_fetched_is_left_alone(
    server: Loopback, sources: Path, root: Path, kind: str
) -> None:
    target = root / "kinetics400"
    root.mkdir()
    if kind == "file":
        target.write_text("mine")
    elif kind == "dangling link":
        target.symlink_to(root / "gone")
    else:
        target.mkdir()
        (target / "train.csv").write_text("mine")
    if kind == "unreadable record":
        (target / ".fetched.json").write_text('{"files": 1}')
    with pytest.raises(SourceError) as error:
        fetch_k400(root, sources)
    assert str(error.value) == (
        f"{target} exists, and this command did not fetch it: it holds no .fetched.json.\n"
        "Use it as it is and leave k400 out, or move it away."
    )
    assert not server.seen
    assert os.path.lexists(target)


def test_a_file_beside_the_lists_is_never_deleted(
    server: Loopback, sources: Path, root: Path
) -> None:
    server.tell("/k400.tar.gz", Answer(body=packed(an_edition())))
    fetch_k400(root, sources)
    (root / "kinetics400/mine.csv").write_text("mine")
    assert fetch_k400(root, sources).already_there
    (root / "kinetics400/train.csv").unlink()
    with pytest.raises(SourceError, match=r"'mine.csv' in it was not fetched.\nMove that away"):
        fetch_k400(root, sources)
    assert (root / "kinetics400/mine.csv").read_text() == "mine"
    assert len(server.seen) == 1


def test_a_linked_folder_counts_but_is_not_replaced(
    server: Loopback, sources: Path, root: Path, tmp_path: Path
) -> None:
    server.tell("/k400.tar.gz", Answer(body=packed(an_edition())))
    fetch_k400(root, sources)
    (root / "kinetics400").rename(tmp_path / "moved")
    (root / "kinetics400").symlink_to(tmp_path / "moved")
    assert fetch_k400(root, sources).already_there
    (tmp_path / "moved/train.csv").unlink()
    with pytest.raises(SourceError, match=r"can't be replaced: it is a link"):
        fetch_k400(root, sources)


def test_a_file_where_the_folder_should_be(sources: Path, root: Path) -> None:
    root.write_text("mine")
    with pytest.raises(StageError, match=r"can't be a work directory: Not a directory"):
        fetch_k400(root, sources)


def test_a_folder_that_cannot_be_written(sources: Path, root: Path) -> None:
    refusal = PermissionError(13, "Permission denied", str(root))
    with (
        mock.patch.object(Path, "mkdir", side_effect=refusal),
        pytest.raises(StageError, match=r"annotations can't be used: Permission denied\.\nMend"),
    ):
        fetch_k400(root, sources)


def test_an_error_of_the_callers_own_is_not_reworded(
    server: Loopback, sources: Path, root: Path
) -> None:
    def report(edition: str, done: int, total: int | None) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    server.tell("/k400.tar.gz", Answer(body=packed(an_edition())))
    with pytest.raises(BrokenPipeError):
        fetch_annotations(root, editions=["k400"], sources=sources, on_progress=report)


@pytest.mark.parametrize("limit", [50_000, 150_000], ids=["in the archive", "in the lists"])
def test_a_full_disk_is_worded_and_keeps_what_has_come(
    server: Loopback, sources: Path, root: Path, limit: int
) -> None:
    # All zeros but for an incompressible head: the archive is small, the list is large.
    files = {"kinetics400/train.csv": random.Random(0).randbytes(100_000) + bytes(100_000)}
    body = packed(files)
    server.tell("/k400.tar.gz", Answer(body=body))
    script = (
        f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}));{FETCH}"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, root, sources], capture_output=True, text=True
    )
    assert f"StageError: No room left to write in {root} " in run.stderr
    assert [p.name for p in root.iterdir()] == [".downloads"]
    fetch_k400(root, sources)
    assert_fetched(root, files)
    assert server.seen[1].range == f"bytes={min(limit, len(body))}-"


# --- other processes


def test_the_lock_a_kill_and_the_run_after_it(server: Loopback, sources: Path, root: Path) -> None:
    body = packed(an_edition())
    server.tell("/k400.tar.gz", Answer(body=body, stall=80_000), Answer(body=body))
    part = root / ".downloads/k400.tar.gz.part"
    with subprocess.Popen([sys.executable, "-c", FETCH, root, sources]) as process:
        deadline = time.monotonic() + 30
        while not part.exists() or part.stat().st_size < 64_000:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
        with pytest.raises(StageError, match=f"is in use by process {process.pid} on"):
            fetch_k400(root, sources)
        process.send_signal(signal.SIGKILL)
    size = part.stat().st_size
    fetch_k400(root, sources)
    assert_fetched(root, an_edition())
    assert [seen.range for seen in server.seen] == [None, f"bytes={size}-"]
    assert server.seen[1].sent == len(body) - size


KILL = """
import os, signal, sys
left = int(sys.argv[3])
def hook(event, args):
    global left
    writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
    if writes or event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
import k710.fetch
sys.addaudithook(hook)
k710.fetch.fetch_annotations(sys.argv[1], editions=["k400"], sources=sys.argv[2])
"""


def test_killed_before_any_of_its_writes_a_run_loses_nothing(
    server: Loopback, sources: Path, root: Path
) -> None:
    old, new = an_edition(seed=1, size=1000), an_edition(seed=2, size=1000)
    for step in range(1, 100):
        server.tell("/k400.tar.gz", Answer(body=packed(old), etag='"old"'))
        fetch_k400(root, sources)
        (root / "kinetics400/train.json").unlink()
        changed = {name: data for name, data in old.items() if name != "kinetics400/train.json"}

        server.tell("/k400.tar.gz", Answer(body=packed(new), etag='"new"'))
        run = subprocess.run([sys.executable, "-B", "-c", KILL, root, sources, str(step)])
        left = {name: data for name, data in below(root).items() if name.startswith("kinetics400/")}
        left.pop("kinetics400/.fetched.json", None)
        aside = below(root / ".downloads/k400.old")
        assert left in (changed, new) or (
            not left and aside["train.csv"] == old["kinetics400/train.csv"]
        )

        fetch_k400(root, sources)
        assert_fetched(root, new)
        if run.returncode == 0:
            break
        assert run.returncode == -signal.SIGKILL
        (root / "kinetics400/train.json").unlink()
    assert 10 < step < 99


def test_a_folder_moved_aside_by_a_killed_run_is_put_back(
    server: Loopback, sources: Path, root: Path
) -> None:
    server.tell("/k400.tar.gz", Answer(body=packed(an_edition())), Answer(status=404))
    fetch_k400(root, sources)
    (root / "kinetics400").rename(root / ".downloads/k400.old")
    assert fetch_k400(root, sources).already_there
    assert_fetched(root, an_edition())


def test_a_lock_held_is_worded(sources: Path, root: Path) -> None:
    with locked(root / ".downloads"), pytest.raises(StageError) as error:
        fetch_k400(root, sources)
    assert str(error.value).startswith(
        f"{root / '.downloads'} is in use by process {os.getpid()} on "
    )
