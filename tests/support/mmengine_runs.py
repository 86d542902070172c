"""Checkpoints as a run of MMEngine writes them, with objects of a package that nobody has here."""

import sys
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch


def write_run_checkpoint(path: Path, state_dict: dict[str, torch.Tensor], **saving: Any) -> None:
    """Write what MMEngine's CheckpointHook does: weights, optimizer, log, meta.

    Its log is of HistoryBuffers, which pickle NumPy arrays and methods of their own class.
    """
    made = _mmengine()
    sys.modules |= made
    try:
        buffers: Any = made["mmengine.logging.history_buffer"]
        fields: Any = made["mmengine.config.config"]
        steps = np.arange(5, dtype=np.float64)
        log = OrderedDict({"train/loss": buffers.HistoryBuffer(steps, np.ones(5))})
        parameters = [torch.nn.Parameter(torch.ones(3))]
        optimizer = torch.optim.AdamW(parameters, lr=np.float64(0.1))
        parameters[0].sum().backward()
        optimizer.step()
        saved = {
            "meta": {
                "epoch": np.int64(3),
                "cfg": "model = dict()",
                "seed": 7,
                "dataset_meta": fields.ConfigDict(classes=["a", "b"]),
                "hook_msgs": {},
            },
            "state_dict": OrderedDict(state_dict),
            "message_hub": {
                "log_scalars": log,
                "runtime_info": OrderedDict(iter=np.int64(5), device=torch.device("cpu")),
                "resumed_keys": {},
            },
            "optimizer": optimizer.state_dict(),
            "param_schedulers": [{"last_step": 5, "_last_value": [np.float64(0.1)]}],
        }
        torch.save(saved, path, **saving)
    finally:
        for name in made:
            del sys.modules[name]


def _mmengine() -> dict[str, types.ModuleType]:
    """Modules that hold classes of the names and shapes of MMEngine's."""

    class HistoryBuffer:
        def __init__(self, history: Any, counts: Any) -> None:
            self._max_length = 1_000_000
            self._log_history, self._count_history = history, counts
            self._statistics_methods = {"mean": HistoryBuffer.mean}

        def mean(self) -> float:
            return float(self._log_history.mean())

    class ConfigDict(dict[str, Any]):
        pass

    homes = {"mmengine.logging.history_buffer": HistoryBuffer, "mmengine.config.config": ConfigDict}
    modules: dict[str, types.ModuleType] = {}
    for home, kind in homes.items():
        parts = home.split(".")
        for end in range(1, len(parts) + 1):
            name = ".".join(parts[:end])
            modules.setdefault(name, types.ModuleType(name))
        kind.__module__, kind.__qualname__ = home, kind.__name__
        setattr(modules[home], kind.__name__, kind)
    HistoryBuffer.mean.__module__ = HistoryBuffer.__module__
    HistoryBuffer.mean.__qualname__ = "HistoryBuffer.mean"
    return modules
