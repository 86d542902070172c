"""A run of training: what it moves, what it keeps, where it goes on, and what it refuses."""

import dataclasses
import importlib.util
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from training_runs import log_of, small, work_in

from k710.errors import MissingExtra, RecipeError, StageError, TrainingError, WeightsError
from k710.files import locked
from uniformerv2 import checkpoint
from uniformerv2.checkpoint_files import read_tensors, step_of_run, write_tensors
from uniformerv2.class_order import ClassOrder
from uniformerv2.config import Config
from uniformerv2.head import remap_head
from uniformerv2.model import UniFormerV2
from uniformerv2.optim import Schedule, learning_rate
from uniformerv2.recipe import Recipe
from uniformerv2.recipe_files import changed
from uniformerv2.start import started
from uniformerv2.train import Seen, train
from uniformerv2.view import read_view
from uniformerv2.weights import read, record_of

STEPS = 12


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return work_in(tmp_path)


def trained(work: Path, run: str, *settings: str, **options: Any) -> Path:
    """The folder of a run that was trained to its end."""
    done = train(small(*settings), work=work, run=run, device="cpu", **options)
    assert done.is_finished
    return done.folder


def last_of(run: Path) -> dict[str, Tensor]:
    """The weights of a run's newest step."""
    newest = step_of_run(run)
    assert newest is not None
    return read_tensors(newest / "model.safetensors")[0]


def ids_of(work: Path) -> list[str]:
    return read_view(work, "k400/train").clip_ids


def test_it_learns_what_it_sees(work: Path) -> None:
    mild = ("augment.rand_augment=false", "augment.flip=0.0", "augment.area=[0.8, 1]")
    run = trained(work, "long", "optim.epochs=30", "model.head_dropout=0.0", *mild)
    lines = log_of(run)
    assert [line["step"] for line in lines] == list(range(1, 91))
    assert lines[0]["loss"] > 5  # of 400 classes, of which it sees 4: their entropy is 1.39
    assert sum(line["loss"] for line in lines[-10:]) / 10 < 2
    assert {line["epoch"] for line in lines} == {round(step / 3, 4) for step in range(1, 91)}


def test_learning_rates_are_those_of_the_schedule(work: Path) -> None:
    run = trained(work, "rates", "optim.start_lr=1e-5", "optim.end_lr=1e-4")
    schedule = Schedule(1e-3, 1e-5, 1e-4, 1, 4)
    expected = [learning_rate(schedule, step / 3) for step in range(STEPS)]
    assert [line["lr"] for line in log_of(run)] == expected


@pytest.mark.parametrize("clips", [4, 2, 1])
def test_parts_of_a_step_are_the_step(work: Path, clips: int) -> None:
    same = ("model.global_dropout=0.0", "model.head_dropout=0.0")
    whole = log_of(trained(work, "whole", *same))
    parts = log_of(trained(work, "parts", *same, f"run.clips_per_gpu={clips}"))
    for line, expected in zip(parts, whole, strict=True):
        assert line == pytest.approx(expected, rel=1e-4)


def test_dropout_has_masks_of_its_own_in_each_step(work: Path) -> None:
    """With nothing to learn from, and the same clips, only dropout differs."""
    still = ("optim.lr=0.0", "optim.start_lr=0.0", "optim.end_lr=0.0", "data.batch=12")
    same = ("augment.rand_augment=false", "augment.flip=0.0", "augment.area=[1, 1]")
    free = ("model.global_dropout=0.0", "model.head_dropout=0.0", "data.frames=1")
    lines = log_of(trained(work, "dropped", *still, *same, "data.frames=1"))
    losses = [line["loss"] for line in lines]
    assert len(set(losses)) == len(losses)
    clear = [line["loss"] for line in log_of(trained(work, "clear", *still, *same, *free))]
    # Frames are drawn too; but masks of rate 1/2 move the loss by far more.
    assert max(clear) - min(clear) < 0.3 * (max(losses) - min(losses))


def test_a_finished_run_has_nothing_left_to_do(work: Path) -> None:
    run = trained(work, "done")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*.safetensors")}
    lines = log_of(run)
    assert trained(work, "done", init=None) == run
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*.safetensors")} == before
    assert log_of(run) == lines


def test_a_run_goes_on_only_with_its_own_recipe(work: Path) -> None:
    trained(work, "mine")
    with pytest.raises(StageError, match=r"optim\.lr: 0\.1, was 0\.001") as found:
        train(small("optim.lr=0.1", "data.frames=8"), work=work, run="mine", device="cpu")
    assert "data.frames: 8, was 4" in str(found.value) and "another --run" in str(found.value)
    trained(work, "mine", "run.clips_per_gpu=1", "run.keep=7", "run.log_steps=3")  # are free


