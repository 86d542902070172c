"""A run of training: what it moves, what it keeps, where it goes on, and what it refuses."""

import contextlib
import dataclasses
import importlib.util
import json
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import typer
from safetensors.torch import save_file
from torch import Tensor

from k710.errors import MissingExtra, RecipeError, StageError, TrainingError, WeightsError
from k710.files import locked
from k710.labels.orders import labels_sha256
from k710_cli import app
from k710_cli.train import _show_progress
from support.small_runs import log_of, small, work_in
from uniformerv2.augment.colours import CLIP
from uniformerv2.augment.mixup import Mixing, draw_mix
from uniformerv2.augment.transforms import training_clip
from uniformerv2.config import Config, Precision
from uniformerv2.data import Loader
from uniformerv2.dataset.clips import ViewIndex, read_view
from uniformerv2.dataset.decode import Reading
from uniformerv2.dataset.draws import generator_of
from uniformerv2.dataset.frames import Sampling
from uniformerv2.dataset.shard_reader import ShardReader
from uniformerv2.evaluate import EvalViews, evaluate_model
from uniformerv2.evaluation.scoring import Scores, score_clips
from uniformerv2.model import UniFormerV2
from uniformerv2.recipe import Optim, Recipe
from uniformerv2.recipe_toml import change_recipe, to_toml
from uniformerv2.train import TrainResult, train_model
from uniformerv2.training import checkpoint
from uniformerv2.training.init import init_model
from uniformerv2.training.metrics import RunProgress
from uniformerv2.training.optim import learning_rate
from uniformerv2.weights.class_order import ClassOrder
from uniformerv2.weights.convert import remap_head
from uniformerv2.weights.files import read_tensors, step_of_run, write_tensors
from uniformerv2.weights.load import make_record, read_checkpoint

STEPS = 12


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return work_in(tmp_path)


def trained(work: Path, run: str, *settings: str, **options: Any) -> Path:
    """The folder of a run that was trained to its end."""
    done = train_model(small(*settings), work=work, run=run, device="cpu", **options)
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
    schedule = Optim(lr=1e-3, start_lr=1e-5, end_lr=1e-4, warmup_epochs=1, epochs=4)
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
        train_model(small("optim.lr=0.1", "data.frames=8"), work=work, run="mine", device="cpu")
    assert "data.frames: 8, was 4" in str(found.value) and "another --run" in str(found.value)
    trained(work, "mine", "run.clips_per_gpu=9", "run.keep=7", "run.log_steps=3")  # are free
    with pytest.raises(StageError, match=r"run\.clips_per_gpu: 1, was 9\n.*masks of dropout"):
        trained(work, "mine", "run.clips_per_gpu=1")
    (work / "runs" / "mine" / "recipe.toml").unlink()
    with pytest.raises(StageError, match=r"recipe\.toml is missing"):
        trained(work, "mine")


def test_a_run_goes_on_with_less_memory(work: Path) -> None:
    whole = trained(work, "whole")

    def stop(seen: RunProgress) -> None:
        if seen.step == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    assert train_model(small(), work=work, run="mine", device="cpu", watch=stop).step == 6
    run = trained(work, "mine", "model.checkpoint_blocks=2")
    last = step_of_run(run)
    assert last is not None and read_checkpoint(last).config.checkpoint_blocks == 2
    assert log_of(run) == log_of(whole)


def test_a_run_goes_on_only_with_its_own_clips(work: Path, tmp_path: Path) -> None:
    run = trained(work, "mine")
    folder = step_of_run(run)
    assert folder is not None
    text = (folder / "state.json").read_text()
    (folder / "state.json").write_text(text.replace('"num_clips": 12', '"num_clips": 13'))
    with pytest.raises(StageError, match="was trained on 13 clips of k400/train") as found:
        trained(work, "mine")
    assert f"--set start.kind=video --init {folder}." in str(found.value)
    trained(work, "other", "start.kind=video", init=str(folder))
    (folder / "state.json").write_text(text.replace(labels_sha256(), "0" * 64))
    with pytest.raises(StageError, match="has a head for other classes"):
        trained(work, "mine")


