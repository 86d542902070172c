"""Weights in and out: both families, every refusal, and heads that never scramble a class."""

import json
import os
import resource
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn.functional import linear

from k710.errors import LabelError, StageError, WeightsError
from k710.labels.orders import class_names, head_map, k710_order, labels_sha256
from support.tiny_models import CONFIG, TEMPORAL, clips, drawn, published
from uniformerv2.training.checkpoint import remove_old
from uniformerv2.weights.convert import convert, remap_head
from uniformerv2.weights.files import read_tensors, step_of_run, steps_of_run, write_tensors
from uniformerv2.weights.load import load_model, read_checkpoint, rename_tensors
from uniformerv2.weights.names import head_names


@pytest.mark.parametrize("family", ["opengvlab", "mmaction2"])
@pytest.mark.parametrize("change", [{}, {"local": "double", "temporal_downsample": True}])
def test_a_checkpoint_of_each_family_is_the_model(
    tmp_path: Path, family: str, change: dict[str, Any]
) -> None:
    config = replace(CONFIG, **change)
    model = published(tmp_path / "a.pth", config, family)
    found = read_checkpoint(tmp_path / "a.pth")
    assert torch.equal(load_model(found)(clips()), model(clips()))
    assert found.order is not None and not found.is_recorded
    assert found.order.family == ("alphabetical" if family == "mmaction2" else "opengvlab")


def test_prefixes_and_bare_dicts_are_read(tmp_path: Path) -> None:
    model = published(tmp_path / "a.pth")
    tensors = torch.load(tmp_path / "a.pth", weights_only=True)["model_state"]
    torch.save({f"module._orig_mod.{k}": t for k, t in tensors.items()}, tmp_path / "b.pyth")
    for path in (tmp_path / "b.pyth", str(tmp_path / "b.pyth")):
        read = load_model(path)
        assert not read.training and torch.equal(read(clips()), model(clips()))


def test_round_trips_are_exact(tmp_path: Path) -> None:
    published(tmp_path / "a.pyth")
    way = tmp_path / "a.pyth"
    for to in ("safetensors", "mmaction2", "safetensors", "opengvlab"):
        way = convert(way, to, out=tmp_path / f"{way.stem}-{to}{_suffix(to)}").path
    before, after = read_checkpoint(tmp_path / "a.pyth"), read_checkpoint(way)
    assert before.tensors.keys() == after.tensors.keys()
    assert all(torch.equal(t, after.tensors[k]) for k, t in before.tensors.items())


def _suffix(to: str) -> str:
    return ".safetensors" if to == "safetensors" else ".pth"


def test_crossing_families_permutes_the_classes(tmp_path: Path) -> None:
    model = published(tmp_path / "a.pyth")
    done = convert(tmp_path / "a.pyth", "mmaction2")
    crossed = load_model(read_checkpoint(done.path))
    ours, theirs = model(clips()), crossed(clips())
    for row, position in [(row, k710_order("alphabetical").index(row)) for row in range(710)]:
        assert torch.equal(ours[:, row], theirs[:, position])


def test_something_something_is_turned_to_rgb_and_back(tmp_path: Path) -> None:
    config = replace(CONFIG, num_classes=174, local="double", temporal_downsample=True)
    published(tmp_path / "a.pyth", config)
    stored = read_checkpoint(tmp_path / "a.pyth")
    conv = stored.tensors["backbone.conv1.weight"]
    assert torch.equal(load_model(stored).patch_embedding.weight, conv.flip(1))
    back = convert(convert(tmp_path / "a.pyth", "safetensors").path, "opengvlab")
    assert torch.equal(read_checkpoint(back.path).tensors["backbone.conv1.weight"], conv)
    other = convert(tmp_path / "a.pyth", "mmaction2", out=tmp_path / "m.pth")
    assert torch.equal(read_checkpoint(other.path).tensors["backbone.conv1.weight"], conv.flip(1))
    assert other.target is None


