"""A row of sources.parquet as a value, and where the bytes of copies are."""

import tarfile
from dataclasses import fields, replace
from pathlib import Path

from k710.shards.write import add_member
from k710.sources.clip_source import ChosenCopy, ClipSource, CopyReader
from k710.sources.stamps import Stamp
from k710.tables.schemas import SOURCES
from k710.video.byte_range import ByteRange
from k710.video.cut import Window
from k710.video.probe import Facts, Probed

FACTS = Facts(320, 240, 25.0, 250, 10.0, "h264")
COPY = ChosenCopy("/videos/a.tar", "a.mp4", None, None, 12345, "5e", FACTS)
CLIP = ClipSource("a_000010_000020", Window(10, 20), "truncated", "6.0 of 10 s", COPY, "probe")


def test_a_row_has_the_columns_of_sources() -> None:
    names = []
    for field in fields(ClipSource):
        inner = {"copy": ChosenCopy, "window": None}.get(field.name, field.name)
        if isinstance(inner, str):
            names.append(inner)
        elif inner is not None:
            names += [one.name for one in fields(inner) if one.name not in ("facts", "stamp")]
            names += [one.name for one in fields(Facts)]
    assert [name.replace("num_bytes", "bytes") for name in names] == list(SOURCES.columns)
    assert len(CLIP.row()) == len(SOURCES.columns)
    assert ClipSource.from_row(10, 20, *CLIP.row()) == CLIP
    stamped = replace(CLIP, copy=replace(COPY, stamp=Stamp(2**60, 2**64 - 1)))
    assert ClipSource.from_row(10, 20, *stamped.stamped_row()) == stamped
    assert ClipSource.from_row(10, 20, *CLIP.stamped_row()) == CLIP


def test_a_probe_says_when_a_file_starts_if_nobody_knew() -> None:
    seen = Probed("ok", None, True, FACTS, "5f")
    after = CLIP.after_probe(seen, tool="later")
    assert after.probed() == seen
    assert (after.copy.starts_at_s, after.tool) == (10.0, "later")
    whole = CLIP.after_probe(replace(seen, trimmed=False), tool="later")
    assert whole.copy.starts_at_s == 0.0
    assert CLIP.after_probe(replace(seen, trimmed=None), tool="later").copy.starts_at_s is None
    section = replace(CLIP, copy=replace(COPY, starts_at_s=7.5))
    assert section.after_probe(seen, tool="later").copy.starts_at_s == 7.5


def test_copies_are_found_file_by_file(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        for name, data in (("x", b"123"), ("y", b"1234")):
            add_member(tar, name, data)
    archive, loose = str(tmp_path / "a.tar.gz"), str(tmp_path / "b.mp4")
    copies = [
        ChosenCopy(archive, "y", num_bytes=4),
        ChosenCopy(archive, "x", num_bytes=3),
        ChosenCopy(archive, "y", num_bytes=4),
        ChosenCopy(archive, "x", num_bytes=99),
        ChosenCopy(loose),
    ]
    reader = CopyReader(list(enumerate(copies)), lambda pair: pair[1], tmp_path / "scratch")
    found = []
    for pairs, source in reader:
        found.append([number for number, _ in pairs])
        if source != ByteRange(loose):
            assert b"".join(source.chunks()).startswith(b"123")
        for left in range(len(pairs), 0, -1):
            assert Path(source.path).exists() == bool(left) or source == ByteRange(loose)
            reader.free(source)
        assert not Path(source.path).exists()
    assert found == [[1], [0, 2], [4]]
    assert reader.lost == [((3, copies[3]), "missing", "it is no longer in the archive")]
