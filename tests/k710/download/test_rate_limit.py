"""One pace for all who share an address: threads, processes, some of them killed.

Nothing may be faster than allowed, so all bounds on time are lower ones.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from k710.download.rate_limit import Pace, pace_file

# Takes turns for as long as it is told to, and says when each was given.
_TAKER = """
import sys, time
from k710.download.rate_limit import Pace
path, sleep_s, until = sys.argv[1], float(sys.argv[2]), time.monotonic() + float(sys.argv[3])
pace = Pace(path, sleep_s, None)
print("ready", flush=True)
sys.stdin.readline()
while time.monotonic() < until:
    wait_s = pace.take_turn()
    if wait_s:
        time.sleep(wait_s)
    else:
        print(time.time(), flush=True)
"""
_EATER = """
import sys
from k710.download.rate_limit import Pace
pace = Pace(sys.argv[1], 0, float(sys.argv[2]))
for _ in range(20):
    pace.charge(1000)
"""
_HOLDER = """
import sys, time
from k710.download.rate_limit import Pace
pace = Pace(sys.argv[1], 0, None)
with pace._held() as state:
    state.walls_in_row = 7
    print("held", flush=True)
    time.sleep(60)
"""


def python(code: str, *arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def pace(folder: Path, sleep_s: float = 0.0, bytes_per_s: float | None = None) -> Pace:
    return Pace(str(pace_file(folder, "this", None)), sleep_s, bytes_per_s)


def test_processes_take_turns_with_a_pause_between_all_of_them(tmp_path: Path) -> None:
    path = pace(tmp_path).path
    takers = [python(_TAKER, path, 0.05, 1.0) for _ in range(2)]
    for taker in takers:
        assert taker.stdout is not None
        assert taker.stdout.readline() == "ready\n"
    began = time.time()
    for taker in takers:
        assert taker.stdin is not None
        taker.stdin.write("go\n")
        taker.stdin.flush()
    said = [taker.communicate()[0].split() for taker in takers]
    turns = sorted(float(word) for words in said for word in words)
    assert len(turns) >= 2
    assert turns[-1] - began >= 0.05 * (len(turns) - 1)


def test_bytes_of_processes_together_are_held_to_the_rate(tmp_path: Path) -> None:
    began = time.monotonic()
    eaters = [python(_EATER, pace(tmp_path).path, 100_000) for _ in range(2)]
    for eater in eaters:
        eater.communicate()
        assert eater.returncode == 0
    assert time.monotonic() - began >= 2 * 20 * 1000 / 100_000


def test_bytes_of_threads_together_are_held_to_the_rate(tmp_path: Path) -> None:
    shared = pace(tmp_path, bytes_per_s=100_000)
    began = time.monotonic()
    threads = [threading.Thread(target=shared.charge, args=(5_000,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - began >= 0.2


def test_without_a_rate_and_without_bytes_nothing_waits_and_nothing_is_written(
    tmp_path: Path,
) -> None:
    pace(tmp_path).charge(10**15)
    pace(tmp_path, bytes_per_s=1).charge(0)
    assert not (tmp_path / "pace").exists()


def test_who_is_killed_while_it_holds_the_file_frees_it_and_changes_nothing(tmp_path: Path) -> None:
    shared = pace(tmp_path)
    shared.note(is_wall=True)
    holder = python(_HOLDER, shared.path)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert shared.walls_in_row() == 1


def test_walls_in_a_row_are_counted_over_all_who_share_the_address(tmp_path: Path) -> None:
    one, other = pace(tmp_path), pace(tmp_path)
    assert [one.note(is_wall=True), other.note(is_wall=True)] == [1, 2]
    assert (one.walls_in_row(), other.walls_in_row()) == (2, 2)
    assert other.note(is_wall=False) == 0
    assert one.note(is_wall=True) == 1


def test_the_first_who_uses_an_address_counts_walls_anew(tmp_path: Path) -> None:
    one, other = pace(tmp_path), pace(tmp_path)
    one.note(is_wall=True)
    with one.in_use():
        assert one.walls_in_row() == 0
        one.note(is_wall=True)
        with other.in_use():
            assert other.walls_in_row() == 1
    assert one.walls_in_row() == 1
    with other.in_use():
        assert one.walls_in_row() == 0


def test_who_uses_an_address_holds_a_lock_that_nfs_grants(tmp_path: Path) -> None:
    with pace(tmp_path).in_use():
        held = [path for path in Path("/proc/self/fd").iterdir() if _links_to_users(path)]
        (number,) = (int(path.name) for path in held)
        assert fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR


def _links_to_users(path: Path) -> bool:
    try:
        return os.readlink(path).endswith(".users")
    except OSError:  # the folder's own, closed since
        return False


def test_each_address_has_a_pace_of_its_own_and_no_password_is_in_its_name(tmp_path: Path) -> None:
    proxy = "http://user:secret@127.0.0.1:1"
    files = {
        pace_file(tmp_path, *named)
        for named in (("this", None), ("other", None), ("this", proxy), ("this", "http://b"))
    }
    assert len(files) == 4
    assert {path.parent for path in files} == {tmp_path / "pace"}
    assert not any("secret" in str(path) for path in files)
    pace(tmp_path, 60).take_turn()
    assert Pace(str(pace_file(tmp_path, "other", None)), 60, None).take_turn() == 0


def test_the_longest_pause_holds_for_those_who_ask_for_a_shorter_one(tmp_path: Path) -> None:
    assert pace(tmp_path, 60).take_turn() == 0
    assert 50 < pace(tmp_path, 1).take_turn() <= 60


def test_a_clock_that_ran_ahead_stops_nobody(tmp_path: Path) -> None:
    shared = pace(tmp_path, 5, 1e9)
    assert shared.take_turn() == 0
    assert 0 < shared.take_turn() <= 5
    path = Path(shared.path)
    state = json.loads(path.read_text())
    ahead = time.time() + 1e6
    path.write_text(json.dumps({**state, "next_start_at": ahead, "bytes_until": ahead}))
    assert shared.take_turn() == 0
    shared.charge(1)
    assert 0 < shared.take_turn() <= 5


WRONG = [
    *("", "{", "[]", '{"of": "another version"}', "\0" * 200, "[" * 100_000, "x" * 1_000_000),
    *('{"walls_in_row": -1000000}', '{"walls_in_row": 1e99}', '{"pause_s": NaN}'),
    *('{"next_start_at": "soon"}', '{"next_start_at": null}', '{"pause_s": -1e308}'),
]


@pytest.mark.parametrize("text", WRONG, ids=lambda text: text[:30])
def test_a_file_that_can_not_be_read_is_begun_anew(tmp_path: Path, text: str) -> None:
    shared = pace(tmp_path, 5)
    Path(shared.path).parent.mkdir()
    Path(shared.path).write_text(text)
    assert shared.walls_in_row() == 0
    assert shared.note(is_wall=True) == 1
    assert shared.take_turn() == 0
    assert shared.take_turn() > 0
    assert shared.walls_in_row() == 1
    assert os.path.getsize(shared.path) == 201


def test_no_file_makes_all_wait_for_ever(tmp_path: Path) -> None:
    shared = pace(tmp_path, 5, 1e9)
    Path(shared.path).parent.mkdir()
    for far in (1e7, 1e15, 1e300):
        state = {"next_start_at": time.time() + far / 2, "pause_s": far, "bytes_until": far}
        Path(shared.path).write_text(json.dumps(state))
        shared.charge(1)
        assert shared.take_turn() == 0


def test_the_file_is_one_write_of_one_length(tmp_path: Path) -> None:
    shared = pace(tmp_path, 5, 1e12)
    sizes = set()
    shared.take_turn()
    sizes.add(os.path.getsize(shared.path))
    for _ in range(3):
        shared.charge(1)
        shared.note(is_wall=True)
        sizes.add(os.path.getsize(shared.path))
    assert len(sizes) == 1
