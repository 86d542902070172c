"""What do the profiles of clips cost in bytes and pictures, and how fast are 8 random frames read?

    python benchmarks/gop.py [--rounds 5] [--lists 8] [--out benchmarks/results/gop.json]

Encodes the five benchmark clips in ../shared/videos, which have short side 320 already, with each
profile as `k710 shard` does, and with what x264 does by itself (`default`: medium, crf 23, its own
GOP). Then reads 8 frames at random, seeded and in ascending order, opened anew each time, as RGB:

    decord        the source, VideoReader(num_threads=1).get_batch
    pyav          the source, decoded from its start to the last of the frames, one thread
    k710          the source and each encode, k710.video.read_frames; also left in YUV 4:2:0

decord on an unsorted list seeks back for each frame: `decord_unsorted` has what that takes. All are
read in turn in each round. Prints medians, and writes them with the device's description. Needs
decord and nothing else running.
"""

import argparse
import importlib
import io
import json
import random
import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import numpy.typing as npt

from k710.video.container import open_video
from k710.video.cut import Window
from k710.video.decoding import decoder_log
from k710.video.encode import Encoding, encode_window, encoder_versions
from k710.video.frames import read_frames
from k710.video.profiles import PROFILES, Profile, add_stream
from manifest import HERE, device

VIDEOS = HERE.parents[1] / "shared" / "videos"
CLIPS = ("Tw2yXa6CzWE", "hitting_baseball", "making_cake", "playing_guitar", "yoga")
SECONDS = 10
NUM_WANTED = 8
DEFAULT = Profile("default", 250, (("preset", "medium"), ("crf", "23")), 0)
NAMES = (DEFAULT.name, *PROFILES)
# Faster than decord at least so many times, at no more than so many times the bytes of `default`.
TARGETS = {"balanced": (5.5, 1.65), "intra": (12, 4.1)}
SSIM_EVERY = 15  # frames
Luma = npt.NDArray[np.uint8]  # (height, width)


@dataclass(frozen=True)
class Cost:
    """What one encode of one clip is like. PSNR and SSIM are of luma, against the source."""

    bytes: int
    bytes_to_default: float
    psnr_db: float
    psnr_to_default_db: float
    ssim: float
    encode_s: float


def encode_default(path: Path) -> bytes:
    """The clip as x264 makes it if it is told nothing."""
    file = io.BytesIO()
    with open_video(path) as (source, pictures), av.open(file, "w", format="mp4") as container:
        fps = pictures.average_rate
        assert fps is not None
        size = (pictures.codec_context.width, pictures.codec_context.height)
        stream = add_stream(container, DEFAULT, size=size, fps=fps)
        for number, frame in enumerate(source.decode(pictures)):
            frame.pts, frame.time_base, frame.pict_type = number, 1 / fps, 0
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def encode(path: Path, name: str) -> bytes:
    """The clip as it goes into a shard."""
    if name == DEFAULT.name:
        return encode_default(path)
    with decoder_log() as log, open_video(path) as (_, stream):
        _, encoded = encode_window(stream, log, Window(0, SECONDS), Encoding(name), from_s=0)
    assert encoded is not None, f"{path} is damaged"
    return encoded.data


def lumas(source: Path | bytes) -> list[Luma]:
    with open_video(source) as (container, stream):
        return [
            cast(Luma, frame.to_ndarray()[: frame.height]) for frame in container.decode(stream)
        ]


def psnr_db(a: Sequence[Luma], b: Sequence[Luma]) -> float:
    """Of the mean square over all frames."""
    squares = [np.square(x.astype(np.int32) - y).mean() for x, y in zip(a, b, strict=True)]
    return float(10 * np.log10(255**2 / np.mean(squares)))


