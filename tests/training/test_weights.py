"""Weights in and out: both families, every refusal, and heads that never scramble a class."""

import json
import pickle
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from test_model import TEMPORAL, TINY, clips, drawn
from torch.nn.functional import linear

from k710.errors import K710Error, LabelError, WeightsError
from k710.labels import class_names, head_map, k710_order, labels_sha256
from uniformerv2.head import convert, remap_head
from uniformerv2.model import Config, UniFormerV2
from uniformerv2.names import head_names
from uniformerv2.weights import load_model, read, renamed

# Heads of 64 channels, as those whose config no file tells.
CONFIG = replace(TINY, num_classes=710, width=128, heads=2, depth=3, global_layers=(1, 2))


def published(path: Path, config: Config = CONFIG, family: Any = "opengvlab") -> UniFormerV2:
    """Write a checkpoint as `family` publishes them, without any record of ours."""
    model = drawn(config).eval()
    tensors = renamed(model.state_dict(), config, family)
    wrapper = {"opengvlab": "model_state", "mmaction2": "state_dict"}[family]
    torch.save({wrapper: tensors, "epoch": 3, "optimizer_state": {"state": {}}}, path)
    return model


@pytest.mark.parametrize("family", ["opengvlab", "mmaction2"])
@pytest.mark.parametrize("change", [{}, {"local": "double", "temporal_downsample": True}])
def test_a_checkpoint_of_each_family_is_the_model(
    tmp_path: Path, family: str, change: dict[str, Any]
) -> None:
    config = replace(CONFIG, **change)
    model = published(tmp_path / "a.pth", config, family)
    found = read(tmp_path / "a.pth")
    assert torch.equal(load_model(found)(clips()), model(clips()))
    assert found.order is not None and not found.is_recorded
    assert found.order.family == ("alphabetical" if family == "mmaction2" else "opengvlab")


def test_prefixes_and_bare_dicts_are_read(tmp_path: Path) -> None:
    model = published(tmp_path / "a.pth")
    tensors = torch.load(tmp_path / "a.pth", weights_only=True)["model_state"]
    torch.save({f"module._orig_mod.{k}": t for k, t in tensors.items()}, tmp_path / "b.pyth")
    assert torch.equal(load_model(read(tmp_path / "b.pyth"))(clips()), model(clips()))


def test_round_trips_are_exact(tmp_path: Path) -> None:
    published(tmp_path / "a.pyth")
    way = tmp_path / "a.pyth"
    for to in ("safetensors", "mmaction2", "safetensors", "opengvlab"):
        way = convert(way, to, out=tmp_path / f"{way.stem}-{to}{_suffix(to)}").path
    before, after = read(tmp_path / "a.pyth"), read(way)
    assert before.tensors.keys() == after.tensors.keys()
    assert all(torch.equal(t, after.tensors[k]) for k, t in before.tensors.items())


def _suffix(to: str) -> str:
    return ".safetensors" if to == "safetensors" else ".pth"


def test_crossing_families_permutes_the_classes(tmp_path: Path) -> None:
    model = published(tmp_path / "a.pyth")
    done = convert(tmp_path / "a.pyth", "mmaction2")
    crossed = load_model(read(done.path))
    ours, theirs = model(clips()), crossed(clips())
    for row, position in [(row, k710_order("alphabetical").index(row)) for row in range(710)]:
        assert torch.equal(ours[:, row], theirs[:, position])


def test_something_something_is_turned_to_rgb_and_back(tmp_path: Path) -> None:
    config = replace(CONFIG, num_classes=174, local="double", temporal_downsample=True)
    published(tmp_path / "a.pyth", config)
    stored = read(tmp_path / "a.pyth")
    conv = stored.tensors["backbone.conv1.weight"]
    assert torch.equal(load_model(stored).patch_embedding.weight, conv.flip(1))
    back = convert(convert(tmp_path / "a.pyth", "safetensors").path, "opengvlab")
    assert torch.equal(read(back.path).tensors["backbone.conv1.weight"], conv)
    other = convert(tmp_path / "a.pyth", "mmaction2", out=tmp_path / "m.pth")
    assert torch.equal(read(other.path).tensors["backbone.conv1.weight"], conv.flip(1))
    assert other.target is None


# --- heads


