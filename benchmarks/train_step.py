"""How fast is a training step of UniFormerV2, and how does a plain implementation do?

    python benchmarks/train_step.py [--sizes b16 l14 l14_336] [--clips 64 24 12] [--rounds 3]
        [--contenders plain eager compiled] [--autotune] [--checkpoint 0] [--seconds-limit 225]
        [--out benchmarks/results/train_step_cuda.json]

Forward, loss, backward, clipping at norm 20 and AdamW, on a drawn batch that lies on the device:

    plain       benchmarks/plain_uniformerv2.py: eager, float16 with a GradScaler, AdamW as it comes
    eager       uniformerv2.model as it is: bfloat16, fused AdamW
    compiled    the same through torch.compile, the whole model in its default mode
    blocks      the same, but each block compiled by itself: to compile takes far less time
    autotuned   the same in the mode max-autotune-no-cudagraphs (with --autotune)

First a small model in float32 on the CPU: if the logits or a gradient of both implementations
differ, it stops. Then in each round each size, and for it each contender in turn, alone on the
device. A batch that doesn't fit any contender is made smaller for all of that size. The report is
written after each turn, so that a run that was cut short has measured something; no turn begins
after --seconds-limit.

MFU is 3 x the FLOPs of our forward pass x clips / s over the dense 16-bit peak of the device. A
multiply-add is 2 FLOPs; attention counts, and what checkpointing computes again does not. It's the
same numerator for all: the plain model has more to do for the same answer (`plain_forward_gflop`).

Without CUDA: the smallest model in float32, which only shows that the benchmark works.
"""

import argparse
import gc
import itertools
import json
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import machine
from plain_uniformerv2 import from_ours, plain_name
from uniformerv2.config import SIZES, Config
from uniformerv2.cost import forward_macs, peak_flops
from uniformerv2.model import UniFormerV2

HERE = Path(__file__).resolve().parent
# One block of each kind: a CPU takes minutes to compile more.
CONFIGS = {**SIZES, "smallest": replace(SIZES["tiny"], depth=1, global_layers=(0,))}
CLIPS = {"b16": 64, "l14": 24, "l14_336": 12, "tiny": 4, "smallest": 2}  # of a step, for 80 GB
CONTENDERS = ("plain", "eager", "compiled", "blocks", "autotuned")
TOLERANCE = 1e-4
CLIP_NORM = 20.0


@dataclass
class Turn:
    """One contender's share of a round."""

    step_ms: list[float]
    peak_bytes: int | None
    first_step_s: float  # compiles
    loss: float
    skipped: bool  # the scaler left an update out: float16 overflowed


@dataclass
class Contender:
    model: nn.Module
    run: Callable[[Tensor], Tensor]  # the model, compiled or not
    turns: list[Turn] = field(default_factory=list)


@dataclass
class Case:
    """One size."""

    config: Config
    clips: int
    did_not_fit: list[str] = field(default_factory=list)
    contenders: dict[str, Contender] = field(default_factory=dict)


# --- the same function?


