"""The model: its shapes, its first state, its variants, and what training switches on."""

import ast
import json
import sys
from dataclasses import replace

import pytest
import torch

from support.list_files import shared
from support.paths import ROOT
from support.tiny_models import TEMPORAL, TINY, clips, drawn
from uniformerv2.config import SIZES, Config
from uniformerv2.model import UniFormerV2, resize_positions
from uniformerv2.weights.names import shapes_in

FUSIONS = ("sequential", "parallel", "hierarchical_kv", "hierarchical_q")
PUBLISHED = {
    "k710_b16_f8x224": SIZES["b16"],
    "k710_l14_f8x224": SIZES["l14"],
    "k710_l14_f8x336": SIZES["l14_336"],
    "frozen_k710_l14_f8x336": replace(SIZES["l14_336"], frozen=True),
    "ssv2_b16_f16x224": replace(
        SIZES["b16"],
        num_classes=174,
        temporal_downsample=True,
        local="double",
        global_layers=tuple(range(4, 12)),
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_names_shapes_and_counts_are_those_published(name: str) -> None:
    said = json.loads((shared("reference/uniformerv2") / "state_dict_shapes.json").read_text())
    shapes = shapes_in(PUBLISHED[name], "opengvlab")
    assert {k: list(shape) for k, shape in shapes.items()} == said[name]["state_dict"]
    with torch.device("meta"):
        model = UniFormerV2(PUBLISHED[name])
    assert sum(p.numel() for p in model.parameters()) == said[name]["parameters"]


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("base", [TINY, TEMPORAL], ids=["scene", "temporal"])
def test_a_fresh_model_is_the_image_model_and_a_head(base: Config, fusion: str) -> None:
    torch.manual_seed(0)
    model = UniFormerV2(replace(base, fusion=fusion)).eval()
    x = clips()
    mean = model.tokens(x)[:, :, 0].mean(1)
    assert torch.allclose(model(x), model.head(model.norm(0.5 * mean)), atol=1e-6)


def test_a_fresh_local_relation_adds_nothing() -> None:
    model = UniFormerV2(replace(TINY, local="double")).eval()
    plain = UniFormerV2(TINY).eval()
    state = model.state_dict()
    plain.load_state_dict({k: t for k, t in state.items() if ".local_" not in k})
    assert torch.equal(model(clips()), plain(clips()))
    torch.nn.init.normal_(model.blocks[0].local_1.expand.weight)
    assert not torch.allclose(model(clips()), plain(clips()))


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("frames", [1, 4, 5])
def test_every_parameter_learns(fusion: str, frames: int) -> None:
    model = drawn(replace(TEMPORAL, fusion=fusion))
    loss = torch.nn.functional.cross_entropy(model(clips(frames)), torch.tensor([1, 3]))
    loss.backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


@pytest.mark.parametrize("fusion", FUSIONS)
def test_fusions_differ_and_trace_as_one_graph(fusion: str) -> None:
    torch._dynamo.reset()
    model = drawn(replace(TINY, fusion=fusion)).eval()
    logits = model(clips())
    whole = torch.compile(model, backend="eager", fullgraph=True)
    assert torch.allclose(whole(clips()), logits, atol=1e-4, rtol=1e-4)
    if fusion != "sequential":
        other = drawn(TINY).eval()
        state = {k: t for k, t in model.state_dict().items() if k in other.state_dict()}
        other.load_state_dict({**other.state_dict(), **state, "query": model.query.data[:1]})
        assert not torch.allclose(other(clips()), logits, atol=1e-3)


@pytest.mark.parametrize(
    "changes",
    [
        {"drop_path": 0.3, "global_drop_path": 0.3, "head_dropout": 0.5, "global_dropout": 0.5},
        {"drop_path": 0.3, "global_drop_path": 0.3, "drop_path_mode": "reference"},
        {"checkpoint_blocks": 2, "layer_scale": True, "relative_positions": True},
    ],
    ids=["sample", "reference", "checkpoints"],
)
def test_training_traces_as_one_graph(changes: dict[str, object]) -> None:
    torch._dynamo.reset()
    model = drawn(replace(TEMPORAL, **changes)).train()
    whole = torch.compile(model, backend="eager", fullgraph=True)
    with torch.autocast("cpu", torch.bfloat16):
        loss = whole(clips()).float().square().sum()
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_the_stream_is_as_narrow_as_the_work() -> None:
    for changes in ({}, {"layer_scale": True, "relative_positions": True}):
        model = drawn(replace(TINY, **changes)).eval()
        with torch.autocast("cpu", torch.bfloat16):
            assert model.tokens(clips()).dtype == torch.bfloat16


def test_keys_and_values_are_as_with_plain_attention() -> None:
    block = drawn(TINY).global_blocks[0].attention
    query, tokens = torch.randn(2, 3, 64), torch.randn(2, 50, 64)
    q, k, v = block.qkv.weight.chunk(3)
    q_bias, k_bias, v_bias = block.qkv.bias.chunk(3)
    split = [
        torch.nn.functional.linear(x, w, b).unflatten(2, (4, 16)).transpose(1, 2)
        for x, w, b in ((query, q, q_bias), (tokens, k, k_bias), (tokens, v, v_bias))
    ]
    plain = torch.nn.functional.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)
    assert torch.allclose(block(query, tokens), block.proj(plain), atol=1e-5)


@pytest.mark.parametrize("base", [TINY, TEMPORAL], ids=["scene", "temporal"])
def test_blocks_that_keep_no_activations_learn_the_same(base: Config) -> None:
    gradients, statistics, kept = [], [], []
    for num in (0, 3):
        model = drawn(replace(base, checkpoint_blocks=num))
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, sizes=sizes: sizes.append(t.nbytes) or t, lambda t: t
        ):
            logits = model(clips())
        kept.append(sum(sizes))
        logits.square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
        statistics.append([b.clone() for b in model.buffers()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(*statistics, strict=True))
    assert kept[1] < 0.7 * kept[0]


def test_other_sizes_are_interpolated_and_others_refused() -> None:
    model = drawn(TINY).eval()
    assert model(clips(size=96)).shape == (2, 7)
    with pytest.raises(ValueError, match="can't be cut into patches of 16"):
        model(clips(size=70))
    with pytest.raises(ValueError, match="clips are N, 3, T"):
        model(torch.zeros(2, 4, 3, 64, 64))
    table = torch.randn(16, 64)
    assert torch.allclose(resize_positions(table, (4, 4)), table, atol=1e-5)


@pytest.mark.parametrize("mode", ["sample", "reference"])
def test_paths_are_dropped_by_sample_or_as_the_reference_does(mode: str) -> None:
    config = replace(TINY, drop_path=0.5, global_drop_path=0.9, drop_path_mode=mode)
    model = drawn(config).train()
    block = model.blocks[-1]
    x = torch.randn(6, 4, 17, 64)
    torch.manual_seed(3)
    once = block.add(x, torch.nn.Identity(), torch.nn.Identity(), None) - x
    kept = once.abs().amax(-1) > 0  # N, T, L
    axis = (1, 2) if mode == "sample" else (0, 1)
    assert torch.equal(kept.float().amin(axis), kept.float().amax(axis))
    assert kept.any() and not kept.all()
    assert torch.allclose(once[kept], 2 * x[kept])
    y = torch.ones(500, 1, 64)
    dropped = model.global_blocks[-1].dropped(y)[:, 0, 0]
    assert len(dropped.unique()) == (2 if mode == "sample" else 1)
    assert torch.equal(model.eval().global_blocks[-1].dropped(y), y)


def leave_nans_in_free_memory() -> None:
    """A kernel that reads what nothing was written to finds them there."""
    kept = [torch.full((1 << power,), torch.nan) for power in range(6, 21, 2) for _ in range(30)]
    del kept


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_is_near_float32_and_learns(dtype: torch.dtype) -> None:
    model = drawn(TEMPORAL)
    model.eval()
    exact = model(clips())
    with torch.autocast("cpu", dtype):
        logits = model(clips())
        loss = torch.nn.functional.cross_entropy(logits.float(), torch.tensor([1, 3]))
    leave_nans_in_free_memory()
    loss.backward()
    assert (logits.float() - exact).norm() < 0.05 * exact.norm()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": 70}, "size .70. must be a multiple of patch"),
        ({"heads": 5}, "width .64. of heads .5."),
        ({"global_layers": ()}, "must ascend"),
        ({"global_layers": (3, 2)}, "must ascend"),
        ({"global_layers": (2, 4)}, "must ascend from 0 to 3"),
        ({"global_dropout": (0.1,)}, "1 rates for 2 blocks"),
        ({"fusion": "hierarchical-kv"}, "fusion .'hierarchical-kv'. must be sequential or"),
        ({"activation": "relu"}, "activation .'relu'. must be quick_gelu or gelu"),
        ({"heads": 0}, "heads .0. must be a whole number from 1"),
        ({"size": 1e300}, "size .1e.300. must be a whole number"),
        ({"depth": True}, "depth .True. must be a whole number"),
        ({"global_layers": [2, "3"]}, "global_layers .* must be a list of layers"),
        ({"local_width": -3}, "local_width .-3. must be a whole number from 1 to 65,536 or none"),
        ({"norm_eps": float("nan")}, "norm_eps .nan. must be a number between 0 and 1"),
        ({"head_dropout": 7}, "head_dropout .7. must be a number from 0 to below 1"),
    ],
)
def test_what_can_not_be_built_is_said(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(TINY, **changes)


def test_the_model_needs_pytorch_its_configuration_and_its_convolutions_alone() -> None:
    nodes = list(ast.walk(ast.parse((ROOT / "uniformerv2" / "model.py").read_text())))
    names = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    names |= {a.name for node in nodes if isinstance(node, ast.Import) for a in node.names}
    others = {str(name) for name in names if str(name).partition(".")[0] != "torch"}
    assert others - sys.stdlib_module_names == {"uniformerv2.config", "uniformerv2.depthwise"}
