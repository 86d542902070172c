"""Local, Ray and parts run the same task: the bytes are the same, whoever runs it."""

import subprocess
from pathlib import Path

import pytest

from k710.shards.verify import verify_shards
from support.command_line import K710, k710
from support.small_shards import all_ready, copy_of, tars


def words(work: Path, *options: str) -> list[str]:
    command = ["shard", "--views", "k400/train,k400/val", "--work", str(work)]
    return [*command, "--shard-size", "300kB", *options]


def start(work: Path, *options: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [K710, *words(work, *options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(*processes: "subprocess.Popen[str]") -> list[str]:
    """What they printed; all must end well and say nothing else."""
    said = [process.communicate() for process in processes]
    assert [err for _, err in said] == [""] * len(said)
    assert {process.returncode for process in processes} == {0}
    return [out for out, _ in said]


def everything(work: Path) -> dict[str, bytes]:
    """Name and bytes of all tables and tars."""
    paths = [work / "sources.parquet", *(work / "outcomes").glob("*.parquet")]
    return tars(work) | {f"{p.parent.name}/{p.name}": p.read_bytes() for p in paths}


@pytest.fixture(scope="module")
def untouched() -> Path:
    return all_ready()


@pytest.fixture(scope="module")
def local(untouched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = copy_of(untouched, tmp_path_factory.mktemp("local") / "work")
    done = k710(*words(work, "--workers", "2"))
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list((work / "shards").glob("*.tar"))) > 3
    return work


def test_ray_makes_the_same(untouched: Path, local: Path, tmp_path: Path) -> None:
    work = copy_of(untouched, tmp_path / "work")
    (said,) = ended(start(work, "--engine", "ray", "--workers", "2"))
    assert said.lstrip().startswith("Clips by how they fared")
    assert everything(work) == everything(local)


def test_three_parts_at_once_and_a_finish_make_the_same(
    untouched: Path, local: Path, tmp_path: Path
) -> None:
    work = copy_of(untouched, tmp_path / "work")
    parts = [start(work, "--workers", "1", "--part", f"{n}/3") for n in (1, 2, 3)]
    for number, said in enumerate(ended(*parts), 1):
        assert f" of part {number}/3 in " in said
        assert said.endswith("the same command, --finish instead of --part.\n")
    assert not (work / "index.parquet").exists()
    said = k710(*words(work, "--finish")).stdout
    assert "All there: " in said
    assert everything(work) == everything(local)
    assert verify_shards(work=work, deep=True, workers=1).faults == ()
    assert not (work / "staging").exists()
    assert "Nothing to do: " in k710(*words(work)).stdout


def test_a_folder_of_a_url_makes_the_same(untouched: Path, local: Path, tmp_path: Path) -> None:
    work = copy_of(untouched, tmp_path / "work")
    (tmp_path / "bucket").mkdir()
    done = k710(*words(work, "--staging", (tmp_path / "bucket").as_uri(), "--workers", "1"))
    assert (done.returncode, done.stderr) == (0, "")
    assert everything(work) == everything(local)
    assert list((tmp_path / "bucket").iterdir()) == []