def ssim(a: Luma, b: Luma) -> float:
    """Structural similarity (Wang et al. 2004) over windows of 8 x 8, one every 4 pixels."""

    def means(image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        sums = np.pad(image.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        windows = sums[8:, 8:] - sums[:-8, 8:] - sums[8:, :-8] + sums[:-8, :-8]
        found: npt.NDArray[np.float64] = windows[::4, ::4] / 64
        return found

    x, y = a.astype(np.float64), b.astype(np.float64)
    mean_x, mean_y = means(x), means(y)
    var_x, var_y = means(x * x) - mean_x**2, means(y * y) - mean_y**2
    cov = means(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    top = (2 * mean_x * mean_y + c1) * (2 * cov + c2)
    return float((top / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))).mean())


def costs_of(path: Path, rounds: int) -> tuple[dict[str, Cost], dict[str, bytes]]:
    """Each encode's cost and bytes; its time is the median of rounds in turn."""
    source = lumas(path)
    data: dict[str, bytes] = {}
    took: dict[str, list[float]] = {name: [] for name in NAMES}
    for _ in range(rounds):
        for name in NAMES:
            started = time.perf_counter()
            data[name] = encode(path, name)
            took[name].append(time.perf_counter() - started)
    costs: dict[str, Cost] = {}
    for name in NAMES:
        made = lumas(data[name])
        pairs = list(zip(source, made, strict=True))[SSIM_EVERY // 2 :: SSIM_EVERY]
        psnr = psnr_db(source, made)
        costs[name] = Cost(
            bytes=len(data[name]),
            bytes_to_default=len(data[name]) / len(data[DEFAULT.name]),
            psnr_db=psnr,
            psnr_to_default_db=psnr - (costs[DEFAULT.name].psnr_db if costs else psnr),
            ssim=statistics.mean(ssim(x, y) for x, y in pairs),
            encode_s=statistics.median(took[name]),
        )
    return costs, data


def with_pyav(path: Path, indices: Sequence[int]) -> npt.NDArray[np.uint8]:
    frames = {}
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "NONE"
        container.streams.video[0].codec_context.thread_count = 1
        for number, frame in enumerate(container.decode(video=0)):
            if number in indices:
                frames[number] = frame.to_ndarray(format="rgb24")
                if len(frames) == len(indices):
                    break
    return np.stack([frames[index] for index in indices])


def readers(path: Path, data: dict[str, bytes]) -> dict[str, Callable[[list[int]], object]]:
    """What reads the frames at a list of indices, by the name that results have for it."""
    decord: Any = importlib.import_module("decord")

    def with_decord(indices: list[int]) -> object:
        reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
        return reader.get_batch(indices).asnumpy()

    found: dict[str, Callable[[list[int]], object]] = {
        "decord": with_decord,
        "decord_unsorted": lambda indices: with_decord(
            random.Random(0).sample(indices, len(indices))
        ),
        "pyav": lambda indices: with_pyav(path, indices),
        "k710": lambda indices: read_frames(path, indices),
    }
    for name, clip in data.items():
        found[name] = lambda indices, clip=clip: read_frames(clip, indices)  # type: ignore[misc]
        found[f"{name}_yuv"] = lambda indices, clip=clip: read_frames(  # type: ignore[misc]
            clip, indices, pixels="yuv420p"
        )
    return found


def read_times(
    clips: dict[str, dict[str, bytes]], lists: Sequence[list[int]], rounds: int
) -> dict[str, dict[str, list[float]]]:
    """Per clip and reader the ms to read one list, a mean over the lists, for each round."""
    times: dict[str, dict[str, list[float]]] = {}
    for clip, data in clips.items():
        contestants = readers(VIDEOS / f"{clip}.mp4", data)
        for read in contestants.values():
            read(lists[0])  # the first one loads code
        times[clip] = {name: [] for name in contestants}
        for _ in range(rounds):
            took = dict.fromkeys(contestants, 0.0)
            for indices in lists:
                for name, read in contestants.items():
                    started = time.perf_counter()
                    read(indices)
                    took[name] += time.perf_counter() - started
            for name, seconds in took.items():
                times[clip][name].append(seconds * 1000 / len(lists))
    return times


def totals(
    costs: dict[str, dict[str, Cost]], times: dict[str, dict[str, list[float]]]
) -> dict[str, dict[str, Any]]:
    """Over all clips: how each encode and reader compares."""
    summed = {
        name: [sum(rounds) for rounds in zip(*(times[clip][name] for clip in CLIPS), strict=True)]
        for name in times[CLIPS[0]]
    }
    results: dict[str, dict[str, Any]] = {}
    for name, rounds in summed.items():
        ratios = [slow / fast for slow, fast in zip(summed["decord"], rounds, strict=True)]
        results[name] = {
            "read_ms": round(statistics.median(rounds) / len(CLIPS), 2),
            "times_decord": round(statistics.median(ratios), 2),
            "times_decord_range": [round(min(ratios), 2), round(max(ratios), 2)],
        }
    for name in NAMES:
        of_clips = [costs[clip][name] for clip in CLIPS]
        sizes = [cost.bytes for cost in of_clips]
        defaults = [costs[clip][DEFAULT.name].bytes for clip in CLIPS]
        results[name] |= {
            "bytes_to_default": round(sum(sizes) / sum(defaults), 3),
            "bytes_to_default_mean": round(
                statistics.mean(cost.bytes_to_default for cost in of_clips), 3
            ),
            "bytes_per_second": round(sum(sizes) / len(CLIPS) / SECONDS),
            "psnr_db": round(statistics.mean(cost.psnr_db for cost in of_clips), 2),
            "psnr_to_default_db": round(
                statistics.mean(cost.psnr_to_default_db for cost in of_clips), 2
            ),
            "ssim": round(statistics.mean(cost.ssim for cost in of_clips), 4),
            "encode_s": round(sum(cost.encode_s for cost in of_clips), 2),
        }
    return results


def targets(results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        name: {
            "times_decord_at_least": faster,
            "bytes_to_default_at_most": larger,
            "met": results[name]["times_decord"] >= faster
            and max(results[name][key] for key in ("bytes_to_default", "bytes_to_default_mean"))
            <= larger,
        }
        for name, (faster, larger) in TARGETS.items()
    }


def x264_version(data: bytes) -> str:
    """What x264 writes into each stream about itself."""
    found = re.search(rb"x264 - core (\d+)", data)
    return found.group(1).decode() if found else "unknown"


def show(results: dict[str, dict[str, Any]]) -> None:
    print(
        f"{'':>16} {'bytes':>6} {'PSNR':>6} {'SSIM':>7} {'encode':>7} {'read':>8} {'x decord':>9}"
    )
    for name, result in results.items():
        cost = (
            f"{result['bytes_to_default']:5.2f}x {result['psnr_db']:6.2f} "
            f"{result['ssim']:7.4f} {result['encode_s']:6.2f}s"
            if name in NAMES
            else " " * 30
        )
        print(f"{name:>16} {cost} {result['read_ms']:6.1f}ms {result['times_decord']:8.2f}x")


def rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lists", type=int, default=8)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "gop.json")
    arguments = parser.parse_args()
    costs: dict[str, dict[str, Cost]] = {}
    data: dict[str, dict[str, bytes]] = {}
    for clip in CLIPS:
        costs[clip], data[clip] = costs_of(VIDEOS / f"{clip}.mp4", arguments.rounds)
        print(f"{clip}: encoded", flush=True)
    rng = random.Random(0)
    lists = [sorted(rng.sample(range(SECONDS * 30), NUM_WANTED)) for _ in range(arguments.lists)]
    times = read_times(data, lists, arguments.rounds)
    results = totals(costs, times)
    report = {
        "benchmark": f"bytes, pictures and time to read {NUM_WANTED} random frames of 5 clips of "
        f"{SECONDS} s; medians of {arguments.rounds} rounds over {arguments.lists} lists",
        "device": device(),
        "versions": {
            **encoder_versions(),
            "x264": x264_version(data[CLIPS[0]][DEFAULT.name]),
            "decord": importlib.import_module("decord").__version__,
        },
        "settings": {
            name: {"gop": profile.gop, **dict(profile.options)}
            for name, profile in {DEFAULT.name: DEFAULT, **PROFILES}.items()
        },
        "totals": results,
        "targets": targets(results),
        "clips": {
            clip: {
                "costs": {name: rounded(asdict(cost)) for name, cost in costs[clip].items()},
                "read_ms": {
                    name: round(statistics.median(rounds), 2)
                    for name, rounds in times[clip].items()
                },
            }
            for clip in CLIPS
        },
    }
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    show(results)
    print(json.dumps(report["targets"]))


if __name__ == "__main__":
    main()
