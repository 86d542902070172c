"""The processes of a run: one alone, or as many as torchrun has started, on any number of machines.

Each has a device of its own. What they have to agree on goes through the CPU (gloo), so that no
process waits for its GPU to ask another one something.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from k710.errors import K710Error, StageError
from k710.machine import usable_cores

__all__ = ["Ranks", "join_ranks"]

_PATIENCE = timedelta(minutes=30)  # one rank may be writing a checkpoint, or reading a slow disk


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among all of a run."""

    rank: int
    ranks: int
    on_machine: int  # processes of this run that share this machine's cores
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def share_of_cores(self) -> int:
        """The cores of this machine that are this process's own; one at least."""
        return max(usable_cores() // self.on_machine, 1)

    def any_of(self, *flags: bool) -> list[bool]:
        """Each flag, whether any process has set it: the same answer on all."""
        if self.ranks == 1:
            return list(flags)
        both = torch.tensor(flags, dtype=torch.uint8)
        dist.all_reduce(both, dist.ReduceOp.MAX)
        return [bool(flag) for flag in both.tolist()]

    def mean(self, values: Tensor) -> Tensor:
        """The mean over processes, on the CPU."""
        values = values.detach().to("cpu", torch.float64)
        if self.ranks > 1:
            dist.all_reduce(values)
        return values / self.ranks

    def gather(self, value: Any) -> list[Any]:
        """What each process has, by rank; of plain values. StageError where one has ended."""
        if self.ranks == 1:
            return [value]
        values: list[Any] = [None] * self.ranks
        try:
            dist.all_gather_object(values, value)
        except RuntimeError as error:
            raise StageError(
                f"Process {self.rank} can't go on: another one has ended, and has printed why."
            ) from error
        return values

    def _broadcast(self, value: Any) -> Any:
        """What the first process has."""
        if self.ranks == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, 0)
        return values[0]

    def by_first(self, work: Callable[[], Any]) -> Any:
        """What `work` returns in the first process, which alone does it; a K710Error is all's."""
        value, error = None, None
        if self.is_first:
            try:
                value = work()
            except K710Error as reason:
                error = reason
        value, text = self._broadcast((value, None if error is None else str(error)))
        if error is not None:
            raise error
        if text is not None:
            raise StageError(text)
        return value


@contextlib.contextmanager
def join_ranks(device: str | None = None) -> Iterator[Ranks]:
    """The ranks that torchrun's environment tells, or one alone; `device` is cuda or cpu.

    StageError where this process has no GPU of its own, or a part of that environment is missing.
    """
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    is_one_of_many = "WORLD_SIZE" in os.environ
    local, on_machine = _place_on_machine() if is_one_of_many else (0, 1)
    if kind == "cuda":
        if not torch.cuda.is_available():
            raise StageError("PyTorch sees no GPU: k710 doctor tells why. Or --device cpu.")
        if local >= torch.cuda.device_count():
            raise StageError(
                f"Process {local} of this machine has no GPU: there are "
                f"{torch.cuda.device_count()}.\nStart as many with --nproc-per-node."
            )
        torch.cuda.set_device(local)
    own = torch.device(kind, local) if kind == "cuda" else torch.device(kind)
    if not is_one_of_many:
        yield Ranks(0, 1, on_machine, own)
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), on_machine, own)
        # Whoever ends first would take the group away from the others.
        dist.barrier()
    finally:
        dist.destroy_process_group()


def _place_on_machine() -> tuple[int, int]:
    """Which process of this machine's this is, and of how many."""
    names = ("LOCAL_RANK", "LOCAL_WORLD_SIZE")
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise StageError(
            f"WORLD_SIZE is set, and {' and '.join(missing)} not: which GPU and which cores are "
            "this process's?\nStart it with torchrun, or set what torchrun sets (of Slurm, these "
            "are SLURM_LOCALID and SLURM_NTASKS_PER_NODE). Alone, unset WORLD_SIZE."
        )
    local, on_machine = (int(os.environ[name]) for name in names)
    return local, on_machine
