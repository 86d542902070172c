"""One step of a run on disk, from which the run goes on as if it had never stopped.

    runs/NAME/step_000001000/
        model.safetensors    the model: what is evaluated, fine-tuned from, converted
        optim.pt             what only training needs: moments, scaler; weights, if the model's are
                             an average
        state.json           which step, of what, and the hashes of both; written last: without it
                             the folder does not count

Tensors go by the names of parameters, whole, whatever they were sharded over: a run may go on with
another number of GPUs.
"""

import contextlib
import itertools
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from k710.errors import StageError, WeightsError, shown
from k710.files import replacing, sha256_of, word_os_errors, write_json
from uniformerv2.weights.files import (
    MODEL,
    check_hash,
    is_complete,
    read_saved,
    steps_of_run,
    write_pickle,
    write_tensors,
)

__all__ = [
    "START",
    "RunState",
    "check_files",
    "load_moments",
    "load_scaler",
    "load_weights",
    "moments_of",
    "place_tensors",
    "read_optim",
    "read_state",
    "remove_old",
    "save",
    "step_folder",
    "weights_of",
    "whole",
]

START = "start.safetensors"  # in a run's folder: the weights of its beginning, if they count
_FILES = (MODEL, "optim.pt")
_MOMENTS = ("exp_avg", "exp_avg_sq")  # of AdamW
_SCALER = {"scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker"}


@dataclass(frozen=True, slots=True)
class RunState:
    """What a checkpoint is of: a run goes on only with the same."""

    step: int  # that are done
    steps: int  # of an epoch
    total_steps: int
    view: str
    view_sha256: str  # of the clips that are in shards, and where: other ones have another order
    num_clips: int
    num_wanted: int  # clips of the view, those in no shard too
    labels_sha256: str


def step_folder(run: Path, step: int) -> Path:
    """The folder of a step."""
    return run / f"step_{step:09d}"


