"""Files of PyTorch: their tensors, mapped from the disk, and nothing of them run.

    archive    torch.save since 1.6, and torch.jit.save: a zip file of a pickle and of the tensors'
               bytes, each as they are
    legacy     torch.save before: four pickles, then the bytes

Neither torch.load nor torch.jit.load opens them: see `pickle_data` and `zip_directory`. A
TorchScript archive has its program beside the pickle, and that is never looked at.
"""

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from mmap import ACCESS_COPY, mmap
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from k710.errors import WeightsError, shown
from uniformerv2.weights.pickle_data import Global, Made, as_dict, read_pickle
from uniformerv2.weights.zip_directory import read_directory

__all__ = ["TorchFile", "open_torch_file"]

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_VERSION = 1001
_MOST_PICKLE_BYTES = 1 << 30
_MOST_MODULES = 100_000
_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
}


@dataclass(frozen=True, slots=True, eq=False)
class _Storage:
    """Numbers in a row, which tensors are views of."""

    key: str
    dtype: torch.dtype
    first: int = 0  # of a part of another storage


@dataclass(frozen=True, slots=True, eq=False)
class TorchFile:
    """A file of PyTorch: its pickle as data, and where the numbers of each storage lie."""

    path: Path
    value: object
    is_script: bool
    _data: mmap
    _spans: dict[str, tuple[int, int]]  # key of a storage: bytes of the file
    _resolved: dict[int, Any] = field(default_factory=dict)  # by id(): also of what is shared

    def resolve(self, value: object) -> Any:
        """A value of the pickle, its tensors made, and dicts, lists and tuples with them.

        What else a pickle makes stays a `Made`. ValueError for a tensor that is not in the file.
        """
        if not isinstance(value, Made | dict | list | tuple):
            return value
        if id(value) not in self._resolved:
            if isinstance(value, Made):
                self._resolved[id(value)] = self._resolve_made(value)
            elif isinstance(value, dict):
                self._resolved[id(value)] = {k: self.resolve(each) for k, each in value.items()}
            else:
                self._resolved[id(value)] = type(value)(self.resolve(each) for each in value)
        return self._resolved[id(value)]

    def _resolve_made(self, made: Made) -> object:
        what = str(made.what) if isinstance(made.what, Global) else ""
        args: Any = made.args
        if what in ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor"):
            return self._tensor(*args[:4])
        if what.startswith("torch._utils._rebuild_parameter"):
            return self.resolve(args[0])
        if what == "torch._tensor._rebuild_from_type_v2":
            return self._resolve_made(Made(args[0], args[2]))
        entries = as_dict(made)
        return made if entries is None else {k: self.resolve(each) for k, each in entries.items()}

    def _tensor(self, storage: object, offset: object, size: object, stride: object) -> Tensor:
        """A view of a storage that has no more numbers than that: else 4 bytes could be 4 TB."""
        if not isinstance(storage, _Storage):
            raise ValueError("it has a tensor of no storage")
        shape, strides = _whole_numbers(size), _whole_numbers(stride)
        (first,) = _whole_numbers((offset,))
        if len(shape) != len(strides):
            raise ValueError("it has a tensor with another number of strides than of sizes")
        if not math.prod(shape):
            return torch.empty(shape, dtype=storage.dtype)
        start, end = self._spans[storage.key]
        width = storage.dtype.itemsize
        start += (first + storage.first) * width
        reach = 1 + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        if max(reach, math.prod(shape)) * width > end - start:
            raise ValueError("it has a tensor of more numbers than it has room for")
        if start % width:  # of the old format, whose bytes lie anywhere
            copied = bytearray(self._data[start : start + reach * width])
            flat = torch.frombuffer(copied, dtype=storage.dtype)
        else:
            flat = torch.frombuffer(self._data, dtype=storage.dtype, count=reach, offset=start)
        return flat.as_strided(shape, strides)

    def script_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """The tensors of the modules of a TorchScript archive, under the names of a state dict."""
        waiting: list[tuple[str, object]] = [("", self.value)]
        for _ in range(_MOST_MODULES):
            if not waiting:
                return
            start, module = waiting.pop()
            state = module.state if isinstance(module, Made) else None
            if not isinstance(state, dict):
                raise ValueError(
                    f"its module {start!r} is stored in a way of its own (__getstate__), which "
                    "only its program could read"
                )
            for name, value in state.items():
                if not isinstance(value, Made):
                    continue
                if str(value.what).startswith("__torch__."):
                    waiting.append((f"{start}{name}.", value))
                elif isinstance(tensor := self.resolve(value), Tensor):
                    yield f"{start}{name}", tensor
        raise ValueError(f"it has more than {_MOST_MODULES:,} modules")


