"""The kernels of the depth-wise convolution give what conv3d does in float64, gradients too.

Where there is CUDA they run on it: pytest -m cuda. Elsewhere test_triton_interpreted.py runs this
file in Triton's interpreter, which is slow: hence the small frames.
"""

import os

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

pytest.importorskip("triton")
from uniformerv2 import depthwise_triton

IS_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if IS_INTERPRETED else "cuda"
on_device = [] if IS_INTERPRETED else [pytest.mark.cuda]
each = [pytest.param(False, marks=on_device), pytest.param(True, marks=on_device)]


def tensors(shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens with a class token before those of each frame, weight and bias."""
    N, T, H, W, C = shape
    generator = torch.Generator().manual_seed(0)
    sizes = ((N, T, 1 + H * W, C), (C, 1, 3, 3, 3), (C,))
    tokens, weight, bias = (torch.randn(size, generator=generator) for size in sizes)
    return tokens.to(DEVICE), weight.to(DEVICE), bias.to(DEVICE)


def patches(tokens: Tensor, shape: tuple[int, ...]) -> Tensor:
    return tokens[:, :, 1:].view(shape)


def conv3d(x_NTHWC: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    x = x_NTHWC.permute(0, 4, 1, 2, 3)
    return F.conv3d(x, weight, bias, padding=1, groups=len(weight)).permute(0, 2, 3, 4, 1)


def check(shape: tuple[int, ...], is_strided: bool, apart: float, dtype: torch.dtype) -> None:
    tokens, weight, bias = tensors(shape)
    tokens = tokens.to(dtype)
    wanted = torch.randn(tokens.shape, generator=torch.Generator().manual_seed(1)).to(tokens)
    results = []
    for function, precision in ((conv3d, torch.float64), (depthwise_triton.depthwise_3x3x3, None)):
        leaves = [t.to(precision or t.dtype).requires_grad_() for t in (tokens, weight, bias)]
        # Of a slice, the gradient that comes back is one too.
        x, gradient = (patches(t, shape) for t in (leaves[0], wanted.to(precision or dtype)))
        if not is_strided:
            x, gradient = x.contiguous(), gradient.contiguous()
        y = function(x, *leaves[1:])
        results.append((y, *torch.autograd.grad(y, leaves, gradient)))
    assert results[1][0].dtype == dtype and results[1][2].dtype == torch.float32
    for expected, got in zip(*results, strict=True):
        assert got.shape == expected.shape
        assert (got.double() - expected).norm() <= apart * expected.norm()


@pytest.mark.parametrize("is_strided", each)
@pytest.mark.parametrize(
    "shape",
    [
        (2, 3, 2, 4, 64),
        (1, 1, 3, 5, 70),  # one frame, odd sides; a program of 64 channels and one of 6
        (1, 9, 1, 3, 5),  # a program of 8 frames and one of 1
        (1, 2, 1, 1, 8),
    ],
)
def test_as_conv3d(shape: tuple[int, ...], is_strided: bool) -> None:
    check(shape, is_strided, 1e-6, torch.float32)


@pytest.mark.parametrize("is_strided", each)
def test_several_rows_for_a_program(is_strided: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depthwise_triton, "_PROGRAMS", 2)
    check((1, 2, 5, 2, 8), is_strided, 1e-6, torch.float32)  # 3 rows and 2


@pytest.mark.parametrize("is_strided", each)
def test_bfloat16_with_a_weight_of_float32(is_strided: bool) -> None:
    # The interpreter cuts off what a GPU rounds.
    check((1, 2, 3, 3, 64), is_strided, 5e-3, torch.bfloat16)


@pytest.mark.cuda
@pytest.mark.parametrize("side", [14, 16, 24])
def test_whole_frames(side: int) -> None:
    check((2, 8, side, side, 768), True, 3e-3, torch.bfloat16)
    check((3, 16, side, side, 192), True, 1e-5, torch.float32)


@pytest.mark.parametrize("is_strided", each)
def test_one_graph_under_autocast(is_strided: bool) -> None:
    shape = (1, 2, 2, 2, 8)
    tokens, weight, bias = tensors(shape)
    x = patches(tokens, shape).clone(memory_format=torch.preserve_format)
    x = (patches(tokens, shape) if is_strided else x).detach().requires_grad_()
    leaves = (x, weight.requires_grad_(), bias.requires_grad_())

    def function(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return depthwise_triton.depthwise_3x3x3(x * 2, weight, bias) + x

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    results = []
    for form in (function, compiled):
        with torch.autocast(DEVICE, torch.bfloat16):
            y = form(*leaves)
        results.append((y, *torch.autograd.grad(y.square().sum(), leaves)))
    for expected, got in zip(*results, strict=True):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, expected)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("is_strided", each)
def test_a_sound_operator(is_strided: bool) -> None:
    shape = (1, 2, 1, 2, 8)
    tokens, weight, bias = tensors(shape)
    x = patches(tokens, shape) if is_strided else patches(tokens, shape).contiguous()
    leaves = tuple(t.detach().requires_grad_() for t in (x, weight, bias))
    torch.library.opcheck(depthwise_triton.depthwise_3x3x3, leaves)


@pytest.mark.parametrize("_", each[:1])
def test_nothing_is_read_after_the_last_frame(_: bool) -> None:
    """What lies behind is as large as floats go: to multiply it overflows, a warning of NumPy's."""
    T, C = 9, 5  # a program of 8 frames, and one of 1 with 7 that are not there
    memory = torch.full((4 * T * 3 * C,), 3e38, device=DEVICE)
    x = memory[: T * 3 * C].view(1, T, 1, 3, C).normal_().requires_grad_()
    weight = torch.randn(C, 1, 3, 3, 3, device=DEVICE).mul_(100).requires_grad_()
    bias = torch.zeros(C, device=DEVICE, requires_grad=True)
    y = depthwise_triton.depthwise_3x3x3(x, weight, bias)
    of_x, of_weight, _ = torch.autograd.grad(y, (x, weight, bias), torch.full_like(y, 100))
    assert all(tensor.isfinite().all() for tensor in (y, of_x, of_weight))
