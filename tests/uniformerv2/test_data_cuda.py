"""The loader on a GPU: the same batches, ahead of whoever uses them. Needs PyAV, and no DuckDB."""

import io
import itertools
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from uniformerv2.augment.transforms import training_batch, training_clip
from uniformerv2.data import Loader
from uniformerv2.dataset.decode import Reading
from uniformerv2.dataset.draws import Chances
from uniformerv2.dataset.frames import Sampling
from uniformerv2.dataset.shard_reader import ShardReader

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from loader_shards import make_view

pytestmark = pytest.mark.cuda
SHAPES = ((48, 64), (64, 48), (96, 64))


def _video(height: int, width: int) -> bytes:
    picture = np.random.default_rng(height).integers(0, 255, (height, width, 3), np.uint8)
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.gop_size = 5
        for number in range(20):
            frame = av.VideoFrame.from_ndarray(np.roll(picture, 3 * number, 1), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Reading]:
    folder = tmp_path_factory.mktemp("shards")
    clips = {f"clip{number}": _video(*shape) for number, shape in enumerate(SHAPES)}
    view = make_view(folder, clips, copies=16, shards=4)
    return view, Reading(ShardReader(folder), sampling=Sampling(4), chances=Chances(), seed=3)


@pytest.mark.parametrize("workers", [0, 3])
def test_a_gpu_gets_the_same_batches(shards: tuple[Any, Reading], workers: int) -> None:
    view, reading = shards
    with (
        Loader(view, reading, batch=8) as here,
        Loader(view, reading, batch=8, workers=workers, device="cuda") as there,
    ):
        pairs = zip(here.batches(2), there.batches(2), strict=False)
        for expected, batch in itertools.islice(pairs, 20):
            assert (batch.step, batch.rows, batch.draws) == (
                expected.step,
                expected.rows,
                expected.draws,
            )
            assert batch.labels.is_cuda and batch.labels.tolist() == expected.labels.tolist()
            for frames, known in zip(batch.frames, expected.frames, strict=True):
                assert frames.is_cuda and torch.equal(frames.cpu(), known)


def test_what_is_prepared_ahead_is_sound_while_the_gpu_is_busy(
    shards: tuple[Any, Reading],
) -> None:
    view, reading = shards
    busy = torch.randn(4096, 4096, device="cuda")

    def prepare(batch: Any) -> torch.Tensor:
        return training_batch(batch.frames, [drawn for drawn, *_ in batch.draws], 32)

    with (
        Loader(view, reading, batch=8) as here,
        Loader(view, reading, batch=8, workers=3, device="cuda") as there,
    ):
        pairs = zip(here.batches(), there.batches(prepare=prepare), strict=False)
        for expected, batch in itertools.islice(pairs, 30):
            for _ in range(3):
                busy = (busy @ busy).clamp(-1, 1)
            got = batch.prepared.clone()
            for clip, frames, drawn in zip(got, expected.frames, expected.draws, strict=True):
                known = training_clip(frames, drawn[0], 32)
                assert (clip.cpu() - known).abs().mean() < 0.02  # of moves one level
        assert batch.frames == []


def test_the_memory_of_workers_is_pinned(shards: tuple[Any, Reading]) -> None:
    view, reading = shards
    with Loader(view, reading, batch=8, workers=1, device="cuda") as loader:
        assert loader.workers is not None
        memory = torch.from_numpy(np.frombuffer(loader.workers.memory, np.uint8))
        assert memory.is_pinned()
