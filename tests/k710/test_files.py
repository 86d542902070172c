"""Files are replaced whole or not at all, and one process alone works in a folder."""

import errno
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from k710.errors import StageError
from k710.files import locked, manifests_dir, replacing, sha256_of, word_os_errors, write_json
from k710.machine import num_bytes_of
from support.paths import PYTHONPATH


@pytest.mark.parametrize(
    ("size", "num_bytes"),
    [
        *(("1500000", 1_500_000), ("2GB", 2 * 10**9), ("512 mb", 512 * 10**6)),
        *(("2GiB", 2 << 30), ("0.5k", 500), ("1.5TiB", 3 << 39)),
    ],
)
def test_sizes_are_read_in_both_units(size: str, num_bytes: int) -> None:
    assert num_bytes_of(size) == num_bytes


@pytest.mark.parametrize("size", ["", "0", "-1MB", "1e9", "MB", "2XB", "0.1", "1 GB 2", "9" * 30])
def test_what_is_no_size_is_refused(size: str) -> None:
    with pytest.raises(ValueError, match=r"is no size\. Write it like 2GB"):
        num_bytes_of(size)


def test_a_file_is_replaced_when_all_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with replacing(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    with pytest.raises(ZeroDivisionError), replacing(path) as partial:
        partial.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.json"]


def test_json_and_hashes_are_of_the_bytes_on_the_disk(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"name": "\xe9", "of": [1, None]})
    assert json.loads((tmp_path / "a.json").read_bytes()) == {"name": "\xe9", "of": [1, None]}
    (tmp_path / "b").write_bytes(b"bytes")
    assert sha256_of(tmp_path / "b") == hashlib.sha256(b"bytes").hexdigest()


def test_the_class_lists_are_found() -> None:
    assert {"labels.csv", "aliases.csv", "sources.toml"} <= set(os.listdir(manifests_dir()))


def test_errors_of_the_system_are_worded_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="No room left") as full, word_os_errors(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert "run the same command again" in str(full.value)
    missing = "none can't be used: No such file or directory"
    with pytest.raises(StageError, match=missing), word_os_errors(tmp_path):
        (tmp_path / "none").read_bytes()
    with pytest.raises(BrokenPipeError), word_os_errors(tmp_path):  # of no file
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def test_who_holds_a_folder_is_named_without_its_password(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from k710.files import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), "http://me:hush@proxy"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        in_use = f"in use by process {process.pid} on "
        with pytest.raises(StageError, match=in_use) as error, locked(tmp_path):
            raise AssertionError("two hold it")
        process.communicate()
    assert "hush" not in str(error.value) and "http://...@proxy" in str(error.value)
    with locked(tmp_path):
        pass


def test_a_full_disk_under_the_lock_is_worded(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
        with pytest.raises(StageError, match="No room left to write in"), locked(tmp_path):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    with locked(tmp_path):  # nobody holds it
        assert f"process {os.getpid()} on " in (tmp_path / ".lock").read_text()
