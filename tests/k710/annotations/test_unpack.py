"""Archives that are odd, damaged, or traps, each served by a real server on 127.0.0.1."""

import contextlib
import gzip
import io
import os
import random
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from k710.annotations.unpack import BadArchive, unpack_into
from k710.errors import SourceError
from support.loopback import Answer, Loopback
from support.small_editions import (
    an_edition,
    assert_fetched,
    assert_nothing,
    below,
    fetch_k400,
    odd,
    packed,
)

pytest_plugins = ["support.edition_fixtures"]


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


@settings(max_examples=150)
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
        archive, target = Path(folder, "in/k400.tar.gz.part"), Path(folder, "in/kinetics400")
        target.mkdir(parents=True)
        archive.write_bytes(gzip.compress(bytes(data)))
        with contextlib.suppress(BadArchive):
            unpack_into(target, archive, top="kinetics400")
        outside = [
            p for p in Path(folder).rglob("*") if p.is_file() and "kinetics400" not in p.parts
        ]
        assert outside == [archive]
