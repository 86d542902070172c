"""Files of PyTorch give the tensors that were saved, and a hostile one gives nothing."""

import contextlib
import io
import itertools
import pickle
import re
import struct
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st

from k710.errors import WeightsError
from support.hostile_archives import Evil, write_two_directories
from support.mmengine_runs import write_run_checkpoint
from support.tiny_models import CONFIG, clips, drawn, published
from uniformerv2.weights.files import read_saved, read_tensors
from uniformerv2.weights.load import load_model, read_checkpoint, rename_tensors

OLD = {"_use_new_zipfile_serialization": False}
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8)


@given(
    shapes=st.lists(st.lists(st.integers(0, 4), max_size=3), min_size=1, max_size=4),
    dtype=st.sampled_from(DTYPES),
    is_old=st.booleans(),
    protocol=st.integers(2, 5),
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_tensors_are_those_that_were_saved(
    tmp_path: Path, shapes: list[list[int]], dtype: torch.dtype, is_old: bool, protocol: int
) -> None:
    flat = torch.arange(500).to(dtype)
    # Views of one storage, from other places of it, some of them turned.
    tensors = {str(n): flat[n * 64 :][: _num(s)].view(s) for n, s in enumerate(shapes)}
    tensors |= {f"{name}_turned": tensor.mT for name, tensor in tensors.items() if tensor.ndim > 1}
    value: dict[str, Any] = {
        "model": OrderedDict(tensors),
        "step": 7,
        "list": [torch.nn.Parameter(torch.ones(2))],
        "bool": torch.tensor([True, False]),
    }
    path = tmp_path / "a.pth"
    path.unlink(missing_ok=True)  # what was read of it is mapped
    torch.save(value, path, pickle_protocol=protocol, **(OLD if is_old else {}))
    found = read_saved(path)
    assert found["step"] == 7 and torch.equal(found["list"][0], torch.ones(2))
    assert found["model"].keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found["model"][name].dtype == dtype and torch.equal(found["model"][name], tensor)
    assert torch.equal(found["bool"], value["bool"])


def _num(shape: list[int]) -> int:
    return torch.Size(shape).numel()


def test_what_is_changed_in_memory_stays_there(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(3)}, tmp_path / "a.pth")
    read_saved(tmp_path / "a.pth")["a"].zero_()
    assert torch.equal(read_saved(tmp_path / "a.pth")["a"], torch.ones(3))


# --- objects of others


@pytest.mark.parametrize("saving", [{}, OLD, {"pickle_protocol": 4}])
def test_a_checkpoint_of_a_run_of_mmengine_is_read_without_it(
    tmp_path: Path, saving: dict[str, Any]
) -> None:
    model = drawn(CONFIG).eval()
    path = tmp_path / "epoch_3.pth"
    write_run_checkpoint(path, rename_tensors(model.state_dict(), CONFIG, "mmaction2"), **saving)
    with pytest.raises(ModuleNotFoundError, match="mmengine"):
        torch.load(path, weights_only=False)
    assert torch.equal(load_model(path)(clips()), model(clips()))
    assert "mmengine" not in sys.modules


def test_code_is_neither_run_nor_in_the_way(tmp_path: Path) -> None:
    published(tmp_path / "a.pth")
    loaded = torch.load(tmp_path / "a.pth", weights_only=True)
    saved = {**loaded, "meta": Evil(tmp_path / "was here")}
    for number, saving in enumerate(({}, OLD)):
        path = tmp_path / f"{number}.pth"
        torch.save(saved, path, **saving)
        assert read_checkpoint(path).config == read_checkpoint(tmp_path / "a.pth").config
        torch.save({"model": {"a": Evil(tmp_path / "was here")}}, path, **saving)
        with pytest.raises(WeightsError, match=r"'a' is a '\w+\.getattr', and no tensor"):
            read_checkpoint(path)
    path.write_bytes(pickle.dumps(Evil(tmp_path / "was here")))
    with pytest.raises(WeightsError, match="is no PyTorch file of tensors: it begins with"):
        read_checkpoint(path)
    assert not (tmp_path / "was here").exists()


def test_a_module_instead_of_its_tensors_is_said(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "a.pth")
    with pytest.raises(
        WeightsError, match=r"holds a 'torch.nn.modules.linear.Linear', and no dict"
    ):
        read_checkpoint(tmp_path / "a.pth")


# --- hostile archives