# --- heads


@given(
    seed=st.integers(0, 2**32),
    target=st.sampled_from(["k400", "k600", "k700"]),
    source=st.sampled_from(["opengvlab", "mmaction2"]),
    family=st.sampled_from(["opengvlab", "alphabetical", None]),
)
@settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_a_remapped_head_scores_the_same_classes_the_same(
    tmp_path: Path, seed: int, target: Any, source: Any, family: Any
) -> None:
    path = tmp_path / f"{source}.pth"
    if not path.exists():
        published(path, family=source)
    done = remap_head(path, target, family=family)
    before, after = read_checkpoint(path).tensors, read_checkpoint(done.path).tensors
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
    found = read_checkpoint(kept.path)
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
            read_checkpoint(tmp_path / "c.pyth")


def test_a_record_is_never_taken_for_none(tmp_path: Path) -> None:
    published(tmp_path / "a.pyth")
    tensors = torch.load(tmp_path / "a.pyth", weights_only=True)["model_state"]
    half = {"family": "alphabetical", "labels_sha256": labels_sha256()}
    torch.save({"model_state": tensors, "k710": half}, tmp_path / "b.pyth")
    found = read_checkpoint(tmp_path / "b.pyth")
    assert found.is_recorded and found.order is not None
    assert (found.order.dataset, found.order.family) == ("k710", "alphabetical")
    for record in ("alphabetical", ["x"], 7, None):
        torch.save({"model_state": tensors, "k710": record}, tmp_path / "c.pyth")
        with pytest.raises(LabelError, match="no record of k710's"):
            read_checkpoint(tmp_path / "c.pyth")
        torch.save({**tensors, "k710": record}, tmp_path / "c.pyth")
        with pytest.raises(LabelError, match="no record of k710's"):
            read_checkpoint(tmp_path / "c.pyth")
        save_file(tensors, tmp_path / "c.safetensors", {"k710": json.dumps(record)})
        with pytest.raises(LabelError, match="no record of k710's"):
            read_checkpoint(tmp_path / "c.safetensors")
    for record in ({}, {"family": ("a", "b")}, {"dataset": [1]}, {("a", "b"): 1}):
        torch.save({"model_state": tensors, "k710": record}, tmp_path / "c.pyth")
        with pytest.raises(LabelError, match="says that its classes are"):
            read_checkpoint(tmp_path / "c.pyth")


def test_the_output_lies_beside_the_name_that_was_given(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    published(tmp_path / "blobs" / "abc.pth")
    (tmp_path / "k710.pyth").symlink_to(tmp_path / "blobs" / "abc.pth")
    assert remap_head(tmp_path / "k710.pyth", "k400").path == tmp_path / "k710_k400.pyth"
    (tmp_path / "blobs" / "abc.pth").rename(tmp_path / "k710.bin")
    assert remap_head(tmp_path / "k710.bin", "k400").path == tmp_path / "k710_k400.pth"


def test_normalisation_is_compared_and_kept(tmp_path: Path) -> None:
    published(tmp_path / "a.pth", family="mmaction2")
    tensors = torch.load(tmp_path / "a.pth", weights_only=True)["state_dict"]
    mean, std = torch.full((3, 1, 1), 114.75), torch.full((3, 1, 1), 57.375)
    buffers = {"data_preprocessor.mean": mean, "data_preprocessor.std": std}
    torch.save({"state_dict": tensors | buffers}, tmp_path / "b.pth")
    done = remap_head(tmp_path / "b.pth", "k400")
    after = torch.load(done.path, weights_only=True)["state_dict"]
    assert after.keys() == (tensors | buffers).keys()
    assert all(torch.equal(after[k], t) for k, t in buffers.items())
    torch.save(
        {"state_dict": tensors | buffers | {"data_preprocessor.mean": std}}, tmp_path / "b.pth"
    )
    with pytest.raises(WeightsError, match=r"its pictures are normalised in another way"):
        read_checkpoint(tmp_path / "b.pth")


# --- refusals


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_a_program_is_refused(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), tmp_path / "a.pt")
    with pytest.raises(WeightsError, match="TorchScript archive, which is a program"):
        read_checkpoint(tmp_path / "a.pt")


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
        read_checkpoint(path)