def save(
    run: Path,
    state: RunState,
    *,
    weights: Mapping[str, Tensor],
    record: Mapping[str, Any],
    optim: Mapping[str, Any],
    hashes: Mapping[str, str] | None = None,
) -> Path:
    """Write a step's folder; `state.json` comes last. StageError where it can't be written.

    `hashes` are of files in the run's folder that it can't go on without.
    """
    folder = step_folder(run, state.step)
    with word_os_errors(run), contextlib.ExitStack() as undo:
        if folder.exists():
            shutil.rmtree(folder)  # of a process that was killed while it wrote
        folder.mkdir(parents=True)
        undo.callback(shutil.rmtree, folder, ignore_errors=True)  # a full disk needs the room
        write_tensors(folder / _FILES[0], weights, record=record, wrapper="model_state")
        with replacing(folder / _FILES[1]) as partial, partial.open("wb") as file:
            write_pickle(file, dict(optim))
        said = {
            **asdict(state),
            "files": {name: (folder / name).stat().st_size for name in _FILES},
            "sha256": {name: sha256_of(folder / name) for name in _FILES} | dict(hashes or {}),
            "torch": torch.__version__,
            "written_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        write_json(folder / "state.json", said)
        _flush(folder)
        _flush(run)
        undo.pop_all()
    return folder


def _flush(folder: Path) -> None:
    """Names are on disk only when their folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_old(run: Path, keep: int) -> None:
    """Remove all but the newest `keep` complete steps; of each, what makes it count goes first.

    What a killed process left unfinished is no step: it goes too, whatever its number.
    """
    folders = steps_of_run(run)
    kept = set(itertools.islice((f for f in folders if is_complete(f)), keep))
    with word_os_errors(run):
        for folder in folders:
            if folder not in kept:
                (folder / "state.json").unlink(missing_ok=True)
                shutil.rmtree(folder, ignore_errors=True)


def check_files(folder: Path) -> bool:
    """Compare the files of a step's folder with its hashes; returns whether it has any.

    WeightsError names the first that is another than the run wrote.
    """
    return all([check_hash(folder / name) for name in _FILES])


def read_state(folder: Path) -> RunState:
    """The state of a step's folder. StageError if it is none, or of another step."""
    path = folder / "state.json"
    try:
        state = msgspec.json.decode(path.read_bytes(), type=RunState)
        if not 0 <= state.step <= state.total_steps:
            raise ValueError(f"step {state.step} of {state.total_steps}")
        if folder.name != step_folder(folder.parent, state.step).name:
            raise ValueError(f"it is of step {state.step}")
        return state
    except (OSError, ValueError, RecursionError) as error:
        raise StageError(f"{shown(path)} is no state of a run: {error}.") from error


def read_optim(folder: Path) -> dict[str, Any]:
    """What only training needs. WeightsError if it can't be read."""
    path = folder / _FILES[1]
    optim: dict[str, Any] = read_saved(path)
    parts = optim if isinstance(optim, dict) else {}
    moments, scaler = parts.get("moments"), parts.get("scaler")
    is_whole = (
        isinstance(moments, dict)
        and all(isinstance(name, str) and _are_tensors(kept) for name, kept in moments.items())
        and _are_tensors(parts.get("weights", {}))
        and isinstance(scaler, dict)
        and scaler.keys() in (set(), _SCALER)  # nothing, if the run has no fp16
        and all(type(number) in (int, float) for number in scaler.values())
    )
    if not is_whole:
        raise WeightsError(
            f"{shown(path, limit=1000)} is no state of an optimizer, as k710 writes it.\n"
            "Remove its folder: the step before it counts then."
        )
    return optim


def _are_tensors(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items()
    )


# --- tensors by name, whole


def weights_of(model: nn.Module, *, keep: bool = True) -> dict[str, Tensor]:
    """The state dict on the CPU. All processes have to ask, for each may have a part of it.

    Who does not `keep` it, for another one writes it, gets empty tensors.
    """
    return {name: whole(tensor, keep=keep) for name, tensor in model.state_dict().items()}


@torch.no_grad()
def load_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy whole tensors into a model, sharded or not."""
    state = model.state_dict()
    if {k: t.shape for k, t in state.items()} != {k: t.shape for k, t in weights.items()}:
        raise WeightsError("The checkpoint is of another model than the run's recipe.")
    for name, tensor in state.items():
        tensor.copy_(_place(weights[name], tensor))


def moments_of(
    model: nn.Module, optimizer: torch.optim.Optimizer, *, keep: bool = True
) -> dict[str, dict[str, Tensor]]:
    """Parameter's name -> what the optimizer keeps of it, as of `weights_of`."""
    return {
        name: {key: whole(value, keep=keep) for key, value in optimizer.state[parameter].items()}
        for name, parameter in model.named_parameters()
        if parameter in optimizer.state
    }


def load_moments(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    moments: Mapping[str, Mapping[str, Tensor]],
) -> None:
    """Give the optimizer what it kept. WeightsError where a trained parameter has nothing."""
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        kept = moments.get(name, {})
        fitting = {key: (parameter.shape, parameter.dtype) for key in _MOMENTS}
        fitting["step"] = (torch.Size(()), torch.float32)
        if {key: (tensor.shape, tensor.dtype) for key, tensor in kept.items()} != fitting:
            raise WeightsError(f"The checkpoint's optim.pt has no moments of {shown(name)}.")
        optimizer.state[parameter] = {
            key: _count(optimizer, parameter, value) if key == "step" else _place(value, parameter)
            for key, value in kept.items()
        }


def load_scaler(scaler: torch.amp.GradScaler, kept: Mapping[str, float]) -> None:
    """Give the scaler of fp16 what it kept. WeightsError where that is nothing."""
    if scaler.is_enabled() and not kept:
        raise WeightsError(
            "The checkpoint's optim.pt has no state of the scaler, which fp16 needs."
        )
    scaler.load_state_dict(dict(kept))


def _count(optimizer: torch.optim.Optimizer, parameter: Tensor, steps: Tensor) -> Tensor:
    """AdamW has its count of steps beside the parameter only where it is fused."""
    device = parameter.device if optimizer.defaults.get("fused") else torch.device("cpu")
    return steps.to(device, copy=True)


def whole(tensor: Tensor, *, keep: bool = True) -> Tensor:
    """All of a tensor, on the CPU, a copy; or nothing. All processes have to ask."""
    if isinstance(tensor, DTensor):
        tensor = tensor.full_tensor()
    return tensor.detach().to("cpu", copy=True) if keep else torch.empty(0)


def place_tensors(tensors: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of whole tensors where those of the same names lie, and sharded as those are."""
    return {name: _place(tensors[name], other) for name, other in like.items()}


def _place(tensor: Tensor, like: Tensor) -> Tensor:
    if isinstance(like, DTensor):
        return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)
    return tensor.to(like.device, copy=True)