@given(
    seed=st.integers(0, 2**32),
    target=st.sampled_from(["k400", "k600", "k700"]),
    source=st.sampled_from(["opengvlab", "mmaction2"]),
    family=st.sampled_from(["opengvlab", "alphabetical", None]),
)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_remapped_head_scores_the_same_classes_the_same(
    tmp_path: Path, seed: int, target: Any, source: Any, family: Any
) -> None:
    path = tmp_path / f"{source}.pth"
    if not path.exists():
        published(path, family=source)
    done = remap_head(path, target, family=family)
    before, after = read(path).tensors, read(done.path).tensors
    weight, bias = head_names(source)
    features = torch.randn(3, CONFIG.width, generator=torch.Generator().manual_seed(seed))
    wide = linear(features, before[weight], before[bias])
    narrow = linear(features, after[weight], after[bias])
    own: Any = "opengvlab" if source == "opengvlab" else "alphabetical"
    spelled = dict(zip((class_names()[row] for row in k710_order(own)), wide.T, strict=True))
    for position, row in enumerate(head_map(target, family or own)):
        assert torch.allclose(
            narrow[:, position], spelled[class_names()[row]], rtol=1e-5, atol=1e-5
        )
    assert all(torch.equal(t, after[k]) for k, t in before.items() if k not in (weight, bias))


def test_the_record_travels(tmp_path: Path) -> None:
    published(tmp_path / "a.pyth")
    done = remap_head(tmp_path / "a.pyth", "k400")
    assert done.path == tmp_path / "a_k400.pyth"
    plain = torch.load(done.path, weights_only=True)
    assert plain["k710"] == {
        "dataset": "k400",
        "family": "opengvlab",
        "labels_sha256": labels_sha256(),
    }
    assert done.names[:2] == [class_names()[0], class_names()[1]]
    kept = remap_head(tmp_path / "a.pyth", "k600", out=tmp_path / "b.safetensors")
    with safe_open(kept.path, "pt") as file:
        assert json.loads(file.metadata()["k710"])["dataset"] == "k600"
    found = read(kept.path)
    assert found.is_recorded and found.order == kept.target


def test_an_order_is_never_mixed_up(tmp_path: Path) -> None:
    published(tmp_path / "a.pyth")
    with pytest.raises(WeightsError, match="has a head of 400 rows: only one of 710"):
        remap_head(remap_head(tmp_path / "a.pyth", "k400").path, "k600")
    recorded = convert(tmp_path / "a.pyth", "safetensors").path
    with pytest.raises(LabelError, match="records that its rows are in opengvlab order"):
        remap_head(recorded, "k400", source_family="alphabetical")
    told = remap_head(tmp_path / "a.pyth", "k400", source_family="alphabetical")
    assert told.source.family == "alphabetical"
    plain = torch.load(remap_head(tmp_path / "a.pyth", "k400").path, weights_only=True)
    for change, words in (
        ({"family": "alphabet"}, "says that its classes are"),
        ({"labels_sha256": "0" * 64}, "other label tables"),
        ({"dataset": "k600"}, "says k600, and its head has 400 rows"),
    ):
        torch.save({**plain, "k710": {**plain["k710"], **change}}, tmp_path / "c.pyth")
        with pytest.raises(LabelError, match=words):
            read(tmp_path / "c.pyth")


# --- refusals


@dataclass
class Evil:
    """What writes a file when it is unpickled."""

    path: Path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_a_pickle_with_code_is_refused(tmp_path: Path) -> None:
    published(tmp_path / "a.pth")
    loaded = torch.load(tmp_path / "a.pth", weights_only=True)
    torch.save({**loaded, "meta": Evil(tmp_path / "was here")}, tmp_path / "b.pth")
    with pytest.raises(WeightsError, match="more than tensors: it asks for "):
        read(tmp_path / "b.pth")
    (tmp_path / "c.pth").write_bytes(pickle.dumps(Evil(tmp_path / "was here")))
    with pytest.raises(WeightsError):
        read(tmp_path / "c.pth")
    assert not (tmp_path / "was here").exists()
    pickle.loads((tmp_path / "c.pth").read_bytes())
    assert (tmp_path / "was here").exists(), "or else this would prove nothing"


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_a_program_is_refused(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), tmp_path / "a.pt")
    with pytest.raises(WeightsError, match="TorchScript archive, which is a program"):
        read(tmp_path / "a.pt")


