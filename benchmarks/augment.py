"""How long does the augmentation of training take for a batch of clips, and where?

    python benchmarks/augment.py [--clips 64] [--out benchmarks/results/augment_cuda.json]

Clips of 8 frames of 320 x 568 that are smooth with noise, as video is, drawn as in training, to
pictures of 224 x 224:

    eager    uniformerv2.augment.training_clip on one clip after the other
    batch    uniformerv2.augment.training_batch: a few Triton kernels for all (where there is CUDA)

The forms are first compared with the eager one on the CPU, then timed in turn in each round; then
each operation alone, per clip. Medians and quartiles of milliseconds: `wall` until the pictures are
there, `gpu` between two events around the call, `host` until the call returns to Python, which can
go on then. Needs PyTorch, and nothing else running.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import machine
from uniformerv2.augment.transforms import training_batch, training_clip
from uniformerv2.dataset.draws import OPS, Box, Draw, Name, Op, draw, generator_of

HERE = Path(__file__).resolve().parent
FRAMES, HEIGHT, WIDTH, SIZE = 8, 320, 568, 224
# What each operation is given, as a magnitude of 7 has it.
VALUES: dict[Name, float] = dict.fromkeys(OPS, 0.0) | {
    "rotate": 21.0,
    "posterize": 2.0,
    "solarize": 77.0,
    "solarize_add": 77.0,
    "color": 1.63,
    "contrast": 1.63,
    "brightness": 1.63,
    "sharpness": 1.63,
    "shear_x": 0.21,
    "shear_y": 0.21,
    "translate_x": 0.315,
    "translate_y": 0.315,
}
Form = Callable[[Sequence[Tensor], Sequence[Draw], int], Tensor]
Times = dict[str, list[float]]  # milliseconds


def eager(frames: Sequence[Tensor], draws: Sequence[Draw], size: int) -> Tensor:
    clips = zip(frames, draws, strict=True)
    return torch.stack([training_clip(clip, drawn, size) for clip, drawn in clips])


def clip(seed: int, frames: int, device: str) -> Tensor:
    """A picture of a few colours that drifts, with noise: uint8 (T, H, W, 3)."""
    generator = torch.Generator(device).manual_seed(seed)
    shape = (1, 3, frames, 8, 12)
    coarse = torch.rand(shape, generator=generator, device=device) * 255
    x = F.interpolate(coarse, (frames, HEIGHT, WIDTH), mode="trilinear")[0].permute(1, 2, 3, 0)
    x = x + 6 * torch.randn(x.shape, generator=generator, device=device)
    return x.clamp(0, 255).to(torch.uint8).contiguous()


def drawn_as_in_training(num: int) -> list[Draw]:
    return [draw(generator_of(0, 0, place), HEIGHT, WIDTH) for place in range(num)]


def alone(name: Name) -> Draw:
    return Draw((Op(name, VALUES[name]),), Box(0, 0, HEIGHT, WIDTH), False)


def check(form: Form, device: str) -> float:
    """The largest difference from the eager form on the CPU; a level is 0.017."""
    draws = [*map(alone, OPS), *drawn_as_in_training(8)]
    frames = [clip(seed, 2, device) for seed in range(len(draws))]
    expected = eager([f.cpu() for f in frames], draws, SIZE)
    return (form(frames, draws, SIZE).cpu() - expected).abs().max().item()


def measure(form: Form, frames: Sequence[Tensor], draws: Sequence[Draw], times: Times) -> None:
    """Add the times of one run."""
    is_cuda = frames[0].is_cuda
    if is_cuda:
        before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        before.record()
    start = time.perf_counter()
    form(frames, draws, SIZE)
    host = time.perf_counter() - start
    if is_cuda:
        after.record()
        torch.cuda.synchronize()
        times.setdefault("host", []).append(host * 1e3)
        times.setdefault("gpu", []).append(before.elapsed_time(after))
    times.setdefault("wall", []).append((time.perf_counter() - start) * 1e3)


def summary(times: Times, per: int = 1) -> dict[str, Any]:
    """Medians and quartiles, divided by `per`."""
    found: dict[str, Any] = {}
    for name, values in times.items():
        low, median, high = (float(f"{x / per:.3g}") for x in statistics.quantiles(values, n=4))
        found |= {f"{name}_ms": median, f"{name}_ms_quartiles": [low, high]}
    return found


def compare(
    forms: dict[str, Form], frames: Sequence[Tensor], rounds: int, num_alone: dict[str, int]
) -> dict[str, Any]:
    """Times of a batch as in training, and per clip of each operation alone."""
    draws = drawn_as_in_training(len(frames))
    times: dict[str, Times] = {name: {} for name in forms}
    for form in forms.values():
        measure(form, frames, draws, {})  # compiles, asks for memory
    for _ in range(rounds):
        for name, form in forms.items():
            measure(form, frames, draws, times[name])
    found: dict[str, Any] = {"as_in_training": {name: summary(t) for name, t in times.items()}}
    for op in OPS:
        found[op] = {}
        for name, form in forms.items():
            of_op: Times = {}
            some = frames[: num_alone[name]]
            measure(form, some, [alone(op)] * len(some), {})
            for _ in range(3):
                measure(form, some, [alone(op)] * len(some), of_op)
            found[op][f"{name}, per clip"] = summary(of_op, len(some))
    return found


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--clips", type=int, default=64 if device == "cuda" else 4)
    parser.add_argument("--rounds", type=int, default=7, help="two at least")
    parser.add_argument("--out", type=Path, default=HERE / "results" / f"augment_{device}.json")
    arguments = parser.parse_args()
    forms: dict[str, Form] = {"eager": eager}
    if device == "cuda":
        forms["batch"] = training_batch
    differences = {name: float(f"{check(form, device):.1e}") for name, form in forms.items()}
    if "batch" in forms and not differences["batch"] < 1e-4:
        raise SystemExit(f"the batch is another function: {differences['batch']} off")
    frames = [clip(seed, FRAMES, device) for seed in range(arguments.clips)]
    num_alone = {"eager": 8 if device == "cuda" else 1, "batch": arguments.clips}
    report = {
        "benchmark": f"augmentation of {arguments.clips} clips of {FRAMES} frames of {HEIGHT} x "
        f"{WIDTH} to {SIZE} x {SIZE}; medians of {arguments.rounds} rounds, alone of 3",
        "device": machine.device("torch"),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "threads": torch.get_num_threads(),
        "differences_from_cpu": differences,
        "times": compare(forms, frames, arguments.rounds, num_alone),
    }
    print(json.dumps(report, indent=1))
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
