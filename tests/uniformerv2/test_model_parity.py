"""Equal to the reference to rounding: logits, loss and every gradient, by its own fixtures."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from support.list_files import shared
from uniformerv2.model import UniFormerV2
from uniformerv2.weights.load import from_reference
from uniformerv2.weights.names import names_in

NAMES = (
    "scene",
    "scene_frozen",
    "scene_small",
    "temporal",
    "temporal_small",
    "temporal_single_local",
)


def fixture(name: str) -> tuple[dict[str, Any], dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The JSON, the weights, and input, logits, loss."""
    folder = shared("reference/uniformerv2")
    said = json.loads((folder / f"{name}.json").read_text())
    tensors = load_file(folder / f"{name}.safetensors")
    start = "weights."
    weights = {k.removeprefix(start): t for k, t in tensors.items() if k.startswith(start)}
    return said, weights, {k: t for k, t in tensors.items() if not k.startswith(start)}


def check(name: str, compiled: Any) -> None:
    said, weights, rest = fixture(name)
    model = from_reference(said["config"], weights).eval()
    logits = compiled(model)(rest["input"])
    expected = rest["logits"]
    assert (logits - expected).norm() <= 1e-5 * expected.norm()
    loss = F.cross_entropy(logits, torch.arange(len(logits)))
    assert abs(loss.item() - rest["loss"].item()) <= 1e-5 * abs(rest["loss"].item())
    loss.backward()
    names = names_of(model)
    norms = {names[n]: p.grad.norm().item() for n, p in model.named_parameters()}
    assert norms.keys() == said["grad_norms"].keys()
    for key, norm in said["grad_norms"].items():
        assert norms[key] == pytest.approx(norm, rel=1e-4), key


def names_of(model: UniFormerV2) -> dict[str, str]:
    return names_in(model.config, "opengvlab")


@pytest.mark.parametrize("name", NAMES)
def test_eager(name: str) -> None:
    check(name, lambda model: model)


@pytest.mark.parametrize(
    "name",
    # What the small ones catch, a wrong epsilon, is no matter of tracing.
    [pytest.param(n, marks=pytest.mark.slow) if "small" in n else n for n in NAMES],
)
def test_traced_as_one_graph(name: str) -> None:
    torch._dynamo.reset()
    check(name, lambda model: torch.compile(model, backend="aot_eager", fullgraph=True))


# Inductor's own graph and loops, in one file for g++, neither vectorised nor optimised: half the
# time of what `test_compiled` compiles.
QUICK = {
    "cpp_wrapper": True,
    "cpp.simdlen": 1,
    "aot_inductor.debug_compile": True,
    "compile_threads": 1,
}


@pytest.fixture
def no_ytdlp(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inductor's pickling looks into each module there is; those of yt-dlp import others then."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "yt_dlp"]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.slow  # a minute of compiling
@pytest.mark.usefixtures("no_ytdlp")
@pytest.mark.parametrize("name", ["scene", "temporal"])
def test_compiled_quickly(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch._dynamo.reset()
    check(name, lambda model: torch.compile(model, fullgraph=True, options=QUICK))


@pytest.mark.slow
@pytest.mark.usefixtures("no_ytdlp")
@pytest.mark.parametrize("name", NAMES)
def test_compiled(name: str) -> None:
    torch._dynamo.reset()
    check(name, lambda model: torch.compile(model, fullgraph=True))