def test_a_torn_file_of_the_old_format_is_said(tmp_path: Path) -> None:
    small = {"a.weight": torch.ones(2), "b": torch.zeros(3, 3)}
    torch.save(small, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    data = (tmp_path / "a.pth").read_bytes()
    for end in range(0, len(data), 3):
        (tmp_path / "b.pth").write_bytes(data[:end])
        with pytest.raises(WeightsError):
            read_checkpoint(tmp_path / "b.pth")
    (tmp_path / "b.pth").write_bytes(b"<html>not found</html>")
    with pytest.raises(WeightsError, match=r"no PyTorch file of tensors: it begins with b'<html>"):
        read_checkpoint(tmp_path / "b.pth")


def test_any_flipped_byte_is_read_or_said(tmp_path: Path) -> None:
    torch.save({"model_state": {"a": torch.ones(2)}}, tmp_path / "a.pth")
    data = (tmp_path / "a.pth").read_bytes()
    for place in range(0, len(data), 7):
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        (tmp_path / "b.pth").write_bytes(flipped)
        with pytest.raises(WeightsError):  # for at best it is no UniFormerV2
            read_checkpoint(tmp_path / "b.pth")


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.ones(128, 3, 1, 16, 16, dtype=torch.complex64), "a tensor of torch.complex64"),
        (torch.ones(128).to_sparse(), "_rebuild_sparse_tensor', and no tensor"),
        (torch.ones(128, device="meta"), "_rebuild_meta_tensor_no_storage', and no tensor"),
        (torch.tensor(1.0), "another shape"),
    ],
)
def test_tensors_of_other_kinds_are_refused(tmp_path: Path, tensor: Any, words: str) -> None:
    published(tmp_path / "a.pyth")
    tensors = torch.load(tmp_path / "a.pyth", weights_only=True)["model_state"]
    for name in ("backbone.conv1.weight", "backbone.positional_embedding"):
        torch.save({**tensors, name: tensor}, tmp_path / "b.pyth")
        with pytest.raises(WeightsError, match=words):
            read_checkpoint(tmp_path / "b.pyth")


@pytest.mark.parametrize(
    "change",
    [
        {"heads": 0},
        {"patch": 0},
        {"num_classes": -1},
        {"num_classes": "x"},
        {"width": 128.0},
        {"depth": 3.0},
        {"size": 1e300},
        {"local": "triple"},
        {"activation": "gelu_tanh"},
        {"head_dropout": 7},
        {"unknown": 1},
        {"global_layers": [0, 2]},
        {"heads": 4},
        {"norm_eps": 1e-6},
        {"global_layers": [1, [2]]},
        {"size": [[[]]]},
        {"size": 16777200, "patch": 1, "relative_positions": True},
        {"width": 1 << 20, "heads": 2},
    ],
)
def test_a_record_of_no_model_is_said(tmp_path: Path, change: dict[str, Any]) -> None:
    published(tmp_path / "a.pyth")
    path = convert(tmp_path / "a.pyth", "safetensors").path
    with safe_open(path, "pt") as file:
        record = json.loads(file.metadata()["k710"])
    save_file(load_file(path), tmp_path / "b.safetensors", {"k710": json.dumps(record)})
    assert read_checkpoint(tmp_path / "b.safetensors").config == read_checkpoint(path).config
    record["config"] |= change
    save_file(load_file(path), tmp_path / "b.safetensors", {"k710": json.dumps(record)})
    with pytest.raises(WeightsError, match="records a model that this version does not have"):
        read_checkpoint(tmp_path / "b.safetensors")