@pytest.mark.parametrize("suffix", [".pyth", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_torn_file_is_said(tmp_path: Path, suffix: str, share: float) -> None:
    published(tmp_path / "a.pyth")
    path = tmp_path / f"b{suffix}"
    whole = convert(
        tmp_path / "a.pyth", "safetensors" if suffix != ".pyth" else "opengvlab", out=path
    )
    data = whole.path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(WeightsError, match=r"is no (whole|PyTorch file)|holds no"):
        read(path)


def test_what_does_not_fit_is_told_both_ways(tmp_path: Path) -> None:
    published(tmp_path / "a.pyth")
    loaded = torch.load(tmp_path / "a.pyth", weights_only=True)
    tensors = loaded["model_state"]
    lost = tensors.pop("backbone.transformer.dec.1.ln_3.bias")
    tensors["backbone.transformer.extra"] = lost
    tensors["backbone.ln_pre.bias"] = lost[:5].clone()
    torch.save(tensors, tmp_path / "b.pyth")
    with pytest.raises(WeightsError) as error:
        read(tmp_path / "b.pyth")
    lines = [line.strip() for line in str(error.value).splitlines()[1:]]
    assert lines[1] == "'backbone.transformer.dec.1.ln_3.bias' (128,)"
    assert lines[3] == "'backbone.transformer.extra' (128,)"
    assert lines[5] == "backbone.ln_pre.bias: (5,), should be (128,)"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: {"a.b": torch.zeros(1)}, "neither OpenGVLab, MMAction2 nor k710"),
        (lambda t: {}, "holds no tensors"),
        (lambda t: {"state_dict": 3}, "'?state_dict'? is a int, and no tensor"),
        (lambda t: {k: v for k, v in t.items() if ".proj.2." not in k}, "has no classifier"),
        (lambda t: [t], "holds a list"),
    ],
)
def test_what_is_no_checkpoint_is_said(tmp_path: Path, change: Any, words: str) -> None:
    published(tmp_path / "a.pyth")
    tensors = torch.load(tmp_path / "a.pyth", weights_only=True)["model_state"]
    torch.save(change(tensors), tmp_path / "b.pyth")
    with pytest.raises(WeightsError, match=words):
        read(tmp_path / "b.pyth")
    with pytest.raises(WeightsError, match="can't be read: No such file"):
        read(tmp_path / "none.pyth")


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    published(tmp_path / "a.pyth")
    with pytest.raises(K710Error):
        remap_head(tmp_path / "a.pyth", "k400", out=tmp_path / "none" / "b.pyth")
    with pytest.raises(WeightsError, match="should end with"):
        remap_head(tmp_path / "a.pyth", "k400", out=tmp_path / "b.zip")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pyth"]


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    published(tmp_path / "a.pyth")
    for suffix in (".pyth", ".safetensors"):
        one, two = (
            remap_head(tmp_path / "a.pyth", "k400", out=tmp_path / f"{name}{suffix}").path
            for name in ("one", "two")
        )
        assert one.read_bytes() == two.read_bytes()


def test_a_run_is_read_by_its_newest_whole_step(tmp_path: Path) -> None:
    published(tmp_path / "a.pyth")
    run = tmp_path / "run"
    for number, is_whole in ((100, True), (200, True), (300, False)):
        step = run / f"step_{number:09d}"
        step.mkdir(parents=True)
        convert(tmp_path / "a.pyth", "safetensors", out=step / "model.safetensors")
        if is_whole:
            (step / "state.json").write_text("{}")
    with pytest.raises(WeightsError, match="is no run"):
        read(tmp_path)
    assert read(run).config.num_classes == 710
    done = remap_head(run, "k400")
    assert done.path == tmp_path / "run_k400.safetensors"
    assert load_model(read(done.path)).config == replace(read(run).config, num_classes=400)
    with pytest.raises(WeightsError, match=r"written as \.safetensors"):
        remap_head(run, "k400", out=tmp_path / "x.pth")


def test_what_a_family_does_not_have_is_refused(tmp_path: Path) -> None:
    model = drawn(replace(TEMPORAL, activation="gelu", fusion="parallel"))
    with pytest.raises(WeightsError, match="fusion = parallel, activation = gelu"):
        renamed(model.state_dict(), model.config, "opengvlab")
    with pytest.raises(WeightsError, match="frozen = True"):
        renamed({}, replace(CONFIG, frozen=True), "mmaction2")
