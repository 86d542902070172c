"""A run that is killed goes on from its last checkpoint exactly as it would have without that."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch

from support.small_runs import ended, log_of, small, started_process, work_in
from uniformerv2.training.checkpoint import read_optim, read_state
from uniformerv2.weights.files import read_tensors, step_of_run

# Everything that chance has a part in; and what is kept beside the weights.
ALL = (
    "optim.epochs=20",
    "model.local=double",
    "model.drop_path=0.2",
    "model.global_drop_path=0.2",
    "optim.ema=0.9",
    "optim.wise=0.5",
    "optim.label_smoothing=0.1",
    "augment.mixup=0.8",
    "augment.cutmix=1.0",
    "augment.erase=0.25",
    "data.repetitions=2",
    "data.val=k400/val",
    "eval.every_epochs=4",
    "run.clips_per_gpu=4",
    "run.workers=1",
    "run.checkpoint_minutes=0.002",
)


def steps_in(run: Path) -> int:
    path = run / "log.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def killed_and_gone_on_with(folder: Path, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    work = work_in(folder)
    recipe = small(*ALL)
    ended(started_process(recipe, work, "undisturbed"))
    expected = work / "runs" / "undisturbed"
    total = read_state(step_of_run(expected)).step  # type: ignore[arg-type]
    assert total == 60
    run = work / "runs" / "killed"
    moments = sorted(chance.randrange(1, total - 4) for _ in range(kills))
    for moment in moments:
        process = started_process(recipe, work, "killed")
        while steps_in(run) < moment and process.poll() is None:
            time.sleep(0.002)
        time.sleep(chance.random() * 0.1)
        process.kill()
        process.communicate()
        # Its last signs of life may be a torn line, or a checkpoint without a state.
        last = step_of_run(run)
        assert last is None or read_state(last).step < total
    printed = ended(started_process(recipe, work, "killed"))
    assert "60 steps are done" in printed
    assert log_of(run) == log_of(expected)
    assert (run / "recipe.toml").read_bytes() == (expected / "recipe.toml").read_bytes()
    ends = [step_of_run(one) for one in (run, expected)]
    one, other = (read_tensors(end / "model.safetensors")[0] for end in ends if end)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    kept, wanted = (read_optim(end) for end in ends if end)
    assert kept.keys() == wanted.keys() and {"moments", "weights"} <= kept.keys()
    for name, moment in wanted["moments"].items():
        assert all(torch.equal(kept["moments"][name][key], value) for key, value in moment.items())
    assert all(torch.equal(kept["weights"][name], one) for name, one in wanted["weights"].items())


@pytest.mark.parametrize(
    ("kills", "seed"),
    [
        (1, 0),
        pytest.param(3, 0, marks=pytest.mark.slow),
        pytest.param(10, 1, marks=pytest.mark.slow),
    ],
)
def test_killed_at_any_moment_it_goes_on_as_if_nothing_had_been(
    tmp_path: Path, kills: int, seed: int
) -> None:
    killed_and_gone_on_with(tmp_path, kills, seed)


@pytest.mark.slow
@pytest.mark.parametrize("to_all", [False, True])
def test_a_signal_to_torchrun_ends_all_with_a_checkpoint(tmp_path: Path, to_all: bool) -> None:
    """To torchrun alone, which passes it on; or, as a scheduler does, to every process."""
    work = work_in(tmp_path)
    process = started_process(small("optim.epochs=2000"), work, "stopped", ranks=2)
    run = work / "runs" / "stopped"
    while steps_in(run) < 5 and process.poll() is None:
        time.sleep(0.005)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == 2
    for pid in (process.pid, *(map(int, children) if to_all else ())):
        os.kill(pid, signal.SIGTERM)
    printed = ended(process, code=1)  # torchrun's own, whatever its processes do
    step = read_state(step_of_run(run)).step  # type: ignore[arg-type]
    assert f"Stopped after step {step:,} of 6,000, with a checkpoint." in printed
    assert [line["step"] for line in log_of(run)] == list(range(1, step + 1))


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_signal_ends_it_with_a_checkpoint_and_no_error(
    tmp_path: Path, number: signal.Signals
) -> None:
    work = work_in(tmp_path)
    recipe = small("optim.epochs=2000")
    process = started_process(recipe, work, "stopped")
    run = work / "runs" / "stopped"
    while steps_in(run) < 5 and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(number)
    printed = ended(process)
    step = read_state(step_of_run(run)).step  # type: ignore[arg-type]
    assert f"Stopped after step {step:,} of 6,000, with a checkpoint." in printed
    assert "Run the same k710 pretrain again: it goes on from there." in printed
    assert [line["step"] for line in log_of(run)] == list(range(1, step + 1))
