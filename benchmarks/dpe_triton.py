"""The depth-wise 3 x 3 x 3 convolution of channels-last tokens as two Triton kernels.

One program makes a row of a frame for a block of channels; the 27 reads of each value come from the
cache. The gradient of the input is the same kernel with the taps turned round; that of the taps is
summed in a fixed order, so that the same input gives the same bits.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["depthwise_3x3x3"]

_CHANNELS = 64  # of a program
_SPLITS = 64  # of the rows, for the gradient of the taps


@triton.jit
def _convolve(
    x, taps, bias, out, T, H, W, C, FLIP: tl.constexpr, WIDTH: tl.constexpr, CHANNELS: tl.constexpr
):
    row = tl.program_id(0)
    n, t, h = row // (T * H), row // H % T, row % H
    w = tl.arange(0, WIDTH)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    total = tl.zeros((WIDTH, CHANNELS), tl.float32)
    total += tl.load(bias + c, c < C, 0.0).to(tl.float32)[None, :]
    for tap in tl.static_range(27):
        dt, dh, dw = tap // 9 - 1, tap // 3 % 3 - 1, tap % 3 - 1
        inside = (t + dt >= 0) & (t + dt < T) & (h + dh >= 0) & (h + dh < H)
        there = (w + dw >= 0) & (w + dw < W)
        at = ((n * T + t + dt) * H + h + dh) * W + w + dw
        read = inside & there[:, None] & (c < C)[None, :]
        values = tl.load(x + at[:, None] * C + c[None, :], read, 0.0).to(tl.float32)
        which = 26 - tap if FLIP else tap
        total += values * tl.load(taps + which * C + c, c < C, 0.0).to(tl.float32)[None, :]
    here = row * W + w
    written = (w < W)[:, None] & (c < C)[None, :]
    tl.store(out + here[:, None] * C + c[None, :], total.to(out.dtype.element_ty), written)


@triton.jit
def _of_taps(
    x, gradient, out, rows, T, H, W, C, SPLITS: tl.constexpr, WIDTH: tl.constexpr,
    CHANNELS: tl.constexpr,
):  # fmt: skip
    split, tap = tl.program_id(1), tl.program_id(2)
    dt, dh, dw = tap // 9 - 1, tap // 3 % 3 - 1, tap % 3 - 1
    w = tl.arange(0, WIDTH)
    c = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    total = tl.zeros((WIDTH, CHANNELS), tl.float32)
    for row in range(split, rows, SPLITS):
        n, t, h = row // (T * H), row // H % T, row % H
        inside = (t + dt >= 0) & (t + dt < T) & (h + dh >= 0) & (h + dh < H)
        there = (w + dw >= 0) & (w + dw < W) & (w < W)
        read = inside & there[:, None] & (c < C)[None, :]
        at = ((n * T + t + dt) * H + h + dh) * W + w + dw
        values = tl.load(x + at[:, None] * C + c[None, :], read, 0.0).to(tl.float32)
        g = tl.load(gradient + (row * W + w)[:, None] * C + c[None, :], read, 0.0)
        total += values * g.to(tl.float32)
    tl.store(out + (split * 27 + tap) * C + c, tl.sum(total, 0), c < C)


def _run(x: Tensor, taps: Tensor, bias: Tensor, *, flip: bool) -> Tensor:
    N, T, H, W, C = x.shape
    out = torch.empty_like(x)
    grid = (N * T * H, triton.cdiv(C, _CHANNELS))
    width = triton.next_power_of_2(W)
    _convolve[grid](x, taps, bias, out, T, H, W, C, flip, width, _CHANNELS)
    return out


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        x = x.contiguous()
        taps = weight.flatten(1).t().contiguous()  # (27, C)
        context.save_for_backward(x, taps)
        return _run(x, taps, bias, flip=False)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, taps = context.saved_tensors
        gradient = gradient.contiguous()
        N, T, H, W, C = x.shape
        of_x = _run(gradient, taps, torch.zeros_like(taps[0]), flip=True)
        sums = torch.empty(_SPLITS, 27, C, dtype=torch.float32, device=x.device)
        grid = (triton.cdiv(C, _CHANNELS), _SPLITS, 27)
        width = triton.next_power_of_2(W)
        _of_taps[grid](x, gradient, sums, N * T * H, T, H, W, C, _SPLITS, width, _CHANNELS)
        of_taps = sums.sum(0).t().reshape(C, 1, 3, 3, 3).to(taps.dtype)
        return of_x, of_taps, gradient.float().sum((0, 1, 2, 3)).to(taps.dtype)


def depthwise_3x3x3(x_NTHWC: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """As `uniformerv2.model.depthwise_3x3x3`; weight and bias in the dtype of x."""
    out: Tensor = _Depthwise.apply(x_NTHWC, weight.to(x_NTHWC.dtype), bias.to(x_NTHWC.dtype))
    return out
