"""Tensors out of files that others wrote, and into files that others read.

A PyTorch file is a pickle, and a pickle can carry code: `torch_file` reads it as data, and runs
nothing. Files are mapped, not read: the optimizer state of a checkpoint, which nobody asks for,
never comes into memory.
"""

import contextlib
import json
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import safetensors
import torch
from torch import Tensor

from k710.errors import LabelError, WeightsError, printable, shown
from k710.files import replacing, sha256_of, word_os_errors
from uniformerv2.weights.pickle_data import as_dict, describe
from uniformerv2.weights.torch_file import open_torch_file

__all__ = [
    "MODEL",
    "TORCH_SUFFIXES",
    "check_hash",
    "check_tensors",
    "is_complete",
    "model_of_run",
    "read_saved",
    "read_tensors",
    "step_of_run",
    "steps_of_run",
    "write_pickle",
    "write_tensors",
]

MODEL = "model.safetensors"  # in the folder of a step
TORCH_SUFFIXES = (".pth", ".pt", ".pyth")
_WRAPPERS = ("model_state", "state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")
_SAFETENSORS_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_MOST_HEADER_BYTES = 16 << 20  # of safetensors: those of the largest models have less than 1 MB
# What a file of any bytes makes the readers of PyTorch's files and safetensors' raise.
_READ_ERRORS = (
    OSError,
    RuntimeError,  # NotImplementedError and RecursionError are of its kind
    ValueError,
    TypeError,
    LookupError,
    struct.error,
    AttributeError,
    EOFError,
    OverflowError,
    MemoryError,
    AssertionError,
    safetensors.SafetensorError,
)


def read_tensors(
    path: Path, *, programs: bool = False
) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """The tensors of a checkpoint under its own names, and what k710 recorded beside them, if so.

    Prefixes of DDP and torch.compile are dropped. A folder is a run, or one step of a run: its
    newest complete step is read. With `programs`, a TorchScript archive is one of tensors too.
    WeightsError for anything else than a file of tensors; LabelError for a record that is none.
    """
    if path.is_dir():
        path = model_of_run(path)
        check_hash(path)
    if path.suffix == ".safetensors":
        with _worded(path, "safetensors"):
            return _read_safetensors(path)
    with _worded(path, "PyTorch"):
        return _read_torch(path, programs=programs)


def read_saved(path: Path) -> Any:
    """What torch.save wrote, with its tensors mapped, and nothing run. WeightsError if nothing."""
    with _worded(path, "PyTorch"):
        file = open_torch_file(path)
        return file.resolve(file.value)


