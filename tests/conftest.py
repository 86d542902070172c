"""Lists that tests write, and the real ones beside the project where that folder is there."""

import fcntl
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import strategies as st

from k710.manifest import LISTS

# Small tensors, and a test on each core: threads of PyTorch stand in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# What needs PyTorch is not collected where it is not installed: the data tests run without.
collect_ignore = [] if importlib.util.find_spec("torch") else ["training"]

Row = tuple[str, str, int, int]  # label, id, start, end
Lists = Mapping[str, Sequence[Row]]

# Few ids, windows and labels, so that they meet in every way.
CLIPS = st.tuples(
    st.sampled_from(["archery", "bowling", "yoga", "zumba"]),
    st.sampled_from(["a", "A", "-a", "b", "c", "d"]),
    st.sampled_from([0, 1, 100]),
).map(lambda clip: (*clip, clip[2] + 10))
ANY_LISTS = st.dictionaries(
    st.sampled_from([*LISTS, "k600/holdout_test"]),
    st.lists(CLIPS, min_size=1, max_size=8),
    min_size=1,
    max_size=10,
)

_SHARED = Path(__file__).resolve().parents[2] / "shared"


def vid(name: str) -> str:
    """A YouTube id that can be read: `name`, filled up to 11 characters."""
    return name.ljust(11, "_")


def write_lists(folder: Path, lists: Lists) -> Path:
    """Write one CSV for each `dataset/split` below `folder`, in the published format."""
    for name, rows in lists.items():
        dataset, split = name.split("/")
        path = folder / dataset / f"{split}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"{label},{vid(i)},{start},{end},{split}" for label, i, start, end in rows]
        path.write_text("\n".join(["label,youtube_id,time_start,time_end,split", *lines, ""]))
    return folder


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


def shared(*parts: str) -> Path:
    """A path in the folder of real data beside the project; skips where it is missing."""
    path = _SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs the real data in ../shared/{'/'.join(parts)}")
    return path


@pytest.fixture(scope="session")
def real_lists() -> Path:
    """The folder of real annotation lists; skips where it is missing."""
    return shared("annotations")


@pytest.fixture(scope="session")
def real_built(real_lists: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with annotations/, which are the real lists, work/, and printed.txt.

    That is what `k710 build-manifest` makes and prints. All processes of a run have it of one.
    """
    from command_line import k710

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
