"""Archives that are sound, odd, damaged, or traps: what is read of them, and what is said."""

import gzip
import io
import random
import tarfile
import tempfile
import tracemalloc
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from k710.errors import SourceError
from k710.sources import archives
from k710.sources.archives import Member, members, whole_members

FORMATS = {"gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT, "ustar": tarfile.USTAR_FORMAT}
LONG = "vol_00/" + "a" * 180 + "/b.mp4"


def tar_of(
    files: Mapping[str, bytes], *more: tarfile.TarInfo, form: int = tarfile.PAX_FORMAT
) -> bytes:
    """A tar of these files, then of members without contents."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for member in more:
            tar.addfile(member)
    return buffer.getvalue()


def header(name: str, kind: bytes, size: int, **more: Any) -> bytes:
    """One header block that says what it is told to."""
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    for key, value in more.items():
        setattr(member, key, value)
    return member.tobuf(tarfile.GNU_FORMAT)


def some_files(num: int = 4) -> dict[str, bytes]:
    rng = random.Random(num)
    return {f"train/{n:011d}_000000_000010.mp4": rng.randbytes(700 * n) for n in range(num)}


def write(path: Path, data: bytes, *, packed: bool = False) -> Path:
    path.write_bytes(gzip.compress(data, 1) if packed else data)
    return path


def contents(path: Path) -> dict[str, bytes]:
    return {member.name: b"".join(member.chunks()) for member in members(path)}


def listed(path: Path) -> tuple[list[str], str]:
    """The names of the whole members, and what was said of the archive then."""
    names: list[str] = []
    try:
        names += (member.name for member in whole_members(path))
    except SourceError as error:
        return names, str(error)
    return names, ""


def collected(found: Iterator[Member], names: list[str]) -> str:
    try:
        for member in found:
            names.append(member.name)
    except SourceError as error:
        return str(error)
    return ""


# --- sound ones


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("form", FORMATS)
def test_members_and_their_bytes(tmp_path: Path, form: str, packed: bool) -> None:
    files = {"./-aU-xCCzkT0.mp4": b"x", **some_files(), "größe/(not) it's.mkv": b"y" * 512}
    path = write(tmp_path / "a.tar", tar_of(files, form=FORMATS[form]), packed=packed)
    assert contents(path) == files
    assert [m.size_bytes for m in whole_members(path)] == [len(data) for data in files.values()]


def test_offsets_in_a_plain_tar_are_where_the_bytes_are(tmp_path: Path) -> None:
    files = {LONG: b"long", **some_files()}
    path = write(tmp_path / "a.tar", tar_of(files))
    data = path.read_bytes()
    for member in members(path):
        assert member.offset is not None
        assert data[member.offset : member.offset + member.size_bytes] == files[member.name]
    packed = write(tmp_path / "a.tar.gz", data, packed=True)
    assert {member.offset for member in members(packed)} == {None}


@pytest.mark.parametrize("form", ["gnu", "pax"])
def test_long_names_and_names_that_are_no_utf8(tmp_path: Path, form: str) -> None:
    files = {LONG: b"1", "short.mp4": b"2", "v/\udcff.mp4": b"3"}
    data = tar_of(files, form=FORMATS[form]).replace(b"v/\\udcff", b"v/\xff")
    assert list(contents(write(tmp_path / "a.tar", data))) == list(files)


def test_some_members_taken_in_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = some_files(20)
    path = write(tmp_path / "a.tar.gz", tar_of(files), packed=True)
    read = []
    read_file = archives._Stream._read_file
    monkeypatch.setattr(
        archives._Stream,
        "_read_file",
        lambda self, size: read.append(data := read_file(self, size)) or data,
    )
    wanted = set(list(files)[3::5])
    taken = {m.name: b"".join(m.chunks()) for m in members(path) if m.name in wanted}
    assert taken == {name: files[name] for name in wanted}
    assert b"".join(read) == path.read_bytes()


def test_a_member_can_be_read_while_it_is_the_current_one(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", tar_of(some_files()))
    first, *_ = members(path)
    with pytest.raises(ValueError, match=r"000_000010\.mp4' was read, or passed, before"):
        next(first.chunks())


@pytest.mark.parametrize("between", [b"", bytes(3), bytes(300_000)])
def test_a_gzip_in_several_parts(tmp_path: Path, between: bytes) -> None:
    files = some_files(6)
    data = tar_of(files)
    parts = [data[at : at + 1500] for at in range(0, len(data), 1500)]
    path = tmp_path / "a.tgz"
    path.write_bytes(b"".join(gzip.compress(part) + between for part in parts))
    assert contents(path) == files


def test_the_first_bytes_tell_whether_it_is_packed(tmp_path: Path) -> None:
    files = some_files()
    assert contents(write(tmp_path / "a.tar.gz", tar_of(files))) == files
    assert contents(write(tmp_path / "b.tar", tar_of(files), packed=True)) == files


# --- what is no plain file


@pytest.mark.parametrize("packed", [False, True])
def test_what_is_no_plain_file_is_passed_over(tmp_path: Path, packed: bool) -> None:
    kinds = {
        "symlink.mp4": tarfile.SYMTYPE,
        "hard.mp4": tarfile.LNKTYPE,
        "fifo.mp4": tarfile.FIFOTYPE,
        "tty.mp4": tarfile.CHRTYPE,
        "disk.mp4": tarfile.BLKTYPE,
    }
    data = header("folder.mp4", tarfile.DIRTYPE, 7)  # whose size means nothing
    data += b"".join(header(n, kind, 99, linkname="/etc/passwd") for n, kind in kinds.items())
    data += header("new.mp4", b"Z", 600) + bytes(1024)  # an unknown kind has bytes
    data += tar_of({"a.mp4": b"a"})
    skipped: list[str] = []
    path = write(tmp_path / "a.tar", data, packed=packed)
    names = [member.name for member in whole_members(path, on_skipped=skipped.append)]
    assert names == ["a.mp4"]
    assert skipped == [*kinds, "new.mp4"]


def test_sparse_files_are_passed_over(tmp_path: Path) -> None:
    old = bytearray(header("old.mp4", tarfile.GNUTYPE_SPARSE, 600))
    old[482] = 1
    old[148:156] = b"%06o\0 " % (sum(old[:148]) + sum(old[156:]) + 8 * 32)
    more = bytearray(512)
    more[504] = 1
    pax = tarfile.TarInfo("new.mp4")
    pax.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(2**50)}
    data = bytes(old) + bytes(more) + bytes(512) + bytes(1024) + tar_of({"a.mp4": b"a"}, pax)
    skipped: list[str] = []
    path = write(tmp_path / "a.tar", data)
    assert [m.name for m in whole_members(path, on_skipped=skipped.append)] == ["a.mp4"]
    assert skipped == ["old.mp4", "new.mp4"]


def test_names_are_only_names(tmp_path: Path) -> None:
    files = {n: b"1" for n in ("../../x.mp4", "/etc/x.mp4", "a/\x1b[2J.mp4", "b\\c.mp4", "..")}
    path = write(tmp_path / "a.tar", tar_of(files))
    assert contents(path) == files
    assert list(tmp_path.iterdir()) == [path]


def test_a_member_too_large_for_a_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 1000)
    skipped: list[str] = []
    path = write(tmp_path / "a.tar", tar_of({"a.mp4": bytes(1001), "b.mp4": bytes(1000)}))
    assert [m.name for m in whole_members(path, on_skipped=skipped.append)] == ["b.mp4"]
    assert skipped == ["a.mp4"]


# --- damage


@pytest.mark.parametrize("packed", [False, True])
@settings(max_examples=60)
@given(share=st.floats(0, 1))
def test_what_is_whole_before_the_cut_counts(packed: bool, share: float) -> None:
    files = some_files(5)
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder, "a.tar"), tar_of(files), packed=packed)
        data = path.read_bytes()
        end = len(data) if packed else len(data.rstrip(b"\0"))
        path.write_bytes(data[: int(share * (end - 1))])
        names, said = listed(path)
        assert names == list(files)[: len(names)]
        assert said in (f"{path} is cut short.", f"{path} is empty.")


def test_the_first_member_that_is_cut_is_not_whole(tmp_path: Path) -> None:
    data = tar_of({"a.mp4": bytes(512), "b.mp4": bytes(512)})
    assert listed(write(tmp_path / "a", data[:2048])) == (
        ["a.mp4", "b.mp4"],
        f"{tmp_path}/a is cut short.",
    )
    for packed in (False, True):
        path = write(tmp_path / "b", data[:2047], packed=packed)
        assert listed(path) == (["a.mp4"], f"{path} is cut short.")
        with pytest.raises(SourceError, match="is cut short"):
            contents(path)


GOOD = tar_of(some_files(3))


@pytest.mark.parametrize(
    ("data", "names", "words"),
    [
        (b"", 0, "is empty"),
        (b"no tar at all" * 100, 0, "is no tar archive"),
        (b"short", 0, "is cut short"),
        (GOOD[:512] + b"x" * 512 + GOOD, 1, "is damaged at byte 512"),
        (GOOD + GOOD, 3, "goes on after its end, and what follows is not read"),
        (
            header("a", tarfile.GNUTYPE_LONGNAME, 2**40) + GOOD,
            0,
            "has a header of 1099511627776 by",
        ),
        (header("a", tarfile.GNUTYPE_LONGNAME, 600) + b"x" * 500, 0, "is cut short"),
        (header("a", tarfile.XHDTYPE, -(2**40)) + GOOD, 0, "has a header of -1099511627776 bytes"),
        (header("a", tarfile.REGTYPE, -(2**40)) + GOOD, 0, "has a member of -1099511627776 bytes"),
        (header("a", tarfile.REGTYPE, 2**60) + GOOD, 0, "is cut short"),
        (header("a", tarfile.REGTYPE, 2**33) + GOOD, 0, "is cut short"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_damage_is_said(tmp_path: Path, data: bytes, names: int, words: str, packed: bool) -> None:
    path = write(tmp_path / "a.tar", data, packed=packed)
    if packed:
        words = words.replace("is empty", "is cut short") if data else words
    found, said = listed(path)
    assert len(found) == names
    assert said.startswith(f"{path} {words}")


@pytest.mark.parametrize(
    "record",
    [b"30 path=x\n", b"0 path=x\n", b" path=x\n", b"9 path=x ", b"7 path\n", b"99999999 p"],
)
def test_a_damaged_pax_header_is_said(tmp_path: Path, record: bytes) -> None:
    data = header("x", tarfile.XHDTYPE, len(record)) + record.ljust(512, b"\0") + GOOD
    assert listed(write(tmp_path / "a.tar", data))[1] == f"{tmp_path}/a.tar has a damaged header."
    size = b"17 size=-1234567\n"
    data = header("x", tarfile.XHDTYPE, len(size)) + size.ljust(512, b"\0") + GOOD
    assert listed(write(tmp_path / "b.tar", data))[1] == f"{tmp_path}/b.tar has a damaged header."


def test_a_flipped_bit_is_found_by_the_checksum(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    data = bytearray(gzip.compress(tar_of(some_files(3)), 0))
    data[3000] ^= 1
    path.write_bytes(data)
    names, said = listed(path)
    assert len(names) == 3
    assert said.startswith(f"{path} is damaged: Error -3")


def test_a_file_that_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"none\.tar can't be read: No such file"):
        list(members(tmp_path / "none.tar"))
    with pytest.raises(SourceError, match="can't be read: Is a directory"):
        list(members(tmp_path))


# --- traps


@pytest.mark.parametrize("hidden", [False, True])
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, hidden: bool) -> None:
    zeros = gzip.compress(bytes(10**6)) * 2000  # 2 GB
    path = tmp_path / "a.tar.gz"
    start = tar_of({"a.mp4": b"a"})[:1024]
    start += header("b.mp4", tarfile.GNUTYPE_LONGNAME if hidden else tarfile.REGTYPE, 2 * 10**9)
    path.write_bytes(gzip.compress(start) + zeros)
    tracemalloc.start()
    names, said = listed(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert names == ["a.mp4"]
    expected = (
        "has a header of" if hidden else "unpacks to more than 50 times its size, as no video"
    )
    assert said.startswith(f"{path} {expected}")
    assert peak < 8 * 1024**2


def test_many_small_headers_are_no_bomb_and_no_recursion(tmp_path: Path) -> None:
    name = header("x", tarfile.GNUTYPE_LONGNAME, 8) + b"long.mp4".ljust(512, b"\0")
    path = write(tmp_path / "a.tar", name * 3000 + tar_of({"a.mp4": b"a"}))
    assert listed(path) == (["long.mp4"], "")
    files = {f"{n:011d}.mp4": b"" for n in range(5000)}
    path = write(tmp_path / "b.tar.gz", tar_of(files), packed=True)
    assert listed(path) == (list(files), "")


def test_no_more_members_than_there_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    path = write(tmp_path / "a.tar", tar_of(some_files(4)))
    assert listed(path)[1] == f"{path} holds more than 3 members."


@settings(max_examples=200)
@given(
    edits=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), min_size=1, max_size=8),
    form=st.sampled_from(sorted(FORMATS.values())),
    fit=st.booleans(),
)
def test_a_mangled_tar_is_read_or_refused(
    edits: list[tuple[int, int]], form: int, fit: bool
) -> None:
    name = LONG if form != tarfile.USTAR_FORMAT else "a.mp4"
    data = bytearray(tar_of({name: bytes(600), "c.mp4": bytes(600)}, form=form))
    for at, value in edits:
        data[at] = value
    for at in range(0, 3072 * fit, 512):  # sums that fit, so that the edits are believed
        block = data[at : at + 512]
        data[at + 148 : at + 156] = b"%06o\0 " % (sum(block[:148]) + sum(block[156:]) + 8 * 32)
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder, "a.tar"), bytes(data))
        names: list[str] = []
        said = collected(members(path), names)
        assert said.startswith(str(path)) or not said


@settings(max_examples=100)
@given(data=st.binary(max_size=4000), packed=st.booleans())
def test_junk_is_refused(data: bytes, packed: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.tar")
        path.write_bytes(b"\x1f\x8b\x08" + data if packed else data)
        assert listed(path)[0] == []
