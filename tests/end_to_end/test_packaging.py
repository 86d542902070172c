"""The wheel and the editable install: what a user gets with pip, in an environment of its own."""

import re
import subprocess
import sys
import sysconfig
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from k710.demo.lists import write_demo_lists

ROOT = Path(__file__).resolve().parents[2]
WHERE = "from k710.files import manifests_dir; print(manifests_dir())"


@pytest.fixture(autouse=True)
def hide_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """A PYTHONPATH that leads to the checkout would stand in for what is installed."""
    monkeypatch.delenv("PYTHONPATH", raising=False)


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A new environment that sees the dependencies installed here, but not k710."""
    path = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(path)], check=True)
    # A folder named in a .pth is searched, but the .pth of an editable k710 in it is not read.
    packages = path / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    here = sysconfig.get_path("purelib")
    (packages / "site-packages" / "dependencies.pth").write_text(f"{here}\n")
    return path


def pip_install(environment: Path, *what: str) -> None:
    python = environment / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    offline = ["--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check"]
    done = subprocess.run([*command, *offline, *what], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = out.glob("*.whl")
    return path


def test_the_wheel_holds_code_sql_tables_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in ("labels.csv", "aliases.csv", "sources.toml"):
        assert f"k710/_manifests/{name}" in names
    tree = [path for top in ("k710", "uniformerv2") for path in (ROOT / top).rglob("*.*")]
    code = {str(path.relative_to(ROOT)) for path in tree if path.suffix != ".pyc"}
    assert code <= names
    suffixes = Counter(Path(name).suffix for name in code)
    assert suffixes[".sql"] > 40 and suffixes[".pyi"] > 15 and suffixes[".toml"] > 34
    assert {"k710/py.typed", "uniformerv2/py.typed", "k710_cli/py.typed"} <= names
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "k710",
        "uniformerv2",
        "k710_cli",
    }
    metadata = next(name for name in names if name.endswith("dist-info/METADATA"))
    text = zipfile.ZipFile(wheel).read(metadata).decode()
    assert "License-Expression: Apache-2.0" in text
    for extra in ("train", "onnx", "ray", "dev"):
        assert f"Provides-Extra: {extra}\n" in text
    base = [
        line for line in text.splitlines() if line.startswith("Requires-Dist") and ";" not in line
    ]
    assert not any("torch" in line for line in base)


def check_installed(environment: Path, folder: Path, where: Callable[[Path], bool]) -> None:
    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    found = Path(run(str(environment / "bin" / "python"), "-c", WHERE).strip())
    assert where(found), found
    assert (found / "labels.csv").is_file()
    program = str(environment / "bin" / "k710")
    assert "build-manifest" in run(program, "--help")
    labels = run(program, "labels", "--dataset", "k400", "--family", "alphabetical")
    assert labels.splitlines()[1].split() == ["0", "341", "abseiling"]


def test_an_installed_wheel_works(wheel: Path, environment: Path, tmp_path: Path) -> None:
    pip_install(environment, str(wheel))
    check_installed(environment, tmp_path, lambda found: found.is_relative_to(environment))
    write_demo_lists(tmp_path / "annotations")
    build = (str(environment / "bin" / "k710"), "build-manifest", "--annotations", "annotations")
    done = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "k710/train" in done.stdout


@pytest.mark.slow  # scripts/demo runs it too, from the checkout
def test_the_demo_runs_from_an_installed_wheel(
    wheel: Path, environment: Path, tmp_path: Path
) -> None:
    pip_install(environment, str(wheel))
    program = str(environment / "bin" / "k710")
    demo = subprocess.run([program, "demo"], cwd=tmp_path, capture_output=True, text=True)
    assert demo.returncode == 0, demo.stderr
    assert "not in k710/train: its id is in k700/val" in demo.stdout
    assert re.search(
        r"\d+ shards, 1,\d{3} clips, each decoded, .* MB: all as written\.", demo.stdout
    )


def test_an_editable_install_works(environment: Path, tmp_path: Path) -> None:
    pip_install(environment, "--editable", str(ROOT))
    check_installed(environment, tmp_path, lambda found: found == ROOT / "manifests")
