"""The same training on one process or two, with DDP or FSDP2, from the start or half-way."""

import shutil
from pathlib import Path

import pytest

from k710.errors import RecipeError
from k710.files import locked
from support.small_runs import ended, log_of, small, started_process, work_in
from uniformerv2.train import train_model
from uniformerv2.training.run import count_micro_batches
from uniformerv2.weights.files import read_tensors, step_of_run

# No dropout, for each process has masks of its own; and no BatchNorm, which sees its clips alone.
SAME = (
    "model.global_dropout=0.0",
    "model.head_dropout=0.0",
    "optim.epochs=7",  # 21 steps
    "optim.ema=0.8",
    "data.val=k400/val",
    "eval.every_epochs=3",
    "run.checkpoint_minutes=0.0001",
    "run.keep=100",
)
STEPS = 21
BEGUN = 2  # by one process, of those that two go on with
# Sums of float32 in another order. AdamW makes steps of the same length of gradients of any size,
# so what is nothing but rounding in a gradient is up to a step's length in a weight: 1e-3.
LOSS, WEIGHT = 2e-4, 2e-3


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a run `alone`, of one process that has each step in two parts."""
    work = work_in(tmp_path_factory.mktemp("ranks"))
    train_model(small(*SAME, "run.clips_per_gpu=2"), work=work, run="alone", device="cpu")
    return work


def agree(one: Path, other: Path) -> None:
    """Losses, gradients and accuracies of each step, and the last weights, with their average."""
    lines, others = log_of(one), log_of(other)
    assert [line["step"] for line in lines] == [line["step"] for line in others]
    assert len(lines) > STEPS  # with looks at the validation clips
    for line, expected in zip(lines, others, strict=True):
        for key in line:
            assert line[key] == pytest.approx(expected[key], rel=LOSS, abs=LOSS), (line, expected)
    ends = [step_of_run(run) for run in (one, other)]
    weights, expected_weights = (read_tensors(end / "model.safetensors")[0] for end in ends if end)
    assert weights.keys() == expected_weights.keys()
    apart = {k: (t - expected_weights[k]).abs().max().item() for k, t in weights.items()}
    assert max(apart.values()) < WEIGHT, max(apart, key=lambda name: apart[name])
    begun = read_tensors(one.parent / "alone" / "step_000000001" / "model.safetensors")[0]
    moved = max((t - begun[k]).abs().max().item() for k, t in weights.items())
    assert moved > 5 * max(apart.values())


@pytest.mark.parametrize("sharding", ["ddp", pytest.param("fsdp2", marks=pytest.mark.slow)])
def test_two_processes_do_what_one_does_with_accumulation(work: Path, sharding: str) -> None:
    recipe = small(*SAME, f"run.sharding={sharding}")
    printed = ended(started_process(recipe, work, sharding, ranks=2))
    assert printed.count(f"{STEPS} steps are done") == 1  # one of them prints
    agree(work / "runs" / sharding, work / "runs" / "alone")


@pytest.mark.slow
def test_sharded_processes_mix_and_scale_as_others_do(work: Path) -> None:
    """WiSE at the end, and float16 whose scaler leaves out steps."""
    ends = {}
    for sharding in ("ddp", "fsdp2"):
        settings = ("optim.wise=0.5", "run.precision=fp16", f"run.sharding={sharding}")
        run = f"half_{sharding}"
        ended(started_process(small(*SAME, *settings), work, run, ranks=2))
        lines = log_of(work / "runs" / run)
        norms = [line["grad_norm"] for line in lines if "loss" in line]
        assert norms[0] is None and norms[-1] is not None  # too large a scale, then one that fits
        ends[sharding] = step_of_run(work / "runs" / run)
    weights, others = (read_tensors(end / "model.safetensors")[0] for end in ends.values() if end)
    assert max((t - others[k]).abs().max().item() for k, t in weights.items()) < WEIGHT


def test_two_sharded_processes_go_on_with_what_one_began(work: Path) -> None:
    run = work / "runs" / "gone_on"
    shutil.copytree(work / "runs" / "alone", run)
    for folder in sorted(run.glob("step_*"))[BEGUN:]:
        shutil.rmtree(folder)
    recipe = small(*SAME, "run.sharding=fsdp2")
    ended(started_process(recipe, work, "gone_on", ranks=2))
    lines, others = log_of(run), log_of(work / "runs" / "alone")
    assert lines[:BEGUN] == others[:BEGUN] and lines != others  # cut, and gone on with
    agree(run, work / "runs" / "alone")


def test_what_one_process_can_not_do_is_worded_by_all(work: Path) -> None:
    with locked(work / "runs" / "taken"):
        printed = ended(started_process(small(*SAME), work, "taken", ranks=2), code=1)
    assert "is in use by" in printed and "RuntimeError" not in printed


def test_a_checkpoint_that_can_not_be_written_is_worded_by_all(work: Path) -> None:
    run = work / "runs" / "full"
    run.mkdir(parents=True)
    (run / "step_000000001").write_text("no folder")
    printed = ended(started_process(small(*SAME), work, "full", ranks=2), code=1)
    assert "step_000000001 can't be used" in printed and "RuntimeError" not in printed


@pytest.mark.parametrize(
    ("batch", "ranks", "clips_per_gpu", "mixup", "parts"),
    [
        *((256, 8, 32, 0.0, 1), (256, 1, 32, 0.0, 8), (256, 2, 50, 0.0, 4)),
        *((6, 2, 2, 0.0, 3), (12, 2, 3, 0.8, 3), (7, 1, 4, 0.0, 7)),
    ],
)
def test_a_share_is_taken_in_as_few_parts_as_fit(
    batch: int, ranks: int, clips_per_gpu: int, mixup: float, parts: int
) -> None:
    values = (f"data.batch={batch}", f"run.clips_per_gpu={clips_per_gpu}", f"augment.mixup={mixup}")
    assert count_micro_batches(small(*values), ranks) == parts


def test_a_batch_that_processes_can_not_share_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"data\.batch \(3\) can't be shared by 2 GPUs\."):
        count_micro_batches(small("data.batch=3"), 2)
    with pytest.raises(RecipeError, match="by 2 GPUs in pairs"):
        count_micro_batches(small("data.batch=6", "augment.cutmix=1.0"), 2)
