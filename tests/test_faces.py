"""What is public is a fact: one list for each package, and everything in it is there, explained."""

import importlib
import subprocess
import sys
import types
from pathlib import Path

import pytest

import k710
import uniformerv2

HEAVY = ("duckdb", "pandas", "pyarrow", "av", "torch", "yt_dlp", "webdataset", "ray", "fsspec")
ROOT = Path(__file__).resolve().parents[1]
HAS_TORCH = importlib.util.find_spec("torch") is not None
ROOMS = sorted(
    ".".join(path.relative_to(ROOT).parts[:-1])
    for package in ("k710", "uniformerv2")
    for path in (ROOT / package).rglob("__init__.py")
)
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "k710").rglob("[a-z]*.py")
)


def load(name: str) -> types.ModuleType:
    """A package, if what its public names need is installed."""
    needs_torch = name.startswith("uniformerv2") and name != "uniformerv2.dataset"
    if needs_torch and not HAS_TORCH:
        pytest.skip("needs PyTorch")
    return importlib.import_module(name)


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_has_a_docstring_and_a_home(room: str) -> None:
    face = load(room)
    assert face.__doc__ and face.__all__ == sorted(set(face.__all__))
    assert set(face.__all__) <= set(dir(face))
    for name in face.__all__:
        value = getattr(face, name)
        if not isinstance(value, type | types.FunctionType):
            continue  # a constant, or a Literal
        doc = value.__doc__
        assert doc and not doc.startswith(f"{name}("), f"{name}: the dataclass's own docstring"
        assert name in importlib.import_module(value.__module__).__all__


@pytest.mark.parametrize("room", ROOMS)
def test_no_public_name_is_a_modules_too(room: str) -> None:
    face = importlib.import_module(room)
    folder = Path(str(face.__file__)).parent
    modules = {path.stem for path in folder.iterdir() if path.suffix in (".py", "")}
    assert not modules & set(face.__all__)


@pytest.mark.parametrize("module", MODULES)
def test_every_name_in_an_all_exists(module: str) -> None:
    loaded = importlib.import_module(module)
    assert loaded.__all__ == sorted(loaded.__all__, key=lambda n: (not n.isupper(), n.islower(), n))
    for name in loaded.__all__:
        assert hasattr(loaded, name)


def test_promised_names_are_there() -> None:
    promised = {"TrainingError", "download_videos", "build_manifest", "make_shards", "read_frames"}
    assert promised <= set(k710.__all__) and k710.__version__
    promised = {"UniFormerV2", "load_model", "Loader", "read_view", "view_frames", "train_bounds"}
    promised |= {"train_model", "evaluate_model", "predict_videos"}
    assert promised <= set(uniformerv2.__all__)


def test_names_that_were_moved_are_where_they_were() -> None:
    pytest.importorskip("torch")
    from k710.labels import head_map, k710_order
    from k710.video import read_frames
    from uniformerv2.augment import evaluation_clip
    from uniformerv2.data import train_bounds, view_frames
    from uniformerv2.weights import from_reference

    names = (head_map, k710_order, read_frames, evaluation_clip, train_bounds, view_frames)
    assert all(map(callable, (*names, from_reference)))


@pytest.mark.parametrize("package", ["k710", "uniformerv2"])
def test_an_unknown_name_is_an_attribute_error(package: str) -> None:
    with pytest.raises(AttributeError, match="nothing"):
        _ = importlib.import_module(package).nothing


def test_imports_load_nothing_heavy() -> None:
    rooms = "; ".join(f"import {room}" for room in ROOMS)
    code = f"import sys; {rooms}; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
