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
from uniformerv2.training.optim import freeze

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


def kept_bytes(**changes: Any) -> float:
    """Of each token and channel, what autograd saves in a forward pass beside the parameters."""
    config = dataclasses.replace(SIZES["tiny"], width=128, heads=2, **changes)
    model = UniFormerV2(config).train()
    if config.frozen:
        freeze(model)
    matrices = [p for p in model.parameters() if p.ndim == 2]
    shapes = {m.shape for m in matrices} | {m.T.shape for m in matrices}
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    saved: dict[int, torch.Tensor] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage().data_ptr()
        # Autocast's narrow copies of weights are no activations.
        if storage not in own and tensor.shape not in shapes:
            saved[storage] = tensor
        return tensor

    pixels = torch.randn(1, 3, 8, config.size, config.size)
    hooks = torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16):
        model(pixels).sum()
    tokens = 8 * (1 + (config.size // config.patch) ** 2)
    return sum(t.untyped_storage().nbytes() for t in saved.values()) / (tokens * config.width)


def test_a_frozen_vit_keeps_nothing_and_a_checkpointed_block_a_fifth() -> None:
    few, many = {"depth": 4}, {"depth": 8}
    block = (kept_bytes(**many) - kept_bytes(**few)) / 4
    checkpointed = (
        kept_bytes(**many, checkpoint_blocks=8) - kept_bytes(**few, checkpoint_blocks=4)
    ) / 4
    assert checkpointed / block == pytest.approx(0.2, abs=0.03)
    assert kept_bytes(**many, frozen=True) == kept_bytes(**few, frozen=True)


def test_a_frozen_vit_has_no_backward_pass() -> None:
    config = SIZES["b16"]
    frozen = dataclasses.replace(config, frozen=True)
    forward = 2 * forward_macs(config, 8)
    assert training_flops(config, 8) == 3 * forward
    branch = (training_flops(frozen, 8) - forward) / 2
    assert 0 < branch < 0.1 * forward