def test_a_run_without_a_step_is_refused(work: Path) -> None:
    with pytest.raises(StageError, match=r"optim\.epochs \(0\.1\) of 3 steps each are no step"):
        trained(work, "short", "optim.epochs=0.1", "optim.warmup_epochs=0")


def test_two_processes_do_not_train_one_run(work: Path) -> None:
    with (
        locked(work / "runs" / "mine"),
        pytest.raises(StageError, match="is in use by"),
    ):
        trained(work, "mine")


def test_a_loss_that_is_no_number_stops_it_and_names_the_clips(work: Path) -> None:
    recipe = small("optim.lr=1e20", "optim.start_lr=1e20", "run.checkpoint_minutes=1e-6")
    with pytest.raises(TrainingError, match=r"Step \d+: the (loss|norm)") as found:
        train_model(recipe, work=work, run="burst", device="cpu")
    named = set(str(found.value).splitlines()[0].split()) & set(ids_of(work))
    assert 1 <= len(named) <= 4
    last = step_of_run(work / "runs" / "burst")
    if last is not None:
        assert all(t.isfinite().all() for t in read_tensors(last / "model.safetensors")[0].values())


def test_of_many_steps_at_a_look_the_first_bad_one_is_named(work: Path) -> None:
    recipe = small("optim.lr=1e20", "optim.start_lr=1e20", "run.log_steps=10")
    with pytest.raises(TrainingError, match=r"Step [2-4]: the (loss|norm)"):
        train_model(recipe, work=work, run="burst", device="cpu")
    assert not list((work / "runs" / "burst").glob("step_*"))


@pytest.mark.parametrize("more", [(), ("optim.ema=0.9",)])
def test_a_frozen_vit_stays_as_it_is(work: Path, more: tuple[str, ...]) -> None:
    recipe = small("model.frozen=true", *more)
    model, _ = init_model(recipe, None)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    run = train_model(recipe, work=work, run="frozen", device="cpu").folder
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
    mean, _ = init_model(small(), None)
    expected = {name: p.detach().clone() for name, p in mean.named_parameters()}
    for step in path:
        expected = {name: 0.5 * mean + 0.5 * step[name] for name, mean in expected.items()}
    for name, tensor in expected.items():
        torch.testing.assert_close(averages[name], tensor, rtol=1e-5, atol=1e-7)


def test_the_last_weights_can_be_mixed_with_the_first(work: Path) -> None:
    first = {n: p.detach().clone() for n, p in init_model(small(), None)[0].named_parameters()}
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


@pytest.mark.parametrize("keep", [1, 2])
def test_unfinished_checkpoints_are_not_kept_in_place_of_whole_ones(work: Path, keep: int) -> None:
    settings = ("run.checkpoint_minutes=1e-6", f"run.keep={keep}")

    def stop(seen: RunProgress) -> None:
        if seen.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    run = work / "runs" / "mine"
    for unfinished in (11, 12):  # killed while it wrote them, and gone on from before
        (run / f"step_{unfinished:09d}").mkdir(parents=True)
    assert train_model(small(*settings), work=work, run="mine", device="cpu", watch=stop).step == 5
    assert step_of_run(run) == run / "step_000000005"
    assert sorted(run.glob("step_*")) == [run / f"step_{n:09d}" for n in range(6 - keep, 6)]


@pytest.mark.parametrize("text", ['{"files": ["model.safetensors"]}', "[" * 200_000, "7"])
def test_a_state_that_is_none_is_passed_over(work: Path, text: str) -> None:
    run = trained(work, "mine", "run.checkpoint_minutes=1e-6")
    *_, before, newest = sorted(run.glob("step_*"))
    (newest / "state.json").write_text(text)
    assert step_of_run(run) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_comes_twice_is_asked_once(work: Path, number: signal.Signals) -> None:
    """Slurm tells all processes of a job to end, torchrun among them, which tells its own again."""

    def stop(seen: RunProgress) -> None:
        for _ in range(2 * (seen.step == 2)):
            os.kill(os.getpid(), number)

    done = train_model(small(), work=work, run="mine", device="cpu", watch=stop)
    assert step_of_run(done.folder) == done.folder / "step_000000003"


