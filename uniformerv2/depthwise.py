"""The two depth-wise convolutions of UniFormerV2, each in the form that is quick on its device.

Tokens are channels last, in any dtype; weights are a convolution's own. benchmarks/dpe.py compares
the forms.
"""

from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["depthwise_3x1x1", "depthwise_3x3x3", "frame_by_frame"]


def depthwise_3x3x3(x_NTHWC: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The depth-wise convolution of the dynamic position encoding: weight (C, 1, 3, 3, 3)."""
    if x_NTHWC.is_cuda and x_NTHWC.dtype != torch.float64:  # the kernels work in float32
        return _on_cuda(x_NTHWC, weight, bias)
    x_NCTHW = x_NTHWC.permute(0, 4, 1, 2, 3)
    is_narrow = x_NTHWC.dtype in (torch.bfloat16, torch.float16)
    if is_narrow or torch.is_autocast_enabled("cpu"):
        # In float32: the CPU's gradient of a bfloat16 kernel reads memory that nothing was written
        # to (PyTorch 2.14: NaN where that holds NaN), and float16 is slow there.
        with torch.autocast("cpu", enabled=False):
            x_NCTHW, weight, bias = x_NCTHW.float(), weight.float(), bias.float()
            y = F.conv3d(x_NCTHW, weight, bias, padding=1, groups=weight.shape[0])
        return y.permute(0, 2, 3, 4, 1).to(x_NTHWC.dtype)
    return F.conv3d(x_NCTHW, weight, bias, padding=1, groups=weight.shape[0]).permute(0, 2, 3, 4, 1)


def frame_by_frame(x_NTHWC: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The same as a 2-D convolution of each frame for each of its three neighbours.

    cuDNN has kernels for those in this layout, and none for the 3-D one (benchmarks/dpe.py).
    """
    N, T, H, W, C = x_NTHWC.shape
    frames = x_NTHWC.reshape(N * T, H, W, C).contiguous().permute(0, 3, 1, 2)
    before, here, after = (
        F.conv2d(frames, tap, padding=1, groups=C).permute(0, 2, 3, 1).view(N, T, H, W, C)
        for tap in weight.unbind(2)
    )
    before = F.pad(before[:, :-1], (0, 0, 0, 0, 0, 0, 1, 0))
    after = F.pad(after[:, 1:], (0, 0, 0, 0, 0, 0, 0, 1))
    return before + here + after + bias.to(here.dtype)


def depthwise_3x1x1(x_NTPC: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The temporal depth-wise convolution of the local UniBlock: weight (C, 1, 3)."""
    # Three shifted products: cheaper to learn through than a convolution, most of all if compiled
    # (benchmarks/dpe.py).
    past = F.pad(x_NTPC[:, :-1], (0, 0, 0, 0, 1, 0))
    future = F.pad(x_NTPC[:, 1:], (0, 0, 0, 0, 0, 1))
    before, here, after = weight[:, 0].to(x_NTPC.dtype).unbind(1)
    return past * before + x_NTPC * here + future * after + bias.to(x_NTPC.dtype)


_on_cuda = frame_by_frame
if find_spec("triton") and torch.cuda.is_available():
    from uniformerv2 import depthwise_triton

    _on_cuda = depthwise_triton.depthwise_3x3x3