def unsettle(model: nn.Module, amount: float) -> None:
    """Move all parameters: what begins as zero would hide what is behind it."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=amount)


def check(frames: int = 4, clips: int = 2) -> dict[str, float]:
    """The largest differences of both implementations on a small model; SystemExit if too large."""
    config = Config(
        num_classes=11, size=48, width=64, depth=3, heads=4, global_layers=(1, 2),
        global_dropout=0.0, head_dropout=0.0,
    )  # fmt: skip
    torch.manual_seed(0)
    ours = UniFormerV2(config)
    unsettle(ours, 0.1)
    plain = from_ours(ours)
    pixels = torch.randn(clips, 3, frames, config.size, config.size)
    logits = [model(pixels) for model in (ours, plain)]
    for one in logits:
        F.cross_entropy(one, torch.arange(clips)).backward()
    theirs: dict[str, Any] = {name: p.grad for name, p in plain.named_parameters()}
    mine: dict[str, Any] = {name: p.grad for name, p in ours.named_parameters()}
    pairs = {name: (gradient, theirs[plain_name(name)]) for name, gradient in mine.items()}
    blind = [name for name, pair in pairs.items() if any(g is None or not g.any() for g in pair)]
    if blind:
        raise SystemExit(f"the check sees no gradient of {', '.join(blind)}")
    norms = [math.hypot(*(pair[k].norm().item() for pair in pairs.values())) for k in (0, 1)]
    apart = max((a - b).norm().item() for a, b in pairs.values())
    found = {
        "logits": (logits[0] - logits[1]).abs().max().item(),
        "gradients": apart / norms[0],
        "gradient_norms": abs(norms[0] - norms[1]) / norms[0],
    }
    if not max(found.values()) < TOLERANCE:
        raise SystemExit(f"the plain model is another function: differences {found}")
    return {name: float(f"{value:.1e}") for name, value in found.items()}


# --- FLOPs


def counted(make: Callable[[Config], nn.Module], config: Config, frames: int) -> int:
    """FLOPs of the forward pass of one clip, as PyTorch counts them."""
    with torch.device("meta"):
        model = make(config).eval().requires_grad_(False)
        pixels = torch.empty(1, 3, frames, config.size, config.size)
    # Attention as two matrix products: a fused kernel is not counted on every device.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(pixels)
    return int(counter.get_total_flops())


def flops(config: Config, frames: int) -> dict[str, Any]:
    ours, formula = counted(UniFormerV2, config, frames), 2 * forward_macs(config, frames)
    if abs(ours / formula - 1) > 0.02:
        raise SystemExit(f"FLOPs of a clip: {ours:.4e} counted, {formula:.4e} by formula")

    def plain(config: Config) -> nn.Module:
        return from_ours(UniFormerV2(config))

    return {
        "forward_gflop": round(ours / 1e9, 3),
        "forward_gflop_by_formula": round(formula / 1e9, 3),
        "plain_forward_gflop": round(counted(plain, config, frames) / 1e9, 3),
    }


# --- a step


def contender(name: str, config: Config, device: str) -> Contender:
    """Built on the device, because it draws faster; same weights for each."""
    torch.manual_seed(0)
    with torch.device(device):
        ours = UniFormerV2(config)
    unsettle(ours, 0.01)
    if name == "plain":
        plain = from_ours(ours)
        return Contender(plain, plain)
    if name == "blocks":
        for block in itertools.chain(ours.blocks, ours.global_blocks):
            block.compile(dynamic=False)
    run: Callable[[Tensor], Tensor] = ours
    if name == "compiled":
        run = torch.compile(ours, dynamic=False)
    if name == "autotuned":
        run = torch.compile(ours, dynamic=False, mode="max-autotune-no-cudagraphs")
    return Contender(ours, run)


def optimizer_of(model: nn.Module, *, fused: bool) -> torch.optim.Optimizer:
    """Vectors are not decayed."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim != 1], "weight_decay": 0.05},
        {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=1e-5, fused=fused or None)


def take_turn(
    name: str, who: Contender, pixels: Tensor, labels: Tensor, warm_up: int, steps: int
) -> Turn:
    """Steps of a contender whose model is on the device; its optimizer is made anew."""
    device, cuda = pixels.device.type, pixels.is_cuda
    narrow = torch.float16 if name == "plain" else torch.bfloat16
    optimizer = optimizer_of(who.model, fused=cuda and name != "plain")
    scaler = torch.amp.GradScaler(device, enabled=cuda and name == "plain")
    scale = scaler.get_scale()

    def step() -> Tensor:
        with torch.autocast(device, narrow, enabled=cuda):
            loss = F.cross_entropy(who.run(pixels), labels)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(who.model.parameters(), CLIP_NORM)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    start = time.perf_counter()
    loss = step()
    settle(cuda)
    first = time.perf_counter() - start
    for _ in range(warm_up - 1):
        loss = step()
    settle(cuda)
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    taken = timed(step, steps, cuda)
    peak = torch.cuda.max_memory_allocated() if cuda else None
    if not math.isfinite(loss.item()):
        raise SystemExit(f"{name}: the loss is {loss.item()}, so its time means nothing")
    return Turn(taken, peak, first, loss.item(), scaler.get_scale() < scale)


def settle(cuda: bool) -> None:
    if cuda:
        torch.cuda.synchronize()


