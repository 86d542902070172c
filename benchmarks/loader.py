"""How many clips a second does the loader give, against decord and Pillow on the source files?

    python benchmarks/loader.py [--rounds 5] [--clips 40] [--flat 20000] [--out FILE]

The five benchmark clips in ../shared/videos (10 s, short side 320, 30 fps), 8 frames of each, drawn
as for training. In one process with one thread:

    decord     VideoReader(num_threads=1).get_batch on the source files
    baseline   the same, then timm's RandAugment on Pillow images, frame by frame with one draw for
               the clip, normalisation, random resized crop: the usual loader
    bare       k710.video.read_frames on bytes in memory: `balanced` and `intra` encodes
    whole      Loader without workers, then our augmentation on this CPU

Then, in more and shorter rounds, Loader with one and with two workers, from shards on the disk to
batches of uint8; and, for what the machine allows, `bare` in one process and in two at once. All
take their turn in each round; ratios are of one round, and medians of all. At the end: the memory
of all processes, and their open files, over so many clips. Needs decord, timm, two cores, and
nothing else running.
"""

import argparse
import contextlib
import itertools
import json
import multiprocessing
import random
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from gop import CLIPS, VIDEOS
from k710.video.frames import read_frames
from loader_shards import encoded, make_view
from machine import device
from uniformerv2.augment.colours import MEAN, STD
from uniformerv2.augment.transforms import training_clip
from uniformerv2.data import Loader
from uniformerv2.dataset.clips import ViewIndex
from uniformerv2.dataset.decode import Reading
from uniformerv2.dataset.draws import Chances, draw, generator_of
from uniformerv2.dataset.frames import Sampling
from uniformerv2.dataset.sampler import order_of, shuffle_of
from uniformerv2.dataset.shard_reader import ShardReader

HERE = Path(__file__).resolve().parent
PROFILES = ("balanced", "intra")
SAMPLING = Sampling(8)
SIZE = 224
BATCH = 16
COPIES = 32  # of each clip
TARGETS = {
    "balanced to baseline": 10.0,
    "intra to baseline": 20.0,
    "balanced, 2 workers to 1": 1.85,
    "intra, 2 workers to 1": 1.85,
    "balanced, 1 worker to bare": 0.9,
    "intra, 1 worker to bare": 0.9,
}
Contender = Callable[[int], float]  # number of clips -> seconds for a clip


def indices_of(position: int, num_frames: int) -> list[int]:
    return SAMPLING.training(generator_of(0, 0, position), num_frames)


def with_decord(paths: list[Path], *, augmented: bool) -> Contender:
    """The usual loader, with or without what follows the decoder."""
    import decord
    from PIL import Image
    from timm.data.auto_augment import rand_augment_transform

    pillow = rand_augment_transform(
        "rand-m7-n4-mstd0.5-inc1",
        {
            "translate_pct": 0.45,
            "img_mean": (128, 128, 128),
            "interpolation": Image.Resampling.BICUBIC,
        },
    )

    def augment(frames: Any, position: int) -> torch.Tensor:
        done = []
        for frame in frames:  # the same draw for each
            random.seed(position)
            np.random.seed(position)
            done.append(np.asarray(pillow(Image.fromarray(frame))))
        x = torch.from_numpy(np.stack(done)).permute(3, 0, 1, 2).float() / 255
        x = (x - MEAN) / STD
        box = draw(generator_of(0, 0, position), *x.shape[2:]).box
        x = x[:, :, box.top : box.top + box.height, box.left : box.left + box.width]
        return F.interpolate(x, (SIZE, SIZE), mode="bilinear", align_corners=False)

    def run(num_clips: int) -> float:
        start = time.perf_counter()
        for position in range(num_clips):
            path = paths[position % len(paths)]
            reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
            frames = reader.get_batch(indices_of(position, len(reader))).asnumpy()
            if augmented:
                augment(frames, position)
        return (time.perf_counter() - start) / num_clips

    return run


def bare(clips: list[bytes]) -> Contender:
    """The decoder alone."""

    def run(num_clips: int) -> float:
        start = time.perf_counter()
        for position in range(num_clips):
            read_frames(clips[position % len(clips)], indices_of(position, 300))
        return (time.perf_counter() - start) / num_clips

    return run


_in_process: list[bytes] = []


def _load(clips: list[bytes]) -> None:
    _in_process.extend(clips)


def _run_bare(num_clips: int) -> float:
    return bare(_in_process)(num_clips)


def bare_twice(pool: Any) -> Contender:
    """The decoder alone, in two processes: seconds for a clip of both together."""

    def run(num_clips: int) -> float:
        start = time.perf_counter()
        pool.map(_run_bare, [num_clips, num_clips], chunksize=1)
        return (time.perf_counter() - start) / (2 * num_clips)

    return run


