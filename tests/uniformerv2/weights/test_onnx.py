"""The ONNX graph says what the model says."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from k710.errors import MissingExtra, WeightsError
from k710.labels.orders import class_names
from support.command_line import k710
from support.tiny_models import CONFIG, TINY, clips, drawn, published
from uniformerv2.weights import onnx as onnx_graph
from uniformerv2.weights.convert import convert
from uniformerv2.weights.onnx import write_onnx

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def logits_of(path: Path, x: torch.Tensor) -> torch.Tensor:
    """What onnxruntime makes of clips."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"clips": x.numpy()})[0])


def check(path: Path, model: torch.nn.Module, x: torch.Tensor) -> None:
    with torch.no_grad():
        expected = model(x)
    got = logits_of(path, x)
    assert (got - expected).abs().max() <= 1e-3
    assert expected.std() > 0.01, "or else any logits would do"
    assert torch.equal(got.topk(5).indices, expected.topk(5).indices)


def test_a_run_becomes_a_graph_that_answers_the_same(tmp_path: Path) -> None:
    config = replace(CONFIG, local="double", depth=2, global_layers=(0, 1), size=32)
    model = published(tmp_path / "a.pyth", config)
    step = tmp_path / "runs" / "mine" / "step_000000001"
    step.mkdir(parents=True)
    convert(tmp_path / "a.pyth", "safetensors", out=step / "model.safetensors")
    (step / "state.json").write_text("{}")
    done = k710("convert", "runs/mine", "--to", "onnx", "--frames", 4, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for num in (1, 3):
        check(tmp_path / "runs" / "mine.onnx", model, clips(4, 32, num=num))
    graph = onnx.load(tmp_path / "runs" / "mine.onnx")
    said = {prop.key: json.loads(prop.value) for prop in graph.metadata_props}
    assert said["classes"] == list(class_names())
    assert (said["k710"]["family"], said["mean"], said["std"]) == ("opengvlab", 0.45, 0.225)
    assert str(Path(onnx_graph.__file__).parent).encode() not in graph.SerializeToString()


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"temporal_downsample": True, "local": "single"},
        {"fusion": "parallel"},
        {"fusion": "hierarchical_kv"},
        {"fusion": "hierarchical_q"},
        {"relative_positions": True, "layer_scale": True, "activation": "gelu"},
        {"frozen": True, "norm_before": False},
    ],
)
def test_each_variant_too(tmp_path: Path, change: dict[str, Any]) -> None:
    model = drawn(replace(TINY, **change)).eval()
    write_onnx(model, tmp_path / "a.onnx", frames=4)
    check(tmp_path / "a.onnx", model, clips(4, num=3))


@pytest.mark.slow
def test_a_graph_that_answers_otherwise_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_graph, "TOLERANCE", -1.0)
    with pytest.raises(WeightsError, match="from PyTorch's, and may be"):
        write_onnx(drawn(TINY), tmp_path / "a.onnx", frames=1)
    assert list(tmp_path.iterdir()) == []


def test_what_is_lacking_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsError, match=r"should end with \.onnx"):
        write_onnx(drawn(TINY), tmp_path / "a.pth", frames=4)
    monkeypatch.setattr(onnx_graph, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'k710\[train,onnx\]'"):
        write_onnx(drawn(TINY), tmp_path / "a.onnx", frames=1)
