"""The depth-wise 3 x 3 x 3 convolution of channels-last tokens as two Triton kernels.

A program has a block of channels of some rows of up to 8 frames. Each of its warps has a frame and
walks along the rows: at each place it reads nine values, above, here and below in three frames, and
uses each for the places left, here and right. A thread has but two channels, so that their 27 taps,
or the sums of the taps' gradients, stay in its registers.

The gradient of the input is the same kernel with the taps turned round. Sums are made in a fixed
order: the same input gives the same bits. For `torch.compile` it is one node of the graph.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["depthwise_3x3x3"]

# Of a program, at most. Two channels for each of 32 threads, a warp for each frame: with four
# channels a thread wants some 200 registers, and an SM has room for half as many warps.
_CHANNELS, _FRAMES = 64, 8
_PROGRAMS = 528  # at least, where there are rows enough: what a Hopper GPU runs at once, twice


@triton.jit
def _place(T, FRAMES: tl.constexpr, CHANNELS: tl.constexpr):
    """The clip, the frames and the channels of this program."""
    n = (tl.program_id(1) // tl.cdiv(T, FRAMES)).to(tl.int64)
    t = tl.program_id(1) % tl.cdiv(T, FRAMES) * FRAMES + tl.arange(0, FRAMES)[:, None]
    c = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    return n, t, c


@triton.jit
def _around(frames, at, masks, ROW: tl.constexpr):
    """The nine values at one place: in three frames, of the rows above, here and below."""
    values = ()
    for i in tl.static_range(9):
        values += (tl.load(frames[i // 3] + at + (i % 3 - 1) * ROW, masks[i % 3], 0.0),)
    return values


@triton.jit
def _neighbours(x, t, T, stride):
    """Where the frames before, of and after t begin; the outermost have themselves beside them."""
    # A program's frames may go on after the last one: never further than that is read.
    before = tl.minimum(tl.maximum(t - 1, 0), T - 1)
    here, after = tl.minimum(t, T - 1), tl.minimum(t + 1, T - 1)
    return x + before * stride, x + here * stride, x + after * stride


@triton.jit
def _convolve(
    x, taps, bias, out, T, H, rows, x_clip, x_frame, FLIP: tl.constexpr, W: tl.constexpr,
    C: tl.constexpr, FRAMES: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    n, t, c = _place(T, FRAMES, CHANNELS)
    real = c < C
    written = real & (t < T)
    # As wide as the values, so that each thread gets the taps of its own channels.
    c_wide = tl.broadcast_to(c, (FRAMES, CHANNELS))
    k = ()
    for tap in tl.static_range(27):
        # No tap for a frame that is not there: then its values need no mask.
        there = (t + (tap // 9 - 1) >= 0) & (t + (tap // 9 - 1) < T)
        which = 26 - tap if FLIP else tap
        k += (tl.load(taps + which * C + c_wide, real & there, 0.0),)
    start = tl.zeros((FRAMES, CHANNELS), tl.float32)
    if not FLIP:
        start += tl.load(bias + c_wide, real & (t < T), 0.0).to(tl.float32)
    frames = _neighbours(x + n * x_clip + c, t, T, x_frame)
    out += n * T * H * W * C + t * H * W * C + c
    for h in range(tl.program_id(2) * rows, tl.minimum(tl.program_id(2) * rows + rows, H)):
        masks = (real & (h > 0), real, real & (h < H - 1))
        coming = _around(frames, h * W * C, masks, W * C)
        left, middle = start, start
        for w in tl.range(0, W, loop_unroll_factor=2):
            # Asks for the next values before it uses these: there are few warps to wait behind.
            values = coming
            following = h * W + tl.minimum(w + 1, W - 1)
            coming = _around(frames, following * C, masks, W * C)
            right = start
            for i in tl.static_range(9):
                value = values[i].to(tl.float32)
                left += value * k[3 * i + 2]
                middle += value * k[3 * i + 1]
                right += value * k[3 * i]
            tl.store(out + (h * W + w - 1) * C, left, written & (w > 0))
            left, middle = middle, right
        tl.store(out + (h * W + W - 1) * C, left, written)


@triton.jit
def _of_taps(
    x, gradient, out, T, H, rows, x_clip, x_frame, g_clip, g_frame, W: tl.constexpr,
    C: tl.constexpr, FRAMES: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Each program's share of the gradient of the 27 taps, and as a 28th of the bias."""
    n, t, c = _place(T, FRAMES, CHANNELS)
    real = c < C
    frames = _neighbours(x + n * x_clip + c, t, T, x_frame)
    gradient += n * g_clip + tl.minimum(t, T - 1) * g_frame + c
    zero = tl.zeros((FRAMES, CHANNELS), tl.float32)
    of_bias = zero
    sums = ()
    for _ in tl.static_range(27):
        sums += (zero,)
    for h in range(tl.program_id(2) * rows, tl.minimum(tl.program_id(2) * rows + rows, H)):
        masks = (real & (h > 0), real, real & (h < H - 1))
        coming = _around(frames, h * W * C, masks, W * C)
        left = zero
        middle = tl.load(gradient + h * W * C, real, 0.0).to(tl.float32)
        for w in tl.range(0, W, loop_unroll_factor=2):
            values = coming
            following = h * W + tl.minimum(w + 1, W - 1)
            coming = _around(frames, following * C, masks, W * C)
            right = tl.load(gradient + following * C, real & (w < W - 1), 0.0).to(tl.float32)
            of_bias += middle
            more = ()
            for i in tl.static_range(27):
                beside = right if i % 3 == 0 else middle if i % 3 == 1 else left
                more += (sums[i] + values[i // 3].to(tl.float32) * beside,)
            sums = more
            left, middle = middle, right
    c_flat = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    out += (tl.program_id(2) * tl.num_programs(1) + tl.program_id(1)) * 28 * C + c_flat
    for tap in tl.static_range(27):
        # The sums over frames that are not there, which read another in their place, don't count.
        there = (t + (tap // 9 - 1) >= 0) & (t + (tap // 9 - 1) < T) & (t < T)
        tl.store(out + tap * C, tl.sum(tl.where(there, sums[tap], 0.0), 0), c_flat < C)
    tl.store(out + 27 * C, tl.sum(tl.where(t < T, of_bias, 0.0), 0), c_flat < C)


def _laid_out(x: Tensor) -> Tensor:
    """x if the places of a frame follow one another, as in a slice of tokens; else a copy."""
    W, C = x.shape[3:]
    return x if x.stride()[2:] == (W * C, C, 1) else x.contiguous()


def _plan(x: Tensor) -> tuple[tuple[int, int, int], int, dict[str, int]]:
    """The grid, the rows of a program, and what else both kernels are made for."""
    N, T, H, W, C = x.shape
    frames = min(_FRAMES, triton.next_power_of_2(T))
    blocks, tiles = triton.cdiv(C, _CHANNELS), N * triton.cdiv(T, frames)
    rows = triton.cdiv(H, min(H, triton.cdiv(_PROGRAMS, blocks * tiles)))
    made_for = {"W": W, "C": C, "FRAMES": frames, "CHANNELS": _CHANNELS, "num_warps": frames}
    return (blocks, tiles, triton.cdiv(H, rows)), rows, made_for


def _run(x: Tensor, weight: Tensor, bias: Tensor, *, flip: bool) -> Tensor:
    x = _laid_out(x)
    T, H = x.shape[1:3]
    out = x.new_empty(x.shape)
    taps = weight.flatten(1).t().float().contiguous()  # (27, C)
    grid, rows, made_for = _plan(x)
    _convolve[grid](x, taps, bias, out, T, H, rows, *x.stride()[:2], FLIP=flip, **made_for)
    return out


@torch.library.custom_op("k710::depthwise_3x3x3", mutates_args=())
def depthwise_3x3x3(x_NTHWC: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """As `uniformerv2.depthwise` has it, in the dtype of x; the taps and sums in float32."""
    return _run(x_NTHWC, weight, bias, flip=False)


@torch.library.custom_op("k710::depthwise_3x3x3_backward", mutates_args=())
def _backward(gradient: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    gradient, x = _laid_out(gradient), _laid_out(x)
    _, T, H, _, C = x.shape
    of_x = _run(gradient, weight, weight, flip=True)  # which adds no bias
    grid, rows, made_for = _plan(x)
    shares = x.new_empty((grid[1] * grid[2], 28, C), dtype=torch.float32)
    strides = (*x.stride()[:2], *gradient.stride()[:2])
    _of_taps[grid](x, gradient, shares, T, H, rows, *strides, **made_for)
    sums = shares.sum(0).to(weight.dtype)
    # Copies, as an operator's answers share no memory.
    return of_x, sums[:27].t().reshape(weight.shape).contiguous(), sums[27].clone()


@depthwise_3x3x3.register_fake
def _(x_NTHWC: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return x_NTHWC.new_empty(x_NTHWC.shape)


@_backward.register_fake
def _(gradient: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    C = len(weight)
    return gradient.new_empty(x.shape), weight.new_empty(weight.shape), weight.new_empty(C)


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])


def _gradients(ctx: Any, gradient: Tensor) -> Any:
    return _backward(gradient, *ctx.saved_tensors)


depthwise_3x3x3.register_autograd(_gradients, setup_context=_save)
