"""What cost.py counts without PyTorch is what the model has, and what PyTorch counts of it."""

import dataclasses
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from uniformerv2.config import SIZES, Config
from uniformerv2.cost import forward_macs, num_parameters, trained_parameters, training_flops
from uniformerv2.model import UniFormerV2
from uniformerv2.optim import freeze

KINDS: list[dict[str, Any]] = [
    {},
    {"frozen": True},
    {"local": "double"},
    {"local": "single", "local_width": 20},
    {"temporal_downsample": True},
    {"fusion": "parallel"},
    {"fusion": "hierarchical_kv"},
    {"fusion": "hierarchical_q"},
    {"layer_scale": True, "norm_before": False},
    {"relative_positions": True},
    {"global_mlp_ratio": 2.0, "num_classes": 7},
]
CONFIGS = [dataclasses.replace(SIZES["tiny"], **kind) for kind in KINDS]
CONFIGS += [SIZES["b16"], dataclasses.replace(SIZES["l14_336"], frozen=True)]


def built(config: Config) -> UniFormerV2:
    with torch.device("meta"):
        return UniFormerV2(config).eval()


@pytest.mark.parametrize("config", CONFIGS)
def test_parameters_are_those_of_the_model(config: Config) -> None:
    model = built(config)
    assert num_parameters(config) == sum(p.numel() for p in model.parameters())
    if config.frozen:
        freeze(model)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained_parameters(config) == trained


@pytest.mark.parametrize("config", CONFIGS[:-1])
def test_arithmetic_is_what_pytorch_counts(config: Config) -> None:
    model = built(config).requires_grad_(False)
    pixels = torch.empty(1, 3, 8, config.size, config.size, device="meta")
    # Attention as two matrix products: a fused kernel is not counted on every device.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(pixels)
    assert 2 * forward_macs(config, 8) == pytest.approx(counter.get_total_flops(), rel=0.005)


def test_a_frozen_vit_has_no_backward_pass() -> None:
    config = SIZES["b16"]
    frozen = dataclasses.replace(config, frozen=True)
    forward = 2 * forward_macs(config, 8)
    assert training_flops(config, 8) == 3 * forward
    branch = (training_flops(frozen, 8) - forward) / 2
    assert 0 < branch < 0.1 * forward
