"""Groups of parameters and learning rates are those of the reference."""

import dataclasses
import json

import pytest
import torch
from hypothesis import given, strategies as st

from support.list_files import shared
from uniformerv2.config import SIZES, Config
from uniformerv2.model import UniFormerV2
from uniformerv2.recipe import Optim
from uniformerv2.training.optim import freeze, learning_rate, parameter_groups

FROZEN = dataclasses.replace(SIZES["l14_336"], frozen=True)
SSV2 = Config(
    num_classes=174, temporal_downsample=True, local="double", global_layers=tuple(range(4, 12))
)  # of 16 frames


def counted(config: Config, *, is_frozen: bool = False) -> list[tuple[int, int]]:
    """Parameters and tensors of each group."""
    with torch.device("meta"):
        model = UniFormerV2(config)
    if is_frozen:
        freeze(model)
    groups = parameter_groups(model)
    return [(sum(p.numel() for p in g["params"]), len(g["params"])) for g in groups]


@pytest.mark.parametrize(
    ("size", "decayed", "others"),
    [
        ("b16", (114_616_320, 72), (174_278, 147)),
        ("l14", (354_025_472, 120), (391_878, 243)),
        ("l14_336", (354_353_152, 120), (391_878, 243)),
    ],
)
def test_groups_are_those_of_the_reference(
    size: str, decayed: tuple[int, int], others: tuple[int, int]
) -> None:
    assert counted(SIZES[size]) == [decayed, others]
    config = dataclasses.replace(SIZES[size], num_classes=3)
    with torch.device("meta"):
        groups = parameter_groups(UniFormerV2(config), weight_decay=0.1)
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]


def test_with_local_relation_too() -> None:
    # The reference has a third group, of BatchNorm's vectors, with no decay either.
    assert counted(SSV2) == [(162_690_048, 164), (265_902 + 36_864, 263 + 48)]


def test_a_frozen_model_trains_its_global_branch_and_head() -> None:
    assert sum(number for number, _ in counted(FROZEN, is_frozen=True)) == 51_238_598


def test_rates_are_those_of_the_reference() -> None:
    curves = json.loads((shared("reference/uniformerv2") / "lr_schedule.json").read_text())
    del curves["about"]
    assert curves
    for curve in curves.values():
        optim = Optim(
            lr=curve["base_lr"],
            start_lr=curve["warmup_start_lr"],
            end_lr=curve["end_lr"],
            warmup_epochs=curve["warmup_epochs"],
            epochs=curve["epochs"],
        )
        for epoch, expected in curve["curve"]:
            assert learning_rate(optim, epoch) == pytest.approx(expected, rel=1e-9)


@given(warmup=st.floats(0, 10), after=st.floats(0.5, 90), at=st.floats(0, 1), later=st.floats(0, 1))
def test_a_rate_rises_to_its_peak_and_falls_to_its_end(
    warmup: float, after: float, at: float, later: float
) -> None:
    optim = Optim(lr=1e-3, start_lr=1e-6, end_lr=1e-5, warmup_epochs=warmup, epochs=warmup + after)
    a, b = sorted((at, later))
    rise = [learning_rate(optim, warmup * share) for share in (a, b) if share < 1]
    fall = [learning_rate(optim, warmup + after * share) for share in (a, b)]
    assert rise == sorted(rise) and fall == sorted(fall, reverse=True)
    assert learning_rate(optim, warmup) == pytest.approx(1e-3)
    assert learning_rate(optim, warmup + after + 1) == pytest.approx(1e-5)
    with pytest.raises(ValueError, match="warmup_epochs"):
        Optim(warmup_epochs=5, epochs=5)


def test_layers_further_down_learn_more_slowly() -> None:
    config = dataclasses.replace(SIZES["tiny"], local="single", layer_scale=True)
    with torch.device("meta"):
        model = UniFormerV2(config)
    groups = parameter_groups(model, layer_decay=0.5)
    scales = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    plain = {id(p): g["weight_decay"] for g in parameter_groups(model) for p in g["params"]}
    assert decays == plain and len(scales) == sum(1 for _ in model.parameters())
    top = config.depth + 1
    for name, parameter in model.named_parameters():
        layer = int(name.split(".")[1]) + 1 if name.startswith("blocks.") else top
        if name.startswith(("patch_embedding", "class_token", "positions", "norm_before")):
            layer = 0
        assert scales[id(parameter)] == 0.5 ** (top - layer), name
    assert {group["lr_scale"] for group in parameter_groups(model)} == {1.0}