@contextlib.contextmanager
def _worded(path: Path, kind: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        raise WeightsError(f"{shown(path, limit=1000)} can't be read: {why}.") from error
    except _READ_ERRORS as error:
        where = shown(path, limit=1000)
        raise WeightsError(f"{where} is no whole {kind} file: {_why(error)}.") from error


def _read_torch(path: Path, *, programs: bool) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    file = open_torch_file(path)
    if file.is_script:
        if not programs:
            raise WeightsError(
                f"{shown(path)} is a TorchScript archive, which is a program: only --init reads "
                "the tensors of one."
            )
        return check_tensors(dict(file.script_tensors()), path), None
    loaded = as_dict(file.value)
    if loaded is None:
        raise WeightsError(
            f"{shown(path)} holds a {describe(file.value)}, and no dict of tensors. Save the "
            "state_dict of the model alone: torch.save(model.state_dict(), path)."
        )
    record = _record(file.resolve(loaded["k710"]), path) if "k710" in loaded else None
    wrapped = (as_dict(loaded.get(key)) for key in _WRAPPERS)
    tensors = next((found for found in wrapped if found is not None), None)
    if tensors is None:
        tensors = {key: value for key, value in loaded.items() if key != "k710"}
    return check_tensors(file.resolve(tensors), path), record


def _record(record: object, path: Path) -> dict[str, Any]:
    """What k710 wrote of the classes. One that can't be read is never taken for none."""
    if not isinstance(record, dict):
        raise LabelError(
            f"{shown(path)} says of its classes a {type(record).__name__}: no record of k710's."
        )
    return record


def steps_of_run(folder: Path) -> list[Path]:
    """The folders of the steps in a run's folder, the newest first; what else lies there is not."""
    found = (path for path in folder.glob("step_*") if re.fullmatch(r"step_\d{9}", path.name))
    return sorted((path for path in found if path.is_dir()), reverse=True)


def step_of_run(folder: Path) -> Path | None:
    """The newest complete step of a run's folder, or the folder itself if it is one; or None."""
    steps = (*steps_of_run(folder), folder)
    return next((step for step in steps if is_complete(step)), None)


def is_complete(step: Path) -> bool:
    """Whether the folder of a step is whole.

    state.json is written last, and says how long the files beside it are: where it is missing, or
    they are shorter, the step was not finished.
    """
    try:
        files = json.loads((step / "state.json").read_text(encoding="utf-8")).get("files", {})
        sizes = {name: (step / name).stat().st_size for name in (MODEL, *files)}
        return all(sizes[name] == size for name, size in files.items())
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return False


def check_hash(file: Path, sha256: str | None = None, *, step: Path | None = None) -> bool:
    """Compare a file of a run with its hash in the state.json of `step`, or beside it.

    `sha256` is the file's, where it is known. Returns whether there is a hash to compare with:
    older checkpoints have none. WeightsError where it is another one.
    """
    try:
        state = json.loads(((step or file.parent) / "state.json").read_text(encoding="utf-8"))
        said = state.get("sha256", {}).get(file.name)
    except (OSError, ValueError, AttributeError, RecursionError):
        return False  # of no run
    if said is None:
        return False
    if said != (sha256 or sha256_of(file)):
        raise WeightsError(
            f"{shown(file, limit=1000)} is not what its run wrote: state.json has another SHA-256. "
            "It was damaged or replaced since.\n"
            "Copy it again from where it came. "
            + (
                "Or remove its folder: the step before it counts then."
                if step is None
                else "Or give this run another --run."
            )
        )
    return True


def model_of_run(folder: Path) -> Path:
    """The weights of a run's newest complete step. WeightsError if it has none."""
    step = step_of_run(folder)
    if step is None:
        raise WeightsError(
            f"{shown(folder)} is no run: it has no step_*/ with state.json and model.safetensors."
        )
    return step / MODEL


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    with path.open("rb") as opened:
        header_bytes = int.from_bytes(opened.read(8), "little")
    if header_bytes > _MOST_HEADER_BYTES:
        raise ValueError(f"its header would have {header_bytes:,} bytes, and no checkpoint's has")
    with safetensors.safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
        text = (file.metadata() or {}).get("k710")
    record = None if text is None else _record(json.loads(text), path)
    return check_tensors(tensors, path), record


def _why(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    text = re.sub(r"\s+", " ", lines[0]) if lines else type(error).__name__
    return printable(text[:200].rstrip("."))


def check_tensors(tensors: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    """The tensors under names without prefixes. WeightsError for what is no plain tensor."""
    named: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            held = ", ".join(map(_key, list(tensors)[:5])) + (", ..." if len(tensors) > 5 else "")
            raise WeightsError(
                f"{shown(path)} is no checkpoint of a model: {_key(name)} is a "
                f"{describe(tensor)}, and no tensor. It holds {held}."
            )
        if tensor.dtype not in _SAFETENSORS_DTYPES or (
            (tensor.layout, tensor.device.type, tensor.is_quantized)
            != (torch.strided, "cpu", False)
        ):
            raise WeightsError(
                f"{shown(path)} is no checkpoint of a model: {shown(name)} is a tensor of "
                f"{tensor.dtype}, {tensor.layout}, on {tensor.device}."
            )
        while name.startswith(_PREFIXES):
            name = name.partition(".")[2]
        if name in named:
            raise WeightsError(f"{shown(path)} has {shown(name)} twice, with and without a prefix.")
        named[name] = tensor
    if not named:
        raise WeightsError(f"{shown(path)} holds no tensors.")
    return named


def _key(name: object) -> str:
    return shown(name) if isinstance(name, str) else f"a {type(name).__name__}"


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], *, record: Mapping[str, Any], wrapper: str
) -> None:
    """Write a `.safetensors` file with `record` as metadata, or a PyTorch file by its suffix.

    The PyTorch file is {wrapper: tensors, "k710": record}, readable with `weights_only=True`. It
    appears whole or not at all. The same tensors give the same bytes. WeightsError for another
    suffix, StageError where it can't be written.
    """
    if path.suffix not in (".safetensors", *TORCH_SUFFIXES):
        raise WeightsError(
            f"{shown(path)} should end with .safetensors, {', '.join(TORCH_SUFFIXES)}."
        )
    with word_os_errors(path.parent), replacing(path) as partial:
        try:
            with partial.open("wb") as file:
                if path.suffix == ".safetensors":
                    _write_safetensors(file, tensors, {"k710": json.dumps(record, sort_keys=True)})
                else:
                    write_pickle(file, {wrapper: _separate_storage(tensors), "k710": dict(record)})
        except OSError as error:
            error.filename = error.filename or str(path)  # of a write there is none
            raise


def _write_safetensors(
    file: IO[bytes], tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """The format is a header of JSON and the bytes of the tensors, the widest numbers first.

    Its own library writes through a file of another name and closes it to other users.
    """
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name in order:
        start, end = end, end + tensors[name].numel() * tensors[name].element_size()
        header[name] = {
            "dtype": _SAFETENSORS_DTYPES[tensors[name].dtype],
            "shape": list(tensors[name].shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    for name in order:
        flat = tensors[name].detach().contiguous().reshape(-1)
        file.write(flat.view(torch.uint8).numpy().data)


def _separate_storage(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A view of a larger tensor would be written with all of it; what two share, as shared."""
    seen: set[int] = set()
    separate = {}
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage()
        size = tensor.numel() * tensor.element_size()
        is_own = storage.data_ptr() not in seen and storage.nbytes() == size
        seen.add(storage.data_ptr())
        separate[name] = (
            tensor if is_own and tensor.is_contiguous() else tensor.clone().contiguous()
        )
    return separate


def write_pickle(file: IO[bytes], value: object) -> None:
    """As torch.save. OSError where the disk takes no more."""
    try:
        torch.save(value, file)  # given a name, it would write that inside
    except RuntimeError as error:  # what its archive makes of a file that takes no more
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise
