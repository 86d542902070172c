"""What is public is a fact: one sorted list, and everything in it is there, typed and explained."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import k710

HEAVY = ("duckdb", "pandas", "pyarrow", "av", "torch", "yt_dlp", "webdataset", "ray", "fsspec")
HERE = Path(k710.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(HERE).with_suffix("").parts) for path in HERE.rglob("[a-z]*.py")
)


def test_the_public_names_are_listed_once_and_sorted() -> None:
    # As ruff sorts them: constants, classes, then functions.
    assert k710.__all__ == sorted(set(k710.__all__), key=lambda name: (name.islower(), name))
    assert set(k710._MODULE_OF) == set(k710.__all__)
    assert set(k710.__all__) <= set(dir(k710))


@pytest.mark.parametrize("name", k710.__all__)
def test_every_public_name_has_a_docstring_and_a_home(name: str) -> None:
    value = getattr(k710, name)
    assert value.__doc__ and not value.__doc__.startswith(f"{name}("), "dataclass's own docstring"
    assert name in importlib.import_module(value.__module__).__all__


@pytest.mark.parametrize("module", MODULES)
def test_every_name_in_an_all_exists(module: str) -> None:
    loaded = importlib.import_module(f"k710.{module}")
    assert loaded.__all__ == sorted(loaded.__all__, key=lambda n: (not n.isupper(), n.islower(), n))
    for name in loaded.__all__:
        assert hasattr(loaded, name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = k710.nothing


def test_import_loads_nothing_heavy() -> None:
    code = f"import sys, k710; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