def timed(step: Callable[[], Tensor], steps: int, cuda: bool) -> list[float]:
    """Milliseconds of each."""
    if not cuda:
        marks = [time.perf_counter()]
        for _ in range(steps):
            step()
            marks.append(time.perf_counter())
        return [(after - before) * 1e3 for before, after in itertools.pairwise(marks)]
    # Events, not clocks: the host shall run ahead, as it does in training.
    events = [torch.cuda.Event(enable_timing=True) for _ in range(steps + 1)]
    events[0].record()
    for event in events[1:]:
        step()
        event.record()
    torch.cuda.synchronize()
    return [before.elapsed_time(after) for before, after in itertools.pairwise(events)]


def measure(
    name: str, case: Case, device: str, frames: int, warm_up: int, steps: int
) -> Turn | None:
    """One turn with nothing else on the device, or None if memory doesn't suffice."""
    turn = None
    try:
        if name not in case.contenders:
            case.contenders[name] = contender(name, case.config, device)
        who = case.contenders[name]
        who.model.to(device).train()
        turn = take_turn(name, who, *batch(case, frames, device), warm_up, steps)
    except torch.OutOfMemoryError:
        pass  # freed below, when the traceback holds its tensors no more
    if name in case.contenders:
        case.contenders[name].model.zero_grad(set_to_none=True)
        case.contenders[name].model.to("cpu")
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
    return turn


def batch(case: Case, frames: int, device: str) -> tuple[Tensor, Tensor]:
    """Clips and their classes."""
    torch.manual_seed(1)
    config = case.config
    pixels = torch.randn(case.clips, 3, frames, config.size, config.size, device=device)
    return pixels, torch.randint(config.num_classes, (case.clips,), device=device)


# --- the report


def summary(who: Contender, case: Case, forward_gflop: float, peak: float | None) -> dict[str, Any]:
    """Of all turns of a contender."""
    taken = [one for turn in who.turns for one in turn.step_ms]
    median = statistics.median(taken)
    low, _, high = statistics.quantiles(taken, n=4)
    speed = case.clips / median * 1e3
    found: dict[str, Any] = {
        "clips_per_s": float(f"{speed:.4g}"),
        "step_ms": float(f"{median:.4g}"),
        "step_ms_quartiles": [float(f"{low:.4g}"), float(f"{high:.4g}")],
        "step_ms_of_rounds": [
            float(f"{statistics.median(turn.step_ms):.4g}") for turn in who.turns
        ],
        "peak_gib": None,
        "mfu": None,
        "times_plain": None,
        "first_step_s": [round(turn.first_step_s, 2) for turn in who.turns],
        "loss": round(who.turns[-1].loss, 4),
        "updates_skipped": any(turn.skipped for turn in who.turns),
    }
    peaks = [turn.peak_bytes for turn in who.turns if turn.peak_bytes is not None]
    if peaks:
        found["peak_gib"] = round(max(peaks) / 2**30, 2)
    if peak is not None:
        found["mfu"] = round(3 * forward_gflop * 1e9 * speed / peak, 4)
    plain = case.contenders.get("plain")
    if plain is not None and plain.turns:
        # Each round for itself: what slows the machine down for a while slows both.
        found["times_plain"] = round(
            statistics.median(
                statistics.median(a.step_ms) / statistics.median(b.step_ms)
                for a, b in zip(plain.turns, who.turns, strict=False)
            ),
            3,
        )
    return found


def line(size: str, name: str, turns: int, clips: int, found: dict[str, Any]) -> str:
    low, high = found["step_ms_quartiles"]
    words = [
        f"{size} {name} ({turns}): {found['clips_per_s']:g} clips/s, {clips} clips in "
        f"{found['step_ms']:g} ms ({low:g}-{high:g})"
    ]
    if found["peak_gib"] is not None:
        words.append(f"{found['peak_gib']:g} GiB")
    if found["mfu"] is not None:
        words.append(f"MFU {found['mfu']:.1%}")
    if found["times_plain"] is not None:
        words.append(f"{found['times_plain']:g} x plain")
    words.append(f"first step {found['first_step_s'][-1]:g} s")
    return ", ".join(words)


