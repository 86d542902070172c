"""Models small enough for a CPU, all of their values drawn, and checkpoints of them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from uniformerv2.config import SIZES, Config
from uniformerv2.model import UniFormerV2
from uniformerv2.weights.load import rename_tensors

TINY = replace(SIZES["tiny"], num_classes=7, head_dropout=0.0, global_dropout=0.0)
TEMPORAL = replace(TINY, temporal_downsample=True, local="double")
# Heads of 64 channels, as those whose config no file tells.
CONFIG = replace(TINY, num_classes=710, width=128, heads=2, depth=3, global_layers=(1, 2))


def drawn(config: Config, seed: int = 0) -> UniFormerV2:
    """A model, every parameter and buffer of which is drawn: initial values hide faults."""
    torch.manual_seed(seed)
    model = UniFormerV2(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return model


def clips(frames: int = 4, size: int = 64, num: int = 2) -> torch.Tensor:
    """Pictures of noise."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(num, 3, frames, size, size, generator=generator)


def published(path: Path, config: Config = CONFIG, family: Any = "opengvlab") -> UniFormerV2:
    """Write a checkpoint as `family` publishes them, without any record of ours."""
    model = drawn(config).eval()
    tensors = rename_tensors(model.state_dict(), config, family)
    wrapper = {"opengvlab": "model_state", "mmaction2": "state_dict"}[family]
    torch.save({wrapper: tensors, "epoch": 3, "optimizer_state": {"state": {}}}, path)
    return model
