"""Does the loader keep a GPU busy: a training step on loaded clips against one on a resident batch?

    python benchmarks/fed_step.py [--clips FOLDER] [--workers 15] [--rounds 3] [--steps 30]
        [--out benchmarks/results/fed_step.json]

B/16 at 8x224, compiled block by block, bfloat16, AdamW, 64 clips a step, on one CUDA device. In
turn, each round:

    resident   on one float batch that lies on the device
    augmented  one batch of uint8 clips that lies on the device, augmented before each step
    fed        clips from shards: read, decoded and copied by the loader, augmented on its stream

for `balanced` and for `intra` shards, at 30 fps and short side 320. `augment_ms` is the
augmentation alone. FOLDER has <profile>/<clip>.mp4 where the benchmark clips can't be encoded;
without it they are made of ../shared/videos. Needs CUDA and PyAV.
"""

import argparse
import contextlib
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import machine
from loader_shards import encoded, make_view
from train_step import CLIP_NORM, contender, optimizer_of
from uniformerv2.augment.transforms import training_batch
from uniformerv2.config import SIZES
from uniformerv2.data import Batch, Loader
from uniformerv2.dataset.decode import Reading
from uniformerv2.dataset.draws import Chances
from uniformerv2.dataset.frames import Sampling
from uniformerv2.dataset.shard_reader import ShardReader

HERE = Path(__file__).resolve().parent
BATCH, SIZE = 64, 224
PROFILES = ("balanced", "intra")
TARGETS = {"fed_to_resident": 0.95, "augment_to_step": 0.15}
Step = Callable[[Tensor, Tensor], None]


def prepare(batch: Batch) -> Tensor:
    """On the loader's stream, while the step before runs."""
    return training_batch(batch.frames, [drawn for drawn, *_ in batch.draws], SIZE)


def a_step() -> Step:
    """Forward, backward and update of a B/16 whose blocks are compiled."""
    torch.set_float32_matmul_precision("high")
    who = contender("blocks", SIZES["b16"], "cuda")
    optimizer = optimizer_of(who.model, fused=True)

    def step(pixels: Tensor, labels: Tensor) -> None:
        with torch.autocast("cuda", torch.bfloat16):
            loss = F.cross_entropy(who.run(pixels), labels)
        loss.backward()
        nn.utils.clip_grad_norm_(who.model.parameters(), CLIP_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def ms_of(run: Callable[[], object], steps: int) -> float:
    """Milliseconds of one, over several in a row."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(steps):
        run()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / steps * 1e3


@contextlib.contextmanager
def loader_of(folder: Path, clips: dict[str, bytes], workers: int) -> Iterator[Loader]:
    folder.mkdir()
    view = make_view(folder, clips)
    reading = Reading(ShardReader(folder), sampling=Sampling(8), chances=Chances())
    with Loader(view, reading, batch=BATCH, workers=workers, device="cuda") as loader:
        yield loader


def compare(loader: Loader, step: Step, steps: int, rounds: int) -> dict[str, Any]:
    """Milliseconds of each way to feed the step, and their ratios."""
    with contextlib.closing(loader.batches()) as batches:
        kept = next(batches)
        frames = [clip.clone() for clip in kept.frames]
        draws = [drawn for drawn, *_ in kept.draws]
        labels = kept.labels.clone()
    resident = training_batch(frames, draws, SIZE)
    taken: dict[str, list[float]] = {name: [] for name in ("resident", "augmented", "augment")}
    taken |= {"fed": [], "wait": []}
    for number in range(rounds + 1):
        with contextlib.closing(loader.batches(prepare=prepare)) as batches:
            waited: list[float] = []

            def fed(batches: Iterator[Batch] = batches, waited: list[float] = waited) -> None:
                start = time.perf_counter()
                batch = next(batches)
                waited.append(time.perf_counter() - start)
                step(batch.prepared, batch.labels)

            for _ in range(3):
                fed()  # workers have begun
            waited.clear()
            found = {
                "fed": ms_of(fed, steps),
                "wait": statistics.mean(waited) * 1e3,
            }
        found["resident"] = ms_of(lambda: step(resident, labels), steps)
        found["augmented"] = ms_of(lambda: step(training_batch(frames, draws, SIZE), labels), steps)
        found["augment"] = ms_of(lambda: training_batch(frames, draws, SIZE), steps)
        print(f"round {number}:", json.dumps(found), flush=True)
        if number:  # the first round compiles
            for name, value in found.items():
                taken[name].append(value)
    medians = {f"{name}_ms": round(statistics.median(v), 2) for name, v in taken.items()}

    def ratio(a: str, b: str) -> float:
        pairs = zip(taken[a], taken[b], strict=True)
        return round(statistics.median(x / y for x, y in pairs), 3)

    return medians | {
        "clips_per_s_fed": round(BATCH / medians["fed_ms"] * 1e3, 1),
        "clips_per_s_resident": round(BATCH / medians["resident_ms"] * 1e3, 1),
        "fed_to_resident": ratio("resident", "fed"),
        "augment_to_step": ratio("augment", "resident"),
    }


def clips_of(profile: str, folder: Path | None) -> dict[str, bytes]:
    if folder is None:
        return encoded(profile)
    return {path.stem: path.read_bytes() for path in sorted((folder / profile).glob("*.mp4"))}


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=Path)
    parser.add_argument("--workers", type=int, default=15)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "fed_step.json")
    arguments = parser.parse_args()
    step = a_step()
    report: dict[str, Any] = {
        "benchmark": f"training steps of B/16 8x224, {BATCH} clips, {arguments.workers} workers; "
        f"medians of {arguments.rounds} rounds of {arguments.steps} steps",
        "device": machine.device("av", "torch"),
        "gpu": torch.cuda.get_device_name(),
    }
    with TemporaryDirectory() as temporary:
        for profile in PROFILES:
            clips = clips_of(profile, arguments.clips)
            with loader_of(Path(temporary) / profile, clips, arguments.workers) as loader:
                found = compare(loader, step, arguments.steps, arguments.rounds)
            found["targets_met"] = (
                found["fed_to_resident"] >= TARGETS["fed_to_resident"]
                and found["augment_to_step"] <= TARGETS["augment_to_step"]
            )
            report[profile] = found
            print(profile, json.dumps(found), flush=True)
            arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
