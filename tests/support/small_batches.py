"""How batches are read out of small shards, and all that a batch is."""

from pathlib import Path
from typing import Any

from support.small_shards import all_made
from uniformerv2.data import Batch
from uniformerv2.dataset.decode import Reading
from uniformerv2.dataset.draws import Chances
from uniformerv2.dataset.frames import Sampling
from uniformerv2.dataset.shard_reader import ShardReader


def reading(work: Path | None = None, **options: Any) -> Reading:
    """For training, 4 frames."""
    shards = ShardReader((work or all_made()) / "shards")
    return Reading(shards, **{"sampling": Sampling(4), "chances": Chances(), "seed": 5, **options})


def said(batch: Batch) -> list[Any]:
    """All that a batch is, clip by clip."""
    frames = [f.numpy().tobytes() for f in batch.frames]
    return list(zip(batch.rows, batch.labels.tolist(), batch.draws, frames, strict=True))