def arguments_of() -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    cuda = torch.cuda.is_available()
    device = "cuda" if cuda else "cpu"
    sizes = ["b16", "l14", "l14_336"] if cuda else ["smallest"]
    parser.add_argument("--sizes", nargs="+", choices=CONFIGS, default=sizes)
    parser.add_argument("--clips", nargs="+", type=int, help="of a step, for each of --sizes")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=CONTENDERS[:3])
    parser.add_argument("--autotune", action="store_true", help="one contender more: minutes")
    parser.add_argument(
        "--steps", type=int, default=10 if cuda else 4, help="timed in a turn; two at least"
    )
    parser.add_argument("--warm-up", type=int, default=4, help="of the first turn; then 2")
    parser.add_argument("--rounds", type=int, default=3 if cuda else 2)
    parser.add_argument("--checkpoint", type=int, default=0, help="blocks without activations")
    parser.add_argument("--seconds-limit", type=float, default=225, help="no turn begins after it")
    parser.add_argument("--out", type=Path, default=HERE / "results" / f"train_step_{device}.json")
    arguments = parser.parse_args()
    if arguments.clips is None:
        arguments.clips = [CLIPS[size] for size in arguments.sizes]
    if len(arguments.clips) != len(arguments.sizes):
        parser.error("--clips needs a number for each of --sizes")
    arguments.contenders = list(arguments.contenders)
    if arguments.autotune and "autotuned" not in arguments.contenders:
        arguments.contenders.append("autotuned")
    return arguments


def main() -> None:
    arguments = arguments_of()
    begun = time.perf_counter()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    gpu = torch.cuda.get_device_name() if device == "cuda" else None
    peak, frames = None if gpu is None else peak_flops(gpu), arguments.frames
    report: dict[str, Any] = {
        "benchmark": f"training steps of UniFormerV2, {frames} frames, drawn batch on the device; "
        f"{arguments.rounds} rounds of {arguments.steps} steps",
        "only_shows_that_it_works": device == "cpu",
        "device": machine.device("torch"),
        "gpu": gpu,
        "cuda": torch.version.cuda,
        "peak_tflops": peak and peak / 1e12,
        "precision": {"plain": "float16", "others": "bfloat16"} if gpu else "float32",
        "checkpoint_blocks": arguments.checkpoint,
        "differences_from_plain": check(),
        "stopped": None,
        "seconds": 0.0,
        "sizes": {},
    }
    print(f"same function: {report['differences_from_plain']}", flush=True)
    # After the check: what is still in float32 may be rounded, for all contenders.
    torch.set_float32_matmul_precision("high")
    # All sizes and blocks are compilations of the same few functions; none may fall back to eager.
    torch._dynamo.config.recompile_limit = 64
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    cases = {}
    for size, clips in zip(arguments.sizes, arguments.clips, strict=True):
        config = CONFIGS[size]
        config = replace(config, checkpoint_blocks=min(arguments.checkpoint, config.depth))
        cases[size] = Case(config, clips)
        report["sizes"][size] = {"clips": clips, **flops(config, frames), "contenders": {}}

    def write() -> None:
        report["seconds"] = round(time.perf_counter() - begun, 1)
        arguments.out.write_text(json.dumps(report, indent=1) + "\n")

    def run(size: str) -> bool:
        """One round of a size; false if the time is over."""
        case, entry = cases[size], report["sizes"][size]
        waiting = list(arguments.contenders)
        while waiting:
            name = waiting[0]
            if time.perf_counter() - begun > arguments.seconds_limit:
                report["stopped"] = f"{arguments.seconds_limit:g} s over before {size} {name}"
                print(report["stopped"], flush=True)
                return False
            known = case.contenders.get(name)
            warm_up = 2 if known is not None and known.turns else arguments.warm_up
            turn = measure(name, case, device, frames, warm_up, arguments.steps)
            if turn is None:
                if case.clips == 1:
                    raise SystemExit(f"{size} {name}: not even one clip fits")
                case.did_not_fit.append(f"{name}: {case.clips} clips")
                print(f"{size} {name}: {case.clips} clips don't fit", flush=True)
                case.clips = case.clips * 3 // 4
                for other in case.contenders.values():
                    other.turns.clear()
                entry["contenders"].clear()
                waiting = list(arguments.contenders)
            else:
                waiting.pop(0)
                who = case.contenders[name]
                who.turns.append(turn)
                found = summary(who, case, entry["forward_gflop"], peak)
                entry["contenders"][name] = found
                print(line(size, name, len(who.turns), case.clips, found), flush=True)
            entry |= {"clips": case.clips, "did_not_fit": case.did_not_fit}
            write()
        return True

    write()
    all(run(size) for _ in range(arguments.rounds) for size in cases)
    write()


if __name__ == "__main__":
    main()
