"""log.jsonl of a run: a line for each step, and for each look at the validation clips.

A run that goes on from a checkpoint cuts off what came after it, so that the file is that of one
undisturbed run. Speeds aside, it is the same then.
"""

import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from k710.errors import MissingExtra
from k710.files import replacing, word_os_errors
from uniformerv2.recipe import Run

__all__ = ["RunLog", "read_log"]


class RunLog:
    """Appends to the log of a run that goes on after `step` steps. StageError if it can't."""

    def __init__(self, folder: Path, step: int, run: Run) -> None:
        self.path = folder / "log.jsonl"
        self.watchers: list[Any] = []
        with word_os_errors(folder):
            if run.tensorboard:
                self.watchers.append(_TensorBoard(folder, step))
            if run.wandb:
                self.watchers.append(_WandB(folder))
            self.last = _cut_log(self.path, step)
            # Without a buffer: what a full disk did not take would be written again by close().
            self.file = self.path.open("ab", buffering=0)

    def write(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Append lines; each has its `step`, the number of steps that are done."""
        with word_os_errors(self.path.parent):
            data = memoryview("".join(json.dumps(line) + "\n" for line in lines).encode())
            while data:
                data = data[self.file.write(data) :]
            for watcher in self.watchers:
                for line in lines:
                    watcher.write(line)

    def flush(self) -> None:
        """On the disk, as a checkpoint is that comes after it."""
        with word_os_errors(self.path.parent):
            os.fsync(self.file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        with word_os_errors(self.path.parent):
            for watcher in self.watchers:
                watcher.close()


def read_log(folder: Path) -> Iterator[dict[str, Any]]:
    """The lines of a run's log; one that is none, as a killed process leaves it, is the end."""
    path = folder / "log.jsonl"
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for text in file:
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                return
            step = line.get("step") if isinstance(line, dict) else None
            if not text.endswith("\n") or type(step) is not int:
                return
            yield line


def _cut_log(path: Path, step: int) -> dict[str, Any]:
    """Keep what was written of the first `step` steps; returns the last line of it."""
    kept = [line for line in read_log(path.parent) if line["step"] <= step]
    with replacing(path) as partial:
        partial.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
    return kept[-1] if kept else {}


class _TensorBoard:
    """All numbers of a line, as scalars."""

    def __init__(self, folder: Path, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtra(
                "run.tensorboard needs TensorBoard: pip install tensorboard"
            ) from error
        self.writer: Any = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def write(self, line: Mapping[str, Any]) -> None:
        for key, value in line.items():
            if key != "step" and isinstance(value, int | float):
                self.writer.add_scalar(key, value, line["step"])

    def close(self) -> None:
        self.writer.close()


class _WandB:
    """The same, as a run with an id of its own, which is kept in the run's folder."""

    def __init__(self, folder: Path) -> None:
        try:
            import wandb
        except ImportError as error:
            raise MissingExtra("run.wandb needs Weights & Biases: pip install wandb") from error
        path = folder / "wandb_id"
        if not path.exists():  # drawn: other folders have runs of that name too
            with replacing(path) as partial:
                partial.write_text(secrets.token_hex(6), encoding="utf-8")
        self.run: Any = wandb.init(
            project="k710",
            name=folder.name,
            id=path.read_text(encoding="utf-8"),
            dir=str(folder),
            resume="allow",
        )

    def write(self, line: Mapping[str, Any]) -> None:
        numbers = {k: v for k, v in line.items() if isinstance(v, int | float)}
        self.run.log(numbers, step=line["step"])

    def close(self) -> None:
        self.run.finish()