def through(loader: Loader, *, augmented: bool = False) -> Contender:
    """Batches of a loader, from the second on."""

    def run(num_clips: int) -> float:
        batches = -(-num_clips // BATCH)
        with contextlib.closing(loader.batches()) as made:
            next(made)
            start = time.perf_counter()
            for batch in itertools.islice(made, batches):
                if augmented:
                    for frames, (drawn,) in zip(batch.frames, batch.draws, strict=True):
                        training_clip(frames, drawn, SIZE)
            return (time.perf_counter() - start) / (batches * BATCH)

    return run


def memory_over(loader: Loader, num_clips: int) -> list[dict[str, int]]:
    """Memory and open files of this process and the workers, after a tenth and after all."""
    assert loader.workers is not None
    pids = [str(process.pid) for process in loader.workers.processes]
    found = []
    marks = [num_clips // 10 // BATCH, num_clips // BATCH]
    with contextlib.closing(loader.batches()) as made:
        for number, _ in enumerate(made, 1):
            if number in marks:
                found.append(
                    {
                        "clips": number * BATCH,
                        "own_mb": _memory_mb("self"),
                        "workers_mb": sum(map(_memory_mb, pids)),
                        "open_files": sum(_open_files(pid) for pid in ("self", *pids)),
                    }
                )
            if number == marks[-1]:
                return found
    raise AssertionError("training batches have no end")


def _memory_mb(pid: str) -> int:
    """What belongs to the process alone: what is shared by all would be counted for each."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    private = (line.split() for line in rollup if line.startswith(("Private_", "Pss_Shmem")))
    return round(sum(int(fields[1]) for fields in private) / 1024)


def _open_files(pid: str) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@contextlib.contextmanager
def loaders(folder: Path, clips: dict[str, bytes]) -> Iterator[tuple[ViewIndex, dict[int, Loader]]]:
    """Loaders with 0, 1 and 2 workers of shards that are made in `folder`."""
    folder.mkdir()
    view = make_view(folder, clips, copies=COPIES)
    reading = Reading(ShardReader(folder), sampling=SAMPLING, chances=Chances())
    with contextlib.ExitStack() as stack:
        made = {
            workers: stack.enter_context(Loader(view, reading, batch=BATCH, workers=workers))
            for workers in (0, 1, 2)
        }
        yield view, made


def in_turn(
    contenders: dict[str, Contender], rounds: int, num_clips: int
) -> dict[str, list[float]]:
    """Seconds for a clip, of each contender in each round."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, run in contenders.items():
            seconds = run(num_clips if number else 5)
            if number:  # the first round loads code and files
                taken[name].append(seconds)
    return taken


def ratios(taken: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """How many times as fast one is as another: median and quartiles over the rounds."""

    def times(fast: str, slow: str) -> dict[str, float]:
        of_rounds = [b / a for a, b in zip(taken[fast], taken[slow], strict=True)]
        low, median, high = statistics.quantiles(of_rounds, n=4)
        return {"median": round(median, 2), "low": round(low, 2), "high": round(high, 2)}

    found = {}
    for profile in PROFILES:
        bare, one, two = f"{profile}, bare", f"{profile}, 1 worker", f"{profile}, 2 workers"
        found[f"{profile} to baseline"] = times(bare, "baseline")
        found[f"{profile} to decord"] = times(bare, "decord")
        found[f"{profile}, whole to baseline"] = times(f"{profile}, whole", "baseline")
        found[f"{profile}, 1 worker to bare"] = times(one, f"{bare}, short")
        found[f"{profile}, bare in 2 processes to 1"] = times(
            f"{bare} in 2 processes", f"{bare}, short"
        )
        found[f"{profile}, 2 workers to 1"] = times(two, one)
    return found


def shuffle_of_k710() -> dict[str, float]:
    """How well an epoch of K710 is mixed: 650,000 clips in shards of 700, classes by chance."""
    num_shards, in_shard = 930, 700
    order = order_of([in_shard] * num_shards, view_hash="", seed=0, epoch=0)
    labels = np.random.default_rng(0).integers(0, 710, num_shards * in_shard)
    return {name: round(value, 5) for name, value in asdict(shuffle_of(order, labels)).items()}


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--flat", type=int, default=20_000)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "loader.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    paths = [VIDEOS / f"{name}.mp4" for name in CLIPS]
    contenders = {
        "decord": with_decord(paths, augmented=False),
        "baseline": with_decord(paths, augmented=True),
    }
    short: dict[str, Contender] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        last: Loader | None = None
        for profile in PROFILES:
            clips = encoded(profile)
            _, made = stack.enter_context(loaders(folder / profile, clips))
            contenders[f"{profile}, bare"] = bare(list(clips.values()))
            spawn = multiprocessing.get_context("spawn")
            pool = stack.enter_context(spawn.Pool(2, _load, (list(clips.values()),)))
            short[f"{profile}, bare, short"] = contenders[f"{profile}, bare"]
            short[f"{profile}, bare in 2 processes"] = bare_twice(pool)
            contenders[f"{profile}, no worker"] = through(made[0])
            contenders[f"{profile}, whole"] = through(made[0], augmented=True)
            short[f"{profile}, 1 worker"] = through(made[1])
            short[f"{profile}, 2 workers"] = through(made[2])
            last = made[2]
        taken = in_turn(contenders, arguments.rounds, arguments.clips)
        taken |= in_turn(short, 4 * arguments.rounds, 3 * BATCH)
        assert last is not None
        flat = memory_over(last, arguments.flat) if arguments.flat else []
    found = ratios(taken)
    report = {
        "benchmark": f"8 frames of 5 clips of 10 s at short side 320; {arguments.rounds} rounds of "
        f"{arguments.clips} clips; of workers {4 * arguments.rounds} rounds of {3 * BATCH}",
        "device": device("av", "decord", "pillow", "timm", "torch"),
        "ms_per_clip": {
            name: round(statistics.median(values) * 1e3, 2) for name, values in taken.items()
        },
        "ratios": found,
        "targets": {
            name: {"at_least": least, "met": found[name]["median"] >= least}
            for name, least in TARGETS.items()
        },
        "memory": flat,
        "shuffle_of_k710": shuffle_of_k710(),
    }
    print(json.dumps(report, indent=1))
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
