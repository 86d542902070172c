"""A model as an ONNX graph: clips to logits, tried in onnxruntime before it is kept."""

import contextlib
import json
import logging
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from k710.errors import MissingExtra, WeightsError, shown
from k710.files import replacing, word_os_errors
from uniformerv2.augment.colours import MEAN, STD
from uniformerv2.model import UniFormerV2
from uniformerv2.weights.class_order import ClassOrder
from uniformerv2.weights.load import make_record

__all__ = ["write_onnx"]

OPSET = 20
TOLERANCE = 1e-3  # of a logit, between onnxruntime and PyTorch
_NEEDED = ("onnx", "onnxruntime", "onnxscript")


def write_onnx(
    model: UniFormerV2, path: Path, *, frames: int, order: ClassOrder | None = None
) -> None:
    """Write the graph of `model` in evaluation mode, from `clips` to `logits` (N, K).

    Clips are (N, 3, frames, size, size) of float32, normalised as by `evaluation_clip`; N is free.
    The file's metadata say so: `k710` (configuration and order of classes), `classes` (their names,
    in order, where they are known), `mean` and `std`. Nothing is written where onnxruntime's logits
    are not the model's to 1e-3 (WeightsError). MissingExtra without the extra `onnx`.
    """
    lacking = [name for name in _NEEDED if find_spec(name) is None]
    if lacking:
        raise MissingExtra(f"ONNX needs {' and '.join(lacking)}: pip install 'k710[train,onnx]'")
    if path.suffix != ".onnx":
        raise WeightsError(f"{shown(path)} should end with .onnx.")
    metadata = {
        "k710": make_record(model.config, order, "k710"),
        "mean": MEAN,
        "std": STD,
        **({} if order is None else {"classes": order.names()}),
    }
    size = model.config.size
    # Two clips: of one, the exporter would take N for a constant.
    clips = torch.randn(2, 3, frames, size, size, generator=torch.Generator().manual_seed(0))
    graph = _export_graph(model.eval(), clips)
    for key, value in metadata.items():
        graph.metadata_props.add(key=key, value=json.dumps(value))
    with word_os_errors(path.parent), replacing(path) as partial:
        partial.write_bytes(graph.SerializeToString())
        _check(model, partial, torch.cat([clips, -clips[:1]]))


def _export_graph(model: UniFormerV2, clips: Tensor) -> Any:
    """The graph as onnx's ModelProto, without the paths and lines of code that it came from."""
    with _quiet(), torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        # The other kernels of attention give tensors of other strides, which the exporter takes for
        # a fact of the graph.
        program = torch.onnx.export(
            model,
            (clips,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["clips"],
            output_names=["logits"],
            dynamic_shapes={"clips": {0: torch.export.Dim("N")}},
            verbose=False,
        )
    assert program is not None
    graph: Any = program.model_proto
    for node in graph.graph.node:
        del node.metadata_props[:]
        node.ClearField("doc_string")
    return graph


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter's optimizer says of each operator that it leaves alone."""
    loggers = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir", "torch.onnx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@torch.inference_mode()
def _check(model: UniFormerV2, path: Path, clips: Tensor) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = torch.from_numpy(session.run(["logits"], {"clips": clips.numpy()})[0])
    apart = (found - model(clips)).abs().max().item()
    if not apart <= TOLERANCE:
        raise WeightsError(
            f"onnxruntime's logits are {apart:.2g} from PyTorch's, and may be {TOLERANCE:g}: "
            "nothing was written."
        )
