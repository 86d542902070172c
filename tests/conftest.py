"""Fixtures and settings of all tests."""

import fcntl
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from support.list_files import Lists, shared, write_lists

# Small tensors, and a test on each core: threads of PyTorch stand in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# What needs PyTorch is not collected where it is not installed: the data tests run without.
NEED_TORCH = ["uniformerv2", "cli/test_evaluate.py", "cli/test_loader.py", "cli/test_weights.py"]
NEED_TORCH += ["end_to_end/test_docs_webdataset.py", "k710/export/test_samples_torch.py"]
collect_ignore = [] if importlib.util.find_spec("torch") else NEED_TORCH


def pytest_runtest_setup(item: pytest.Item) -> None:
    """What needs a GPU is left out where there is none, unless FAIL_WITHOUT_CUDA is set."""
    if item.get_closest_marker("cuda") and not os.environ.get("FAIL_WITHOUT_CUDA"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs an NVIDIA GPU")


@pytest.fixture
def lists(tmp_path: Path) -> Callable[[Lists], Path]:
    """Writes lists to a folder of this test, and returns that."""
    return lambda named: write_lists(tmp_path / "annotations", named)


@pytest.fixture(scope="session")
def real_lists() -> Path:
    """The folder of real annotation lists; skips where it is missing."""
    return shared("annotations")


@pytest.fixture(scope="session")
def real_built(real_lists: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with annotations/, which are the real lists, work/, and printed.txt.

    That is what `k710 build-manifest` makes and prints. All processes of a run have it of one.
    """
    from support.command_line import k710

    folder = tmp_path_factory.getbasetemp() / "real"
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parents[1] / "real"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "printed.txt").exists():
            (folder / "annotations").symlink_to(real_lists)
            done = k710("build-manifest", "--annotations", "annotations", cwd=folder)
            assert (done.returncode, done.stderr) == (0, "")
            (folder / "printed.txt").write_text(done.stdout)
    return folder


@pytest.fixture(scope="session")
def real_labels() -> Path:
    """The folder of published class files; skips where it is missing."""
    return shared("reference", "labels")