def test_a_ctrl_c_some_seconds_later_ends_it(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uniformerv2.training.run._SAME_S", -1.0)

    def stop(seen: RunProgress) -> None:
        for _ in range(2 * (seen.step == 2)):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train_model(small(), work=work, run="mine", device="cpu", watch=stop)


@pytest.mark.parametrize("room", [1_000, 1_000_000])  # not even for the weights; not for moments
def test_a_full_disk_is_worded_and_leaves_nothing(tmp_path: Path, room: int) -> None:
    state = checkpoint.RunState(1, 3, 12, "k400/train", "", 12, 12, "")
    weights = {"weight": torch.ones(100_000)}
    optim = {"moments": {"weight": {"exp_avg": torch.ones(1_000_000)}}}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(StageError, match="No room left to write"):
            checkpoint.save(tmp_path, state, weights=weights, record={}, optim=optim)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())
    checkpoint.save(tmp_path, state, weights=weights, record={}, optim=optim)


def test_without_dropout_a_run_goes_on_with_other_parts(work: Path) -> None:
    same = ("model.global_dropout=0.0", "model.head_dropout=0.0")
    trained(work, "mine", *same)
    trained(work, "mine", *same, "run.clips_per_gpu=1")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work directory with a run that was stopped after 2 of its 3 steps, as `mine`."""
    work = work_in(tmp_path_factory.mktemp("stopped"))

    def stop(seen: RunProgress) -> None:
        if seen.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    assert train_model(short(), work=work, run="mine", device="cpu", watch=stop).step == 2
    return work


def short(*settings: str) -> Recipe:
    return small("optim.epochs=1", "optim.warmup_epochs=0", "optim.wise=0.5", *settings)


def copied(stopped: Path, folder: Path) -> tuple[Path, Path]:
    """A work directory of this test's own, and its run's step; shards are those of the other."""
    shutil.copytree(stopped / "runs", folder / "runs")
    for path in stopped.iterdir():
        if path.name not in ("runs", ".lock"):
            (folder / path.name).symlink_to(path)
    step = step_of_run(folder / "runs" / "mine")
    assert step is not None
    return folder, step


def go_on(work: Path) -> TrainResult:
    return train_model(short(), work=work, run="mine", device="cpu")


def without_hashes(step: Path) -> None:
    """As older versions wrote it: sizes are those of the files."""
    state = json.loads((step / "state.json").read_text())
    state.pop("sha256", None)
    state["files"] = {name: (step / name).stat().st_size for name in state["files"]}
    (step / "state.json").write_text(json.dumps(state))


@pytest.mark.parametrize("step", ["1", -5, 2.5, 13, None, 1])
def test_a_damaged_state_is_worded(stopped: Path, tmp_path: Path, step: Any) -> None:
    work, folder = copied(stopped, tmp_path)
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps(state | {"step": step}))
    with pytest.raises(StageError, match="is no state of a run"):
        go_on(work)


@pytest.mark.parametrize("name", ["optim.pt", "model.safetensors", "../start.safetensors"])
def test_a_flipped_bit_is_no_checkpoint(stopped: Path, tmp_path: Path, name: str) -> None:
    work, step = copied(stopped, tmp_path)
    data = bytearray((step / name).read_bytes())
    data[len(data) // 2] ^= 1
    (step / name).write_bytes(data)
    words = r"'? is not what its run wrote: state.json has another SHA-256"
    with pytest.raises(WeightsError, match=Path(name).name + words):
        go_on(work)
    if name == "model.safetensors":
        with pytest.raises(WeightsError, match=words):
            read_checkpoint(step.parent)
        with pytest.raises(WeightsError, match=words):
            evaluate_model(step, "k400/val", EvalViews(workers=0), work=work, device="cpu")
    without_hashes(step)
    if name != "../start.safetensors":
        assert not go_on(work).is_checked


def test_weights_of_another_model_are_no_checkpoint(stopped: Path, tmp_path: Path) -> None:
    work, step = copied(stopped, tmp_path)
    config = read_checkpoint(step).config
    written(step / "model.safetensors", config, ClassOrder("k400", "opengvlab"))
    with pytest.raises(WeightsError, match=r"model\.safetensors'? is not what its run wrote"):
        go_on(work)
    other = dataclasses.replace(config, heads=2)  # of the same shapes
    written(step / "model.safetensors", other, ClassOrder("k400", "opengvlab"))
    without_hashes(step)
    with pytest.raises(WeightsError, match="records a model with heads = 2, and the run's recipe"):
        go_on(work)
    written(step / "model.safetensors", config, None)
    without_hashes(step)
    with pytest.raises(WeightsError, match="does not say which classes its head has"):
        go_on(work)


def test_a_lost_start_is_said_before_the_last_step(stopped: Path, tmp_path: Path) -> None:
    work, step = copied(stopped, tmp_path)
    start = step.parent / "start.safetensors"
    save_file({"a": torch.ones(1)}, start)
    with pytest.raises(WeightsError, match=r"start\.safetensors'? does not fit the model"):
        go_on(work)
    start.unlink()
    with pytest.raises(WeightsError, match=r"start\.safetensors'? can't be read"):
        go_on(work)


Changes = Callable[[dict[str, Any], str, dict[str, Tensor]], Any]
WRONG: dict[str, Changes] = {
    "a list": lambda optim, name, moment: [1],
    "a text": lambda optim, name, moment: "x",
    "no moments": lambda optim, name, moment: {"scaler": {}},
    "no scaler": lambda optim, name, moment: {"moments": optim["moments"]},
    "a list for the scaler": lambda optim, name, moment: optim | {"scaler": [1]},
    "half a scaler": lambda optim, name, moment: optim | {"scaler": {"scale": 1.0}},
    "a text in the scaler": lambda optim, name, moment: (
        optim | {"scaler": dict.fromkeys(checkpoint._SCALER, "x")}
    ),
    "a list for the weights": lambda optim, name, moment: optim | {"weights": [1]},
    "lists for weights": lambda optim, name, moment: optim | {"weights": {name: [1.0]}},
    "weights of another model": lambda optim, name, moment: (
        optim | {"weights": {name: torch.ones(1)}}
    ),
    "a number for moments": lambda optim, name, moment: optim | {"moments": {name: 3}},
    "none of them": lambda optim, name, moment: optim | {"moments": {}},
    "a step alone": lambda optim, name, moment: (
        optim | {"moments": optim["moments"] | {name: {"step": moment["step"]}}}
    ),
    "another shape": lambda optim, name, moment: (
        optim | {"moments": optim["moments"] | {name: moment | {"exp_avg": torch.zeros(1)}}}
    ),
    "a list for a tensor": lambda optim, name, moment: (
        optim | {"moments": optim["moments"] | {name: moment | {"exp_avg": [0.0]}}}
    ),
    "whole numbers": lambda optim, name, moment: (
        optim
        | {"moments": optim["moments"] | {name: moment | {"exp_avg": moment["exp_avg"].long()}}}
    ),
    "wide numbers": lambda optim, name, moment: (
        optim
        | {"moments": optim["moments"] | {name: moment | {"exp_avg": moment["exp_avg"].double()}}}
    ),
    "a text for the step": lambda optim, name, moment: (
        optim | {"moments": optim["moments"] | {name: moment | {"step": "x"}}}
    ),
    "many steps": lambda optim, name, moment: (
        optim | {"moments": optim["moments"] | {name: moment | {"step": torch.ones(2)}}}
    ),
    "one more": lambda optim, name, moment: (
        optim | {"moments": optim["moments"] | {name: moment | {"max_exp_avg_sq": torch.ones(1)}}}
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_damaged_state_of_the_optimizer_is_worded(
    stopped: Path, tmp_path: Path, what: str
) -> None:
    work, step = copied(stopped, tmp_path)
    optim = checkpoint.read_optim(step)
    name, moment = next(iter(optim["moments"].items()))
    bad = WRONG[what](optim, name, moment)
    (step / "optim.pt").unlink()  # what was read of it is mapped
    torch.save(bad, step / "optim.pt")
    without_hashes(step)
    with pytest.raises(WeightsError, match=r"no state of an opt|no moments of|of another model"):
        go_on(work)


def test_a_full_disk_while_the_log_is_written_is_worded(work: Path) -> None:
    """Some steps' lines fit; what was half-written is cut off when the run goes on."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    settings = ("run.checkpoint_minutes=1e9",)
    log = work / "runs" / "mine" / "log.jsonl"

    def fill(seen: RunProgress) -> None:
        if seen.step == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size + 30, before[1]))

    try:
        with pytest.raises(StageError, match=r"No room left to write in .*mine"):
            train_model(small(*settings), work=work, run="mine", device="cpu", watch=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    lines = log.read_text().splitlines(keepends=True)
    assert len(lines) == 3 and not lines[-1].endswith("\n")
    trained(work, "mine", *settings)
    assert [line["step"] for line in log_of(work / "runs" / "mine")] == list(range(1, STEPS + 1))


@pytest.mark.parametrize("setting", ["data.frames=1000000", "model.width=65536"])
def test_what_can_not_fit_is_refused_before_memory_is_taken(work: Path, setting: str) -> None:
    with pytest.raises(RecipeError, match=r"needs at least [\d,.]+ GiB of memory"):
        train_model(small("model.size=64", setting), work=work, run="mine", device="cpu")
    assert not (work / "runs").exists()


@pytest.mark.parametrize("at", [6, 12])
@pytest.mark.parametrize("how", ["told", "killed"])
def test_a_look_comes_after_the_checkpoint_and_is_made_up_for(
    work: Path, monkeypatch: pytest.MonkeyPatch, how: str, at: int
) -> None:
    settings = ("data.val=k400/val", "eval.every_epochs=2", "run.checkpoint_minutes=1e-6")
    expected = log_of(trained(work, "undisturbed", *settings))

    def stop(seen: RunProgress) -> None:
        if how == "told" and seen.step == at - 1:
            os.kill(os.getpid(), signal.SIGTERM)

    def killed(*_: object) -> None:
        if len(list((work / "runs" / "mine").glob(f"step_{at:09d}"))):
            raise KeyboardInterrupt
        return score_clips(*_)  # type: ignore[return-value,arg-type]

    with monkeypatch.context() as patched:
        patched.setattr("uniformerv2.evaluation.scoring.score_clips", killed)
        with contextlib.suppress(KeyboardInterrupt):
            train_model(small(*settings), work=work, run="mine", device="cpu", watch=stop)
    run = work / "runs" / "mine"
    last = step_of_run(run)
    assert last is not None and checkpoint.read_state(last).step == at
    assert log_of(run) == [line for line in expected if line["step"] <= at][:-1]
    trained(work, "mine", *settings)
    assert log_of(run) == expected


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_look_is_a_test_of_one_view(
    work: Path, monkeypatch: pytest.MonkeyPatch, precision: Precision
) -> None:
    seen: list[Scores] = []

    def kept(*arguments: Any) -> Scores:
        seen.append(score_clips(*arguments))
        return seen[-1]

    monkeypatch.setattr("uniformerv2.evaluation.scoring.score_clips", kept)
    settings = ("data.val=k400/val", "augment.colours=clip", f"run.precision={precision}")
    run = trained(work, "mine", *settings, "optim.ema=0.5")
    views = EvalViews(num_clips=1, num_crops=1, precision=precision, workers=0)
    tested = evaluate_model(run, "k400/val", views, work=work, device="cpu")
    assert tested is not None and tested.top1 == log_of(run)[-1]["val_top1"]
    ids = read_view(work, "k400/val").clip_ids
    rows = pq.read_table(tested.path).to_pylist()
    told = {row["clip_id"]: (row["top5"], row["score5"]) for row in rows}
    last = seen[-1]
    for row, top, sums in zip(last.rows, last.top, last.sums, strict=True):
        classes, scores = told[ids[row]]
        assert (top.tolist(), sums.tolist()) == (classes, pytest.approx(scores, rel=1e-6))


def test_who_does_not_write_keeps_no_copy() -> None:
    model = UniFormerV2(small().model)
    weights = checkpoint.weights_of(model, keep=False)
    assert weights.keys() == model.state_dict().keys()
    assert not any(tensor.numel() for tensor in weights.values())


def test_validation_clips_that_are_not_there_are_said_before_the_first_step(work: Path) -> None:
    with pytest.raises(StageError, match="no view 'k710/test'") as found:
        trained(work, "mine", "data.val=k710/test")
    assert "--set data.val=none" in str(found.value)
    trained(work, "looks", "data.val=k400/val")
    trained(work, "looks", "data.val=none")  # as is said, be it in the middle of a run


def test_validation_clips_without_labels_are_said_before_the_first_step(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unlabelled(folder: Path, name: str) -> ViewIndex:
        view = read_view(folder, name)
        labels = view.labels if name == "k400/train" else view.labels * 0 - 1
        return dataclasses.replace(view, labels=labels)

    monkeypatch.setattr("uniformerv2.training.validate.read_view", unlabelled)
    with pytest.raises(StageError, match=r"without a label(.|\n)*--set data\.val=none"):
        trained(work, "mine", "data.val=k400/val")
    assert not (work / "runs" / "mine" / "log.jsonl").read_text()


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is not None, reason="is installed")
def test_a_logger_that_is_not_installed_is_said(work: Path) -> None:
    with pytest.raises(MissingExtra, match="pip install tensorboard"):
        trained(work, "mine", "run.tensorboard=true")


def test_a_process_that_has_nothing_to_show_draws_no_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    line = {"loss": 1.0, "accuracy": 0.5, "clips_per_s": 1.0, "data_wait_s": 0.0, "mfu": None}
    with _show_progress():
        time.sleep(0.2)
    assert not capsys.readouterr().err
    with _show_progress() as watch:
        watch(RunProgress(3, 7, [line]))
    assert "3/7" in capsys.readouterr().err


def test_a_step_is_what_its_keys_say(work: Path) -> None:
    """Written out by hand: every key of optim and augment that a step of the trainer reads."""
    recipe = small(
        *("optim.epochs=1", "optim.warmup_epochs=0", "optim.weight_decay=0.3"),
        *("optim.betas=[0.5, 0.7]", "optim.eps=1e-3", "optim.clip_norm=0.5"),
        *("optim.label_smoothing=0.2", "optim.layer_decay=0.5", "augment.mixup=0.8"),
        *("augment.colours=clip", "data.repetitions=2", "run.clips_per_gpu=4"),
        *("model.global_dropout=0.0", "model.head_dropout=0.0"),
        *("run.checkpoint_minutes=1e-6", "run.keep=100"),
    )
    run = train_model(recipe, work=work, run="mine", device="cpu").folder
    model, order = init_model(recipe, None)
    view = read_view(work, "k400/train")
    reading = Reading(
        ShardReader(work / "shards"),
        Sampling(4, None),
        chances=recipe.augment,
        repetitions=2,
        seed=recipe.run.seed,
    )
    clips, shares = [], []
    batch = next(Loader(view, reading, batch=4).batches())
    for pair in (slice(0, 2), slice(2, 4)):  # what a part of the step has: two clips, twice each
        number, frames = batch.positions[pair][0], batch.frames[pair]
        labels = batch.labels[pair].tolist()
        keeps = draw_mix(generator_of(6666, 0, number // 2, 1 << 33), Mixing(0.8, 0.0)).share
        one_hot = torch.eye(400)[[order.rows().index(label) for label in labels]]
        for turn in range(2):
            draws = [each[turn] for each in batch.draws[pair]]
            two = torch.stack(
                [training_clip(*each, 32, colours=CLIP) for each in zip(frames, draws, strict=True)]
            )
            clips.append(keeps * two + (1 - keeps) * two.flip(0))
            shares.append(keeps * one_hot + (1 - keeps) * one_hot.flip(0))
    targets = 0.8 * torch.cat(shares) + 0.2 / 400
    loss = -(targets * model(torch.cat(clips)).log_softmax(-1)).sum(-1).mean()
    loss.backward()
    norm = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
    line = log_of(run)[0]
    assert line["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert line["grad_norm"] == pytest.approx(norm.item(), rel=1e-4) and norm > 0.5
    after = read_tensors(run / "step_000000001" / "model.safetensors")[0]
    moments = checkpoint.read_optim(run / "step_000000001")["moments"]
    for name, p in model.named_parameters():
        assert p.grad is not None
        gradient = p.grad * (0.5 / (norm + 1e-6))
        top = recipe.model.depth + 1
        layer = 1 + int(name.split(".")[1]) if name.startswith("blocks.") else top
        if name.startswith(("patch_embedding.", "class_token", "positions", "norm_before.")):
            layer = 0
        rate = 1e-3 * 0.5 ** (top - layer)
        decayed = p.detach() * (1 - rate * (0.3 if p.ndim != 1 else 0.0))
        # Of the first step, AdamW's moments are the gradient and its square.
        expected = decayed - rate * gradient / (gradient.abs() + 1e-3)
        torch.testing.assert_close(after[name], expected, rtol=1e-5, atol=1e-6, msg=name)
        kept = moments[name]["exp_avg"], moments[name]["exp_avg_sq"]
        torch.testing.assert_close(kept[0], 0.5 * gradient, rtol=1e-3, atol=1e-7, msg=name)
        torch.testing.assert_close(kept[1], 0.3 * gradient**2, rtol=1e-3, atol=1e-9, msg=name)


# --- what it starts from


def test_a_run_that_goes_on_says_that_it_starts_from_nothing_else(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = work / "k710.safetensors"
    config = dataclasses.replace(small().model, num_classes=710)
    written(path, config, ClassOrder("k710", "opengvlab"))
    (work / "r.toml").write_text(to_toml(from_video()))
    (work / "image.toml").write_text(to_toml(small("start.kind=image", "start.of=CLIP")))
    told = ["finetune", "--target", "k400", "--from", str(path), "--work", str(work)]
    for said in (False, True):
        app([*told, "--recipe", str(work / "r.toml"), "--device", "cpu"], standalone_mode=False)
        printed = capsys.readouterr().out
        assert "12 steps are done" in printed
        assert (f"went on after step 12: {path} was not read" in printed) == said
    usage_error = typer.BadParameter.__mro__[1]  # as which the app tells it
    with pytest.raises(usage_error, match="starts from CLIP, and no video model"):
        app([*told, "--recipe", str(work / "image.toml")], standalone_mode=False)


def written(path: Path, config: Config, order: ClassOrder | None) -> UniFormerV2:
    """A model with drawn weights in every place, as a checkpoint of k710."""
    torch.manual_seed(1)
    model = UniFormerV2(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    record = make_record(config, order, "k710")
    write_tensors(path, model.state_dict(), record=record, wrapper="model_state")
    return model


def from_video(*settings: str) -> Recipe:
    return small("start.kind=video", *settings)


def test_the_head_gets_the_rows_of_its_classes(tmp_path: Path) -> None:
    config = dataclasses.replace(small().model, num_classes=710)
    path = tmp_path / "k710.safetensors"
    written(path, config, ClassOrder("k710", "alphabetical"))
    model, order = init_model(from_video(), str(path))
    assert order == ClassOrder("k400", "alphabetical")
    remapped = remap_head(path, "k400").path
    expected = read_tensors(remapped)[0]
    assert model.training and model.config.num_classes == 400
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())
    again, _ = init_model(from_video(), str(remapped))  # whose head is K400's already
    assert torch.equal(again.head.weight, model.head.weight)
    other, _ = init_model(from_video("start.head=random"), str(path))
    assert not torch.equal(other.head.weight, model.head.weight)
    assert torch.equal(other.norm.weight, model.norm.weight)


def test_what_is_not_the_recipes_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "k710.safetensors"
    config = dataclasses.replace(small().model, num_classes=710)
    written(path, dataclasses.replace(config, width=128, heads=4), ClassOrder("k710", "opengvlab"))
    with pytest.raises(WeightsError, match="of another shape"):
        init_model(from_video(), str(path))
    written(path, dataclasses.replace(config, global_layers=(1,)), ClassOrder("k710", "opengvlab"))
    with pytest.raises(WeightsError, match="does not fit the model"):
        init_model(from_video("model.global_dropout=[0.5, 0.5]"), str(path))
    written(path, dataclasses.replace(config, num_classes=5), None)
    with pytest.raises(WeightsError, match=r"start\.head=random"):
        init_model(from_video(), str(path))
    init_model(from_video("start.head=random"), str(path))


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
        init_model(small(*settings), init)


def test_the_same_seed_draws_the_same_weights() -> None:
    models = [
        init_model(change_recipe(small(), [f"run.seed={seed}"]), None)[0] for seed in (1, 1, 2)
    ]
    one, same, other = (model.head.weight for model in models)
    assert torch.equal(one, same) and not torch.equal(one, other)
