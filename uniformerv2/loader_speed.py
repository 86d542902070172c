"""How fast the loader reads a view, where the time goes, and how well it mixes the clips."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from uniformerv2.augment.transforms import training_batch
from uniformerv2.data import Batch, Loader
from uniformerv2.dataset.clips import ViewIndex
from uniformerv2.dataset.decode import Reading
from uniformerv2.dataset.sampler import Shuffle, shuffle_of

__all__ = ["LoaderSpeed", "measure"]

_SAMPLE = 8  # clips: on a CPU a whole batch takes long


@dataclass(frozen=True, slots=True)
class LoaderSpeed:
    """Means over the clips that were read. Milliseconds are for one clip.

    `fetch_ms` and `decode_ms` are a worker's; `rest_ms` is what it has left: pipes, bytes that did
    not come in time, waiting for whoever uses the batches. `augment_ms` is the device's.
    """

    clips: int
    seconds: float
    workers: int
    batch: int
    clips_per_s: float
    video_mb_per_s: float  # read from the shards
    frames_mb_per_s: float  # handed over
    fetch_ms: float
    decode_ms: float
    rest_ms: float
    augment_ms: float
    num_broken: int
    shuffle: Shuffle


def measure(
    view: ViewIndex,
    reading: Reading,
    *,
    batch: int = 64,
    workers: int = 1,
    seconds: float = 10.0,
    size: int = 224,
    device: str | torch.device | None = None,
    report: Callable[[int], object] = lambda clips: None,
) -> LoaderSpeed:
    """Read training batches of `view` for about so many seconds, from the second batch on.

    Then the last of them is augmented, to tell how long that takes on `device`, which is the GPU if
    there is one. StageError where the view has fewer clips than a batch.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    with Loader(view, reading, batch=batch, workers=workers, device=device) as loader:
        with contextlib.closing(loader.batches()) as batches:
            last = next(batches)
            before, start = loader.totals.snapshot(), time.perf_counter()
            elapsed = 0.0
            while elapsed < seconds:
                last = next(batches)
                elapsed = time.perf_counter() - start
                report(loader.totals.clips - before.clips)
            read = loader.totals.since(before)
            augment_s = _augment_s(last, size)
        shuffle = shuffle_of(loader.order(0), view.labels)
        num_broken = len(loader.totals.broken)
    clips = read.clips
    each_ms = 1e3 / clips
    busy_s = elapsed * max(workers, 1)
    return LoaderSpeed(
        clips=clips,
        seconds=elapsed,
        workers=workers,
        batch=batch,
        clips_per_s=clips / elapsed,
        video_mb_per_s=read.video_bytes / elapsed / 1e6,
        frames_mb_per_s=read.frame_bytes / elapsed / 1e6,
        fetch_ms=read.fetch_s * each_ms,
        decode_ms=read.decode_s * each_ms,
        rest_ms=max(busy_s - read.fetch_s - read.decode_s, 0.0) * each_ms,
        augment_ms=augment_s * 1e3,
        num_broken=num_broken,
        shuffle=shuffle,
    )


def _augment_s(batch: Batch, size: int) -> float:
    """Seconds for a clip, on the device that the batch lies on."""
    is_cuda = bool(batch.frames[0].is_cuda)
    frames, draws = batch.frames, [drawn for drawn, *_ in batch.draws]
    if not is_cuda:
        frames, draws = frames[:_SAMPLE], draws[:_SAMPLE]
    for _ in range(2):  # the first time loads, and on CUDA compiles
        start = time.perf_counter()
        training_batch(frames, draws, size)
        if is_cuda:
            torch.cuda.synchronize()
    return (time.perf_counter() - start) / len(draws)
