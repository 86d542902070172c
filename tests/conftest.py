"""Fixtures and settings of all tests."""

import fcntl
import importlib.util
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from support.list_files import Lists, shared, write_lists

# Small tensors, and a test on each core: threads of PyTorch stand in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No test may fail because the machine is busy; and what CI tests is the same each time.
settings.register_profile(
    "k710",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="CI" in os.environ,
)
settings.load_profile("k710")

TESTS = Path(__file__).parent
# What needs PyTorch, but for its parts that do without.
NEED_TORCH = (
    "uniformerv2",
    "cli/test_evaluate.py",
    "cli/test_loader.py",
    "cli/test_weights.py",
    "end_to_end/test_docs_webdataset.py",
    "k710/export/test_samples_torch.py",
)
NEED_NO_TORCH = ("uniformerv2/dataset", "uniformerv2/test_recipe.py")
NEED_TORCH_IN_PART = ("test_faces.py",)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--torch", action="store_true", help="run only the tests that need PyTorch")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the tests that need PyTorch where it is missing, and with --torch the others."""
    if collection_path.is_dir():
        return None
    need_torch = _is_in(collection_path, NEED_TORCH) and not _is_in(collection_path, NEED_NO_TORCH)
    if config.getoption("torch"):
        return None if need_torch or _is_in(collection_path, NEED_TORCH_IN_PART) else True
    return True if need_torch and not importlib.util.find_spec("torch") else None


def _is_in(path: Path, places: Sequence[str]) -> bool:
    return any(path.is_relative_to(TESTS / place) for place in places)


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
