"""The script that counts rooms and arrows counts what its rule says."""

import importlib.util
from pathlib import Path

import pytest

from support.paths import ROOT

SPEC = importlib.util.spec_from_file_location("structure", ROOT / "scripts" / "structure.py")
assert SPEC and SPEC.loader
structure = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(structure)

FILES = {
    "__init__.py": "from p.one import x",
    "one.py": "import os, p.two\nfrom p import three",
    "two.py": "def f():\n    from .room.inner import y",
    "three.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p.two import z",
    "room/__init__.py": "",
    "room/inner.py": "from ..three import w\nfrom . import other\nfrom q.one import v",
    "room/deep/other.py": "from ...one import x",
    "room/__init__.pyi": "from .inner import y as y",
    "data/rows.sql": "select 1",
}
ARROWS = {
    ("one", "two"),
    ("one", "three"),
    ("two", "room"),
    ("three", "two"),
    ("room", "three"),
    ("room", "one"),
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "p" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return tmp_path / "p"


def test_an_entry_is_a_child_with_python_in_it(package: Path) -> None:
    assert structure.find_entries(package) == {"one", "two", "three", "room"}


def test_an_arrow_is_any_import_between_two_entries(package: Path) -> None:
    assert structure.find_arrows(package) == ARROWS
