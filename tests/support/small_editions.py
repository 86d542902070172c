"""Editions to fetch from a loopback server: small archives, sources, and what must lie there then.

Its fixtures are in fetch_fixtures.py.
"""

import io
import json
import random
import tarfile
from pathlib import Path

from k710.annotations.fetch import Fetched, fetch_annotations

FETCH = (
    "import sys; from k710.annotations.fetch import fetch_annotations as f; "
    "f(sys.argv[1], editions=['k400'], sources=sys.argv[2])"
)
"""A program that fetches k400; its arguments are the folder and the sources."""

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
    """A member that is no plain file, for `packed`."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, linkname
    return member


def write_sources(path: Path, url: str, **more: str) -> Path:
    """A sources TOML with one edition, k400; `more` are further keys of it, or other values."""
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
    assert found == files, f"{sorted(found)}, and {sorted(files)} were packed"


def assert_nothing(root: Path) -> None:
    """`root` holds the lock only."""
    assert sorted(below(root)) == [".downloads/.lock"]
    assert [p.name for p in root.iterdir()] == [".downloads"]


def fetch_k400(root: Path, sources: Path) -> Fetched:
    """Fetch just k400."""
    [fetched] = fetch_annotations(root, editions=["k400"], sources=sources)
    return fetched
