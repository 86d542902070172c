"""fetch_annotations: what comes back, what is in the way, and other processes."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from unittest import mock

import pytest

from k710.annotations.fetch import EDITIONS_DEFAULT, Fetched, fetch_annotations
from k710.errors import SourceError, StageError
from k710.files import manifests_dir
from support.loopback import Answer, Loopback
from support.small_editions import (
    FETCH,
    an_edition,
    assert_fetched,
    below,
    fetch_k400,
    packed,
    write_sources,
)

pytest_plugins = ["support.edition_fixtures"]


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


def test_a_token_of_an_address_is_written_nowhere(
    server: Loopback, sources: Path, root: Path
) -> None:
    url = server.tell("/k400.tar.gz?t=hush", Answer(body=packed(an_edition())))
    write_sources(sources, url)
    fetched = fetch_k400(root, sources)
    assert fetched.url.startswith(f"{url.partition('?')[0]}?... (")
    assert fetch_k400(root, sources).already_there
    assert not [path for path in root.rglob("*") if path.is_file() and b"hush" in path.read_bytes()]
    write_sources(sources, server.tell("/k400.tar.gz?t=hush2", Answer(status=404)))
    (root / "kinetics400/train.csv").unlink()
    with pytest.raises(SourceError) as error:
        fetch_k400(root, sources)
    assert "hush" not in str(error.value)


def test_an_address_that_is_none_is_said(sources: Path, root: Path) -> None:
    with pytest.raises(SourceError, match=r"k400\.url is 'http://\[::1/a', not an http"):
        fetch_k400(root, write_sources(sources, "http://[::1/a"))


def test_an_unknown_edition_names_the_known_ones(root: Path) -> None:
    with pytest.raises(SourceError) as error:
        fetch_annotations(root, editions=["k400", "k7oo\n"])
    assert (
        str(error.value) == "There is no edition 'k7oo\\n'. There are: k700, k700_2020, k600, k400."
    )
    assert not root.exists()


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
    with pytest.raises(StageError, match=r"can't be worked in: Not a directory"):
        fetch_k400(root, sources)


def test_a_file_that_cannot_be_written(server: Loopback, sources: Path, root: Path) -> None:
    server.tell("/k400.tar.gz", Answer(body=packed(an_edition())))
    refusal = PermissionError(13, "Permission denied", str(root / "kinetics400"))
    with (
        mock.patch.object(Path, "replace", side_effect=refusal),
        pytest.raises(StageError, match=r"kinetics400 can't be used: Permission denied\.\nMend"),
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


def test_the_lock_a_kill_and_the_run_after_it(server: Loopback, sources: Path, root: Path) -> None:
    body = packed(an_edition())
    server.tell("/k400.tar.gz", Answer(body=body, stall=80_000), Answer(body=body))
    part = root / ".downloads/k400.tar.gz.part"
    with subprocess.Popen([sys.executable, "-c", FETCH, root, sources]) as process:
        while not part.exists() or part.stat().st_size < 64_000:
            assert process.poll() is None
            time.sleep(0.005)
        with pytest.raises(
            StageError, match=f"{part.parent} is in use by process {process.pid} on "
        ):
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
import k710.annotations.fetch
sys.addaudithook(hook)
k710.annotations.fetch.fetch_annotations(sys.argv[1], editions=["k400"], sources=sys.argv[2])
"""


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_before_any_of_its_writes_a_run_loses_nothing(
    server: Loopback, sources: Path, root: Path, every: int
) -> None:
    old, new = an_edition(seed=1, size=1000), an_edition(seed=2, size=1000)
    for step in range(1, 100, every):
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


# --- the sources TOML: the official one as it is, and what is said of malformed ones


def test_the_official_sources() -> None:
    tables = tomllib.loads((manifests_dir() / "sources.toml").read_text())
    assert list(tables) == ["k400", "k600", "k700", "k700_2020"]
    for name, table in tables.items():
        folder = "kinetics" + name.removeprefix("k")
        host = "https://storage.googleapis.com/deepmind-media/Datasets"
        assert table == {"url": f"{host}/{folder}.tar.gz", "folder": folder}
    assert set(EDITIONS_DEFAULT) < set(tables)


K400 = '[k400]\nurl = "http://a/b"\nfolder = "k"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[k400", "no TOML that can be read: "),
        ("\ufffe", "no TOML that can be read: "),
        ("deep = " + "[" * 5000, "no TOML that can be read: "),
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
            for url in ("file:///etc/passwd", "ftp://a/b", "http:///a", "a/b")
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