def test_a_record_of_an_older_version_has_no_hash(tmp_path: Path) -> None:
    published(tmp_path / "a.pyth")
    path = convert(tmp_path / "a.pyth", "safetensors").path
    with safe_open(path, "pt") as file:
        record = json.loads(file.metadata()["k710"])
    del record["config_sha256"]
    save_file(load_file(path), tmp_path / "b.safetensors", {"k710": json.dumps(record)})
    assert read_checkpoint(tmp_path / "b.safetensors").config == read_checkpoint(path).config
    record["config"]["global_layers"] = [2]
    save_file(load_file(path), tmp_path / "b.safetensors", {"k710": json.dumps(record)})
    with pytest.raises(WeightsError, match="not of this model"):
        read_checkpoint(tmp_path / "b.safetensors")


def test_a_model_of_mmaction2_lacks_nothing(tmp_path: Path) -> None:
    published(tmp_path / "a.pth", family="mmaction2")
    tensors = torch.load(tmp_path / "a.pth", weights_only=True)["state_dict"]
    tensors.pop("backbone.transformer.balance")
    torch.save(tensors, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"missing: 1 of \d+\n +'?backbone.transformer.balance"):
        read_checkpoint(tmp_path / "a.pth")


def test_what_does_not_fit_is_told_both_ways(tmp_path: Path) -> None:
    published(tmp_path / "a.pyth")
    loaded = torch.load(tmp_path / "a.pyth", weights_only=True)
    tensors = loaded["model_state"]
    lost = tensors.pop("backbone.transformer.dec.1.ln_3.bias")
    tensors["backbone.transformer.extra"] = lost
    tensors["backbone.ln_pre.bias"] = lost[:5].clone()
    torch.save(tensors, tmp_path / "b.pyth")
    with pytest.raises(WeightsError) as error:
        read_checkpoint(tmp_path / "b.pyth")
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
        read_checkpoint(tmp_path / "b.pyth")
    with pytest.raises(WeightsError, match="can't be read: No such file"):
        read_checkpoint(tmp_path / "none.pyth")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_full_disk_is_worded_and_leaves_the_old_file(tmp_path: Path, suffix: str) -> None:
    published(tmp_path / "a.pyth")
    out = tmp_path / f"b{suffix}"
    out.write_text("old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
        with pytest.raises(StageError, match="No room left to write in"):
            remap_head(tmp_path / "a.pyth", "k400", out=out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert out.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pyth", out.name]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_can_not_be_written_is_said(tmp_path: Path, suffix: str) -> None:
    published(tmp_path / "a.pyth")
    with pytest.raises(StageError, match="No such file or directory"):
        remap_head(tmp_path / "a.pyth", "k400", out=tmp_path / "none" / f"b{suffix}")
    with pytest.raises(WeightsError, match="should end with"):
        remap_head(tmp_path / "a.pyth", "k400", out=tmp_path / "b.zip")
    with pytest.raises(WeightsError, match=r"b.pth'? should end with \.safetensors"):
        convert(tmp_path / "a.pyth", "safetensors", out=tmp_path / "b.pth")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pyth"]


def test_any_tensors_are_written_as_safetensors_reads_them(tmp_path: Path) -> None:
    whole = torch.randn(6, 4)
    tensors = {
        "a": whole,
        "b": whole,  # the same, by another name
        "part": whole[1:3],
        "turned": whole.t(),
        "bf16": torch.randn(3, dtype=torch.bfloat16),
        "count": torch.tensor(7),
        "none": torch.zeros(0, 3, dtype=torch.uint8),
        "bool": torch.tensor([True, False, True]),
    }
    for name in ("x.safetensors", "x.pth"):
        write_tensors(tmp_path / name, tensors, record={"dataset": None}, wrapper="model_state")
        umask = os.umask(0)
        os.umask(umask)
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o666 & ~umask
        for read_back in (read_tensors(tmp_path / name)[0], load_file(tmp_path / "x.safetensors")):
            assert read_back.keys() == tensors.keys()
            assert all(torch.equal(read_back[k], t) for k, t in tensors.items())
            assert all(read_back[k].dtype == t.dtype for k, t in tensors.items())


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
        read_checkpoint(tmp_path)
    assert read_checkpoint(run).config.num_classes == 710
    done = remap_head(run, "k400")
    assert done.path == tmp_path / "run_k400.safetensors"
    assert load_model(read_checkpoint(done.path)).config == replace(
        read_checkpoint(run).config, num_classes=400
    )
    with pytest.raises(WeightsError, match=r"written as \.safetensors"):
        remap_head(run, "k400", out=tmp_path / "x.pth")


@pytest.mark.parametrize("to", ["opengvlab", "mmaction2", "safetensors"])
def test_a_run_is_converted_beside_it(tmp_path: Path, to: Any) -> None:
    published(tmp_path / "a.pyth")
    step = tmp_path / "runs" / "mine" / "step_000000001"
    step.mkdir(parents=True)
    convert(tmp_path / "a.pyth", "safetensors", out=step / "model.safetensors")
    (step / "state.json").write_text("{}")
    suffix = {"opengvlab": ".pyth", "mmaction2": ".pth", "safetensors": ".safetensors"}[to]
    for source, name in ((step.parent, f"mine_{to}"), (step, f"mine_step_000000001_{to}")):
        done = convert(source, to)
        assert done.path == tmp_path / "runs" / f"{name}{suffix}"
        assert read_checkpoint(done.path).format == ("k710" if to == "safetensors" else to)
    assert remap_head(step, "k400").path.parent == tmp_path / "runs"
    assert [path.name for path in step.parent.iterdir()] == [step.name]


def test_what_only_is_called_like_a_step_is_none(tmp_path: Path) -> None:
    published(tmp_path / "a.pyth")
    for name in ("step_000000001", "step_000000002_copy", "step_2"):
        (tmp_path / name).mkdir()
        convert(tmp_path / "a.pyth", "safetensors", out=tmp_path / name / "model.safetensors")
        (tmp_path / name / "state.json").write_text("{}")
    (tmp_path / "step_000000003").write_text("a file")
    assert steps_of_run(tmp_path) == [tmp_path / "step_000000001"]
    assert step_of_run(tmp_path) == tmp_path / "step_000000001"
    remove_old(tmp_path, keep=1)
    assert len(list(tmp_path.glob("step_*"))) == 4


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_weights_that_are_no_numbers_are_said(tmp_path: Path, number: float) -> None:
    published(tmp_path / "a.pyth")
    saved = torch.load(tmp_path / "a.pyth", weights_only=True)
    saved["model_state"]["backbone.transformer.balance"][3] = number
    torch.save(saved, tmp_path / "b.pyth")
    b = tmp_path / "b.pyth"
    uses = (lambda: load_model(b), lambda: convert(b, "mmaction2"), lambda: remap_head(b, "k400"))
    for use in uses:
        with pytest.raises(WeightsError, match=r"balance' holds numbers that are none"):
            use()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pyth", "b.pyth"]


def test_what_a_family_does_not_have_is_refused(tmp_path: Path) -> None:
    model = drawn(replace(TEMPORAL, activation="gelu", fusion="parallel"))
    with pytest.raises(WeightsError, match=r"can't say .*fusion = parallel, activation = gelu"):
        rename_tensors(model.state_dict(), model.config, "opengvlab")
    for change in ({"heads": 4}, {"global_layers": (0, 2)}, {"local_width": 7}):
        with pytest.raises(WeightsError, match=f"{next(iter(change))} = "):
            rename_tensors({}, replace(CONFIG, **change), "opengvlab")
    with pytest.raises(WeightsError, match="frozen = True"):
        rename_tensors({}, replace(CONFIG, frozen=True), "mmaction2")