def saved(value: Any) -> list[tuple[str, bytes]]:
    """The members of what torch.save writes."""
    file = io.BytesIO()
    torch.save(value, file)
    with zipfile.ZipFile(file) as archive:
        return [(member.filename, archive.read(member)) for member in archive.infolist()]


def test_an_archive_with_two_directories_is_neither_of_them(tmp_path: Path) -> None:
    one, other = saved({"a": torch.ones(3)}), saved({"a": torch.zeros(3)})
    write_two_directories(tmp_path / "a.pt", last=one, named=other)
    with zipfile.ZipFile(tmp_path / "a.pt") as archive:
        assert archive.read("archive/data/0") == struct.pack("<3f", 1, 1, 1)
    assert torch.equal(torch.load(tmp_path / "a.pt", weights_only=True)["a"], torch.zeros(3))
    with pytest.raises(WeightsError, match="directory is not where its end record says"):
        read_tensors(tmp_path / "a.pt")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda name, data: [(name, data, zipfile.ZIP_DEFLATED)], "packed or encrypted"),
        (lambda name, data: [(name, data, 0), (name, data, 0)], r"it has '.*' twice"),
        (lambda name, data: [(name, data, 0), (name.upper(), data, 0)], r"it has '.*' twice"),
        (lambda name, data: [], r"data\.pkl|data/0"),
        (lambda name, data: [(f"b/{name}", data, 0)], r"no data\.pkl|data/0"),
        (lambda name, data: [(name, data[:-1], 0)], "its pickle|STOP|more numbers than"),
        (
            lambda name, data: [(name, data, 0), ("b/data.pkl", data, 0)],
            r"no data\.pkl, or several",
        ),
    ],
)
@pytest.mark.parametrize("member", ["archive/data.pkl", "archive/data/0"])
def test_archives_as_pytorch_writes_none_are_refused(
    tmp_path: Path, change: Any, words: str, member: str
) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        for name, data in saved({"a": torch.ones(3)}):
            for changed in change(name, data) if name == member else [(name, data, 0)]:
                archive.writestr(changed[0], changed[1], compress_type=changed[2])
    with pytest.raises(WeightsError, match=f"is no whole PyTorch file: .*({words})"):
        read_tensors(tmp_path / "a.pt")


def test_a_small_file_can_not_ask_for_much(tmp_path: Path) -> None:
    """Of 6 GB in a member of some kB; and of tensors that show 4 bytes again and again."""
    with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in saved({"a": torch.ones(3)}):
            archive.writestr(name, bytes(1 << 20) if name.endswith("/0") else data)
    with pytest.raises(WeightsError, match="packed or encrypted"):
        read_tensors(tmp_path / "a.pt")
    torch.save({"a": torch.ones(1).expand(1 << 30, 1 << 10)}, tmp_path / "b.pt")
    with pytest.raises(WeightsError, match="more numbers than it has room for"):
        read_tensors(tmp_path / "b.pt")


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_sizes_that_lie_are_said(tmp_path: Path, name: str) -> None:
    """Each number of a file's directory or header, as large as it can be."""
    path = tmp_path / name
    if name == "a.pt":
        torch.save({"a": torch.ones(3)}, path)
    else:
        path.write_bytes(struct.pack("<Q", 64) + b"{}".ljust(64))
    data = path.read_bytes()
    places = itertools.chain(range(60), range(max(60, len(data) - 900), len(data) - 3, 2))
    for place in places:
        for width in (2, 4, 8):
            (tmp_path / f"b{path.suffix}").write_bytes(
                data[:place] + b"\xff" * width + data[place + width :]
            )
            with contextlib.suppress(WeightsError):  # times and such say nothing
                read_tensors(tmp_path / f"b{path.suffix}")
    if name == "a.safetensors":
        path.write_bytes(struct.pack("<Q", 90 << 20) + b" " * 100)
        with pytest.raises(WeightsError, match="its header would have 94,371,840 bytes"):
            read_tensors(path)


def test_nothing_else_opens_such_files() -> None:
    """What runs what it reads, or reads an archive in a way of its own, is in no module."""
    readers = (
        r"torch\.load\(|jit\.load\(|\bpickle\.(load|Unpickler)|\bimport (pickle|zipfile|dill)\b"
    )
    for package in ("k710", "uniformerv2", "cli"):
        for path in (Path(__file__).parents[3] / package).rglob("*.py"):
            assert not re.search(readers, path.read_text(encoding="utf-8")), path
