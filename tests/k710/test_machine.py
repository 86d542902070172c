"""What this process may use of the machine, as its control groups say."""

import os
from pathlib import Path

from k710.machine import cores_allowed, free_memory, memory_allowed, usable_cores


def test_limits_of_a_container_are_those_of_all_its_groups(tmp_path: Path) -> None:
    groups, root = tmp_path / "cgroup", tmp_path / "fs"
    assert (memory_allowed(groups, root), cores_allowed(groups, root)) == (None, None)
    (root / "pod" / "one").mkdir(parents=True)
    groups.write_text("0::/pod/one\n")
    (root / "pod" / "one" / "memory.max").write_text("max\n")
    (root / "pod" / "one" / "cpu.max").write_text("max 100000\n")
    assert (memory_allowed(groups, root), cores_allowed(groups, root)) == (None, None)
    (root / "pod" / "memory.max").write_text("2147483648\n")
    (root / "pod" / "cpu.max").write_text("150000 100000\n")
    assert (memory_allowed(groups, root), cores_allowed(groups, root)) == (2 << 30, 1.5)


def test_limits_are_read_of_the_first_version_of_groups_too(tmp_path: Path) -> None:
    groups, root = tmp_path / "cgroup", tmp_path / "fs"
    groups.write_text("5:memory:/a\n2:cpu:/a\n")
    for folder in (root / "memory", root / "cpu"):  # a container sees its own group as the root
        folder.mkdir(parents=True)
    (root / "memory" / "memory.limit_in_bytes").write_text("1073741824\n")
    (root / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    (root / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert (memory_allowed(groups, root), cores_allowed(groups, root)) == (1 << 30, None)
    (root / "cpu" / "cpu.cfs_quota_us").write_text("400000\n")
    assert cores_allowed(groups, root) == 4


def test_cores_are_those_that_this_process_may_run_on() -> None:
    allowed = os.sched_getaffinity(0)
    assert 1 <= usable_cores() <= len(allowed)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_memory_can_be_given_back_at_any_time() -> None:
    free_memory()
    free_memory()