def _whole_numbers(values: object) -> tuple[int, ...]:
    if not isinstance(values, tuple) or not all(type(n) is int and n >= 0 for n in values):
        raise ValueError("it has a tensor whose sizes are no whole numbers")
    return cast(tuple[int, ...], values)


def open_torch_file(path: Path) -> TorchFile:
    """Open a file of PyTorch. What it says is read; its tensors are mapped when they are resolved.

    WeightsError for code that it asks for; OSError, or errors of what reads it, for any other file.
    """
    with path.open("rb") as file:
        data = mmap(file.fileno(), 0, access=ACCESS_COPY)  # what is changed in memory stays there
    return _open_archive(path, data) if data[:2] == b"PK" else _open_legacy(path, data)


def _open_archive(path: Path, data: mmap) -> TorchFile:
    members = read_directory(data)
    roots = [name.removesuffix("/data.pkl") for name in members if name.endswith("/data.pkl")]
    if len(roots) != 1 or "/" in roots[0]:
        raise ValueError("it is a zip archive with no data.pkl, or several")

    def content(name: str, most: int) -> bytes:
        start, end = members[f"{roots[0]}/{name}"].span(data)
        if end - start > most:
            raise ValueError(
                f"its {name} has {end - start:,} bytes, and no checkpoint's has so many"
            )
        return data[start:end]

    if f"{roots[0]}/byteorder" in members and content("byteorder", 100) != b"little":
        raise ValueError("it was written on a machine with another order of bytes")
    spans: dict[str, tuple[int, int]] = {}

    def storage(found: object) -> object:
        made = _storage(found)
        if isinstance(made, _Storage):
            spans[made.key] = members[f"{roots[0]}/data/{made.key}"].span(data)
        return made

    pickled = io.BytesIO(content("data.pkl", _MOST_PICKLE_BYTES))
    value = read_pickle(pickled, path, persistent=storage)
    return TorchFile(path, value, f"{roots[0]}/constants.pkl" in members, data, spans)


def _open_legacy(path: Path, data: mmap) -> TorchFile:
    dtypes: dict[str, torch.dtype] = {}

    def storage(found: object) -> object:
        made = _storage(found)
        if isinstance(made, _Storage):
            dtypes[made.key] = made.dtype
        return made

    file: Any = data  # reads as a file does
    if data[:1] != b"\x80" or read_pickle(file, path) != _LEGACY_MAGIC:
        raise WeightsError(
            f"{shown(path)} is no PyTorch file of tensors: it begins with {data[:16]!r}."
        )
    version = read_pickle(file, path)
    if version != _LEGACY_VERSION:
        raise ValueError("it is of another version of the old format")
    machine = read_pickle(file, path)
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise ValueError("it was written on a machine with another order of bytes")
    value = read_pickle(file, path, persistent=storage)
    keys = read_pickle(file, path)
    spans: dict[str, tuple[int, int]] = {}
    at = data.tell()
    for key in keys if isinstance(keys, list) else []:
        num = int.from_bytes(data[at : at + 8], "little")
        start = at + 8
        at = start + num * dtypes[key].itemsize
        if at > len(data):
            raise ValueError("it is cut off")
        spans[key] = (start, at)
    return TorchFile(path, value, False, data, spans)


def _storage(found: object) -> object:
    """The storage, or what else, that a persistent id of PyTorch is of."""
    match found:
        case ("storage", Global(module, name), str(key), _, _, *more) if (
            module in ("torch", "torch.cuda", "torch.storage") and name in _STORAGES
        ):
            # In the old format a storage can be a part of another.
            part: Any = more[0] if more and more[0] is not None else (key, 0, 0)
            return _Storage(key, _STORAGES[name], *_whole_numbers((part[1],)))
        case ("module", kind, *_):
            return kind
    raise ValueError("it has a storage that is of no kind of PyTorch's")
