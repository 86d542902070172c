"""k710 evaluate: what it prints, beside what was published; and what is said when it can't."""

import dataclasses
from pathlib import Path

import pytest

from support.command_line import k710
from support.small_runs import small, work_in
from uniformerv2.recipe import Published
from uniformerv2.recipe_toml import change_recipe, to_toml
from uniformerv2.training.init import init_model
from uniformerv2.weights.class_order import ClassOrder
from uniformerv2.weights.files import write_tensors
from uniformerv2.weights.load import make_record

SHORT = ("--clips", "1", "--crops", "1", "--frames", "4", "--device", "cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work directory, and a model of K400 beside it that says `zumba` of all clips."""
    path = tmp_path_factory.mktemp("evaluate")
    work_in(path)
    recipe = change_recipe(small(), ["eval.clips=1", "eval.crops=1"])
    published = dataclasses.replace(recipe, published=Published(80.0, "8x3x4", 95.0))
    (path / "own.toml").write_text(to_toml(published))
    model, _ = init_model(recipe, None)
    order = ClassOrder("k400", "alphabetical")
    model.state_dict()["head.bias"][399] = 1000  # the last of the alphabet
    record = make_record(recipe.model, order, "k710")
    write_tensors(
        path / "zumba.safetensors", model.state_dict(), record=record, wrapper="model_state"
    )
    return path


def test_what_came_out_stands_beside_what_was_published(folder: Path) -> None:
    done = k710(
        *("evaluate", "zumba.safetensors", "--view", "k400/val", "--recipe", "own.toml"),
        *("--device", "cpu"),
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[0] == "zumba.safetensors on k400/val, 4 frames x 1 crops x 1 clips"
    assert "top-1 50.00% 80.0% -30.00" in lines
    assert "mean of classes 50.00%" in lines
    assert any(line.startswith("of 2 of the 2 clips of the list (0.00% missing)") for line in lines)
    assert "archery zumba 1 100.0%" in lines
    assert any(line.startswith("Published: 8x3x4") for line in lines)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere", "--view", "k400/val"), "'nowhere' is no file, and no run in 'work/runs'.\n"),
        (("zumba.safetensors", "--view", "k400/vall"), "There is no view 'k400/vall'"),
        (("zumba.safetensors", "--view", "k710/val"), "has no row for 310 classes of k710"),
        (("zumba.safetensors", "--view", "k400/val", "--recipe", "k40"), "no recipe 'k40'"),
    ],
)
def test_what_is_wrong_is_said(folder: Path, words: tuple[str, ...], said: str) -> None:
    done = k710("evaluate", *words, *SHORT, cwd=folder)
    assert done.returncode == 1 and said in done.stderr and done.stdout == ""


@pytest.mark.parametrize("words", [("--clips", "0"), ("--crops", "2"), ("--shuffle-frames", "-1")])
def test_wrong_usage_is_exit_2(folder: Path, words: tuple[str, ...]) -> None:
    command = ("evaluate", "zumba.safetensors", "--view", "k400/val")
    assert k710(*command, *words, cwd=folder).returncode == 2