def test_a_run_goes_on_with_less_memory(work: Path) -> None:
    whole = trained(work, "whole")

    def stop(seen: Seen) -> None:
        if seen.step == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    assert train(small(), work=work, run="mine", device="cpu", watch=stop).step == 6
    run = trained(work, "mine", "model.checkpoint_blocks=2")
    last = step_of_run(run)
    assert last is not None and read(last).config.checkpoint_blocks == 2
    assert log_of(run) == log_of(whole)


def test_a_run_goes_on_only_with_its_own_clips(work: Path, tmp_path: Path) -> None:
    run = trained(work, "mine")
    folder = step_of_run(run)
    assert folder is not None
    text = (folder / "state.json").read_text()
    (folder / "state.json").write_text(text.replace('"num_clips": 12', '"num_clips": 13'))
    with pytest.raises(StageError, match="was trained on 13 clips of k400/train"):
        trained(work, "mine")


def test_two_processes_do_not_train_one_run(work: Path) -> None:
    with (
        locked(work / "runs" / "mine"),
        pytest.raises(StageError, match="is in use by"),
    ):
        trained(work, "mine")


def test_a_loss_that_is_no_number_stops_it_and_names_the_clips(work: Path) -> None:
    recipe = small("optim.lr=1e20", "optim.start_lr=1e20", "run.checkpoint_minutes=1e-6")
    with pytest.raises(TrainingError, match=r"Step \d+: the (loss|norm)") as found:
        train(recipe, work=work, run="burst", device="cpu")
    named = set(str(found.value).splitlines()[0].split()) & set(ids_of(work))
    assert 1 <= len(named) <= 4
    last = step_of_run(work / "runs" / "burst")
    if last is not None:
        assert all(t.isfinite().all() for t in read_tensors(last / "model.safetensors")[0].values())


def test_of_many_steps_at_a_look_the_first_bad_one_is_named(work: Path) -> None:
    recipe = small("optim.lr=1e20", "optim.start_lr=1e20", "run.log_steps=10")
    with pytest.raises(TrainingError, match=r"Step [2-4]: the (loss|norm)"):
        train(recipe, work=work, run="burst", device="cpu")
    assert not list((work / "runs" / "burst").glob("step_*"))


def test_a_frozen_vit_stays_as_it_is(work: Path) -> None:
    recipe = small("model.frozen=true")
    model, _ = started(recipe, None)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    run = train(recipe, work=work, run="frozen", device="cpu").folder
    after = last_of(run)
    vit = ("blocks.", "patch_embedding.", "class_token", "positions", "norm_before.")
    for name, tensor in after.items():
        assert torch.equal(tensor, before[name]) == name.startswith(vit), name


def test_what_is_kept_of_an_average_is_the_average(work: Path) -> None:
    plain = last_of(trained(work, "plain"))
    none = last_of(trained(work, "none", "optim.ema=0.0"))  # the weights themselves
    assert all(torch.equal(plain[name], none[name]) for name in plain)
    run = trained(work, "average", "optim.ema=0.5")
    averages = last_of(run)
    last = step_of_run(run)
    assert last is not None
    weights = checkpoint.read_optim(last)["weights"]
    assert all(torch.equal(plain[name], weights[name]) for name in plain)
    every = trained(work, "every", "run.checkpoint_minutes=1e-6", "run.keep=100")
    path = [read_tensors(p / "model.safetensors")[0] for p in sorted(every.glob("step_*"))]
    mean, _ = started(small(), None)
    expected = {name: p.detach().clone() for name, p in mean.named_parameters()}
    for step in path:
        expected = {name: 0.5 * mean + 0.5 * step[name] for name, mean in expected.items()}
    for name, tensor in expected.items():
        torch.testing.assert_close(averages[name], tensor, rtol=1e-5, atol=1e-7)


def test_the_last_weights_can_be_mixed_with_the_first(work: Path) -> None:
    first = {n: p.detach().clone() for n, p in started(small(), None)[0].named_parameters()}
    plain = last_of(trained(work, "plain"))
    mixed = last_of(trained(work, "mixed", "optim.wise=0.25", "run.checkpoint_minutes=1e-6"))
    for name, start in first.items():
        expected = 0.75 * start + 0.25 * plain[name]
        torch.testing.assert_close(mixed[name], expected, rtol=1e-5, atol=1e-7)
    whole = last_of(trained(work, "whole", "optim.wise=1.0"))
    assert all(torch.equal(plain[name], whole[name]) for name in plain)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_narrow_floats_train_too(work: Path, precision: str) -> None:
    lines = log_of(trained(work, precision, f"run.precision={precision}"))
    wide = log_of(trained(work, "fp32"))
    assert lines != wide
    assert lines[0]["loss"] == pytest.approx(wide[0]["loss"], rel=0.02)


