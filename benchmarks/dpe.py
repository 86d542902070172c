"""Which form of the two depth-wise convolutions of UniFormerV2 is the fastest, and by how much?

    python benchmarks/dpe.py [--clips 2] [--rounds 7] [--out benchmarks/results/dpe_cpu.json]

One convolution over the patch tokens of B/16 (T frames of 14 x 14 patches, 768 channels; the
temporal one 512), channels last as the model has them, forward alone and with all gradients:

    conv3d      torch.nn.functional.conv3d with a group for each channel
    copied      the same on a copy in PyTorch's own layout, channels first
    shifted     a product and a sum for each tap of a padded tensor
    compiled    the same through torch.compile
    triton      two kernels written for 3 x 3 x 3 (uniformerv2/depthwise_triton.py; on CUDA)
    frames      a 2-D convolution of each frame for each of its neighbours, as it is and compiled
    model       what uniformerv2/depthwise.py does on that device, as it is and compiled

All forms are first compared with conv3d in float64, then timed in turn in each round. Prints and
writes medians, quartiles, and ratios of medians to conv3d. On CUDA in bfloat16, on a CPU in
float32. Needs PyTorch, and nothing else running.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import machine
from uniformerv2.depthwise import depthwise_3x1x1, depthwise_3x3x3, frame_by_frame

HERE = Path(__file__).resolve().parent
SIDE, WIDTH, LOCAL_WIDTH = 14, 768, 512
ROUNDING = {torch.float32: 1e-4, torch.bfloat16: 3e-2}  # relative
Form = Callable[[Tensor, Tensor, Tensor], Tensor]


def conv3d(x_NTHWC: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Any depth-wise kernel of odd sides; the tensor stays channels last."""
    padding = [side // 2 for side in weight.shape[2:]]
    x = x_NTHWC.permute(0, 4, 1, 2, 3)
    return F.conv3d(x, weight, bias, padding=padding, groups=len(weight)).permute(0, 2, 3, 4, 1)


def copied(x_NTHWC: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The same on a copy, channels first."""
    padding = [side // 2 for side in weight.shape[2:]]
    x = x_NTHWC.permute(0, 4, 1, 2, 3).contiguous()
    y = F.conv3d(x, weight, bias, padding=padding, groups=len(weight))
    return y.permute(0, 2, 3, 4, 1).contiguous()


def shifted(x_NTHWC: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The sum over taps of the shifted tensor times the tap of each channel."""
    _, T, H, W, _ = x_NTHWC.shape
    sides = weight.shape[2:]
    around = [pad for side in reversed(sides) for pad in (side // 2, side // 2)]
    padded = F.pad(x_NTHWC, [0, 0, *around])
    out = bias.to(x_NTHWC.dtype)
    for t in range(sides[0]):
        for h in range(sides[1]):
            for w in range(sides[2]):
                tap = weight[:, 0, t, h, w]
                out = out + padded[:, t : t + T, h : h + H, w : w + W] * tap
    return out


def compiled(form: Form) -> Form:
    """In one graph, for these shapes."""
    made: Form = torch.compile(form, fullgraph=True, dynamic=False)
    return made


def temporal(x_NTHWC: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The model's function for 3 x 1 x 1, which has the places of a frame in one row."""
    x = x_NTHWC.flatten(2, 3)
    return depthwise_3x1x1(x, weight.flatten(2), bias).view_as(x_NTHWC)


def forms(kernel: str, device: str) -> dict[str, Form]:
    """Name -> form, for the kernel `3x3x3` or `3x1x1`."""
    found: dict[str, Form] = {
        "conv3d": conv3d,
        "copied": copied,
        "shifted": shifted,
        "compiled": compiled(shifted),
    }
    if kernel == "3x3x3":
        found |= {"frames": frame_by_frame, "frames, compiled": compiled(frame_by_frame)}
    own = depthwise_3x3x3 if kernel == "3x3x3" else temporal
    found |= {"model": own, "model, compiled": compiled(own)}
    if device == "cuda" and kernel == "3x3x3":
        from uniformerv2 import depthwise_triton

        found["triton"] = depthwise_triton.depthwise_3x3x3
    return found


def tensors(kernel: str, clips: int, frames: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, weight and bias of that kernel, drawn."""
    generator = torch.Generator().manual_seed(0)
    width = WIDTH if kernel == "3x3x3" else LOCAL_WIDTH
    sides = [int(side) for side in kernel.split("x")]
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    x = torch.randn(clips, frames, SIDE, SIDE, width, generator=generator)
    weight = torch.randn(width, 1, *sides, generator=generator) / 5
    bias = torch.randn(width, generator=generator)
    x, weight, bias = (t.to(device, dtype) for t in (x, weight, bias))
    return x, weight, bias


def check(form: Form, given: tuple[Tensor, Tensor, Tensor]) -> float:
    """The largest difference from conv3d in float64, relative, of output and gradients."""
    results = []
    for function, dtype in ((conv3d, torch.float64), (form, given[0].dtype)):
        leaves: Any = [t.detach().to(dtype).requires_grad_() for t in given]
        y = function(*leaves)
        y.backward(torch.linspace(-1, 1, y.shape[-1]).to(y).expand_as(y))
        results.append([t.detach().double() for t in (y, *(leaf.grad for leaf in leaves))])
    return max(((a - b).norm() / a.norm()).item() for a, b in zip(*results, strict=True))


def measure(form: Form, given: tuple[Tensor, Tensor, Tensor], *, backward: bool) -> float:
    """Milliseconds of one run."""
    leaves = [t.detach().requires_grad_(backward) for t in given]
    gradient = torch.ones_like(given[0])
    repeats = 20 if given[0].is_cuda else 1
    settle(given[0])
    start = time.perf_counter()
    for _ in range(repeats):
        y = form(*leaves)
        if backward:
            torch.autograd.grad(y, leaves, gradient)
    settle(given[0])
    return (time.perf_counter() - start) / repeats * 1e3


def settle(x: Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize()


def compare(kernel: str, clips: int, frames: int, device: str, rounds: int) -> dict[str, Any]:
    """Per form: its difference from float64, milliseconds, and how many times conv3d's speed."""
    given = tensors(kernel, clips, frames, device)
    candidates = forms(kernel, device)
    small = tensors(kernel, 1, min(frames, 4), device)
    found: dict[str, Any] = {}
    for name, form in candidates.items():
        difference = check(form, small)
        if not difference < ROUNDING[small[0].dtype]:
            raise SystemExit(f"{kernel} {name} is another function: {difference:.1e} off")
        found[name] = {"difference": float(f"{difference:.1e}")}
    for key, backward in (("forward_ms", False), ("with_gradients_ms", True)):
        taken: dict[str, list[float]] = {name: [] for name in candidates}
        for form in candidates.values():
            measure(form, given, backward=backward)  # compiles, picks kernels
        for _ in range(rounds):
            for name, form in candidates.items():
                taken[name].append(measure(form, given, backward=backward))
        base = statistics.median(taken["conv3d"])
        for name, times in taken.items():
            median = statistics.median(times)
            low, _, high = statistics.quantiles(times, n=4)
            found[name][key] = float(f"{median:.3g}")
            found[name][f"{key}_quartiles"] = [float(f"{low:.3g}"), float(f"{high:.3g}")]
            found[name][key.replace("_ms", "_times_conv3d")] = round(base / median, 2)
    return found


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--clips", type=int, default=32 if device == "cuda" else 2)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7, help="two at least")
    parser.add_argument("--out", type=Path, default=HERE / "results" / f"dpe_{device}.json")
    arguments = parser.parse_args()
    report = {
        "benchmark": f"depth-wise convolutions over {arguments.clips} clips of {arguments.frames} "
        f"frames of {SIDE} x {SIDE} tokens; medians of {arguments.rounds} rounds",
        "device": machine.device("torch"),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "dtype": "bfloat16" if device == "cuda" else "float32",
        "threads": torch.get_num_threads(),
        "kernels": {
            kernel: compare(kernel, arguments.clips, arguments.frames, device, arguments.rounds)
            for kernel in ("3x3x3", "3x1x1")
        },
    }
    print(json.dumps(report["kernels"], indent=1))
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