def test_only_whole_checkpoints_count(work: Path) -> None:
    run = trained(work, "mine", "run.checkpoint_minutes=1e-6", "run.keep=5")
    folders = sorted(run.glob("step_*"))
    assert [f.name for f in folders] == [f"step_{step:09d}" for step in range(8, 13)]
    (folders[-1] / "state.json").unlink()  # killed before it was written
    with (folders[-2] / "optim.pt").open("r+b") as file:
        file.truncate(1000)  # a copy that broke off
    (folders[-3] / "state.json").write_text('{"step": 10')
    assert step_of_run(run) == folders[-4]
    lines = log_of(run)
    trained(work, "mine", "run.checkpoint_minutes=1e-6", "run.keep=5")
    assert log_of(run) == lines
    shutil.rmtree(run / folders[0].name)
    assert step_of_run(work / "runs" / "never") is None


def test_validation_clips_that_are_not_there_are_said_before_the_first_step(work: Path) -> None:
    with pytest.raises(StageError, match="no view 'k710/test'") as found:
        trained(work, "mine", "data.val=k710/test")
    assert "--set data.val=none" in str(found.value)


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is not None, reason="is installed")
def test_a_logger_that_is_not_installed_is_said(work: Path) -> None:
    with pytest.raises(MissingExtra, match="pip install tensorboard"):
        trained(work, "mine", "run.tensorboard=true")


# --- what it starts from


def written(path: Path, config: Config, order: ClassOrder | None) -> UniFormerV2:
    """A model with drawn weights in every place, as a checkpoint of k710."""
    torch.manual_seed(1)
    model = UniFormerV2(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    record = record_of(config, order, "k710")
    write_tensors(path, model.state_dict(), record=record, wrapper="model_state")
    return model


def from_video(*settings: str) -> Recipe:
    return small("start.kind=video", *settings)


def test_the_head_gets_the_rows_of_its_classes(tmp_path: Path) -> None:
    config = dataclasses.replace(small().model, num_classes=710)
    path = tmp_path / "k710.safetensors"
    written(path, config, ClassOrder("k710", "alphabetical"))
    model, order = started(from_video(), str(path))
    assert order == ClassOrder("k400", "alphabetical")
    remapped = remap_head(path, "k400").path
    expected = read_tensors(remapped)[0]
    assert model.training and model.config.num_classes == 400
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())
    again, _ = started(from_video(), str(remapped))  # whose head is K400's already
    assert torch.equal(again.head.weight, model.head.weight)
    other, _ = started(from_video("start.head=random"), str(path))
    assert not torch.equal(other.head.weight, model.head.weight)
    assert torch.equal(other.norm.weight, model.norm.weight)


def test_what_is_not_the_recipes_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "k710.safetensors"
    config = dataclasses.replace(small().model, num_classes=710)
    written(path, dataclasses.replace(config, width=128, heads=4), ClassOrder("k710", "opengvlab"))
    with pytest.raises(WeightsError, match="of another shape"):
        started(from_video(), str(path))
    written(path, dataclasses.replace(config, num_classes=5), None)
    with pytest.raises(WeightsError, match=r"start\.head=random"):
        started(from_video(), str(path))
    started(from_video("start.head=random"), str(path))


@pytest.mark.parametrize(
    ("settings", "init", "said"),
    [
        (("start.kind=image", "start.of=CLIP"), None, "starts from CLIP: give it with --init"),
        (("start.kind=video", "start.of=k710_x"), None, "k710 finetune --from"),
        (("start.kind=scratch",), "x.pt", "starts from nothing: 'x.pt' has no use"),
    ],
)
def test_what_a_recipe_starts_from_must_be_there(
    settings: tuple[str, ...], init: str | None, said: str
) -> None:
    with pytest.raises(RecipeError, match=said):
        started(small(*settings), init)


def test_the_same_seed_draws_the_same_weights() -> None:
    models = [started(changed(small(), [f"run.seed={seed}"]), None)[0] for seed in (1, 1, 2)]
    one, same, other = (model.head.weight for model in models)
    assert torch.equal(one, same) and not torch.equal(one, other)
