"""How fast does `k710 shard` make clips, and in how much memory?

    python benchmarks/shard.py [--rounds 3] [--out benchmarks/results/shard.json]

On the real clips in ../shared/videos, each several times under names of its own:

    encode    clips/s/core of one worker against the ffmpeg program (imageio-ffmpeg's) that does
              the same cut, scale and x264 settings with one thread for each step: both on one core,
              since ffmpeg decodes, scales and encodes at the same time where it has more; and two
              workers against one
    copy      bytes/s of `--profile copy` on probed copies against `tar cf` plus `sha256sum`
    memory    the largest worker on 1080p sources, and whether one grows over 2,000 clips
    archive   how often a .tar.gz of 1 GB is read when clips all over it are wanted

Whole processes in turn; medians. Needs imageio-ffmpeg. Writes all with the device's description.
"""

import argparse
import csv
import importlib
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

import k710
from k710.shards.clip import PlannedClip
from k710.shards.encode_clip import ClipSettings, ClipTask, stage_clip
from k710.sources.clip_source import ChosenCopy, ClipSource
from k710.sources.index import index_videos
from k710.statuses import Status
from k710.video.byte_range import ByteRange
from k710.video.cut import Window
from k710.video.encode import Encoding, encoder_versions, scaled_size
from k710.video.profiles import add_stream, profile_of
from manifest import HERE, device, measure

VIDEOS = HERE.parents[1] / "shared" / "videos"
CLIPS = (
    *("Tw2yXa6CzWE.mp4", "hitting_baseball.mp4", "making_cake.mp4", "playing_guitar.mp4"),
    *("yoga.mp4", "jesse_dance.mp4", "mmaction_test.mp4", "arm_wrestling_demo.mp4"),
)
SECONDS = 10
VIEWS = ("--views", "k400/train", "--json")
SCALER = "bicubic+accurate_rnd+full_chroma_int+bitexact"
READS = """
import sys, k710.shards
k710.shards.make_shards(["k400/train"], work=sys.argv[1], workers=2)
print(open("/proc/self/io").read().split()[1])
"""


def youtube_id(number: int) -> str:
    return f"{number:011d}"


def clip_name(number: int, seconds: int = SECONDS) -> str:
    return f"{youtube_id(number)}_{0:06d}_{seconds:06d}"


def build(folder: Path, numbers: Sequence[int], seconds: int = SECONDS) -> Path:
    """A work directory whose manifest has these clips."""
    lists = folder / "annotations" / "k400"
    lists.mkdir(parents=True)
    with (lists / "train.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("label", "youtube_id", "time_start", "time_end", "split"))
        for number in numbers:
            writer.writerow(("archery", youtube_id(number), 0, seconds, "train"))
    k710.build_manifest(folder / "annotations", work=folder / "work")
    return folder / "work"


def link_clips(folder: Path, num: int, *, names: Sequence[str] = CLIPS) -> list[Path]:
    """`num` copies of the real clips, named as clips of the manifest."""
    folder.mkdir(parents=True)
    paths = []
    for number in range(num):
        path = folder / f"{clip_name(number)}.mp4"
        shutil.copy(VIDEOS / names[number % len(names)], path)
        path.chmod(0o644)
        paths.append(path)
    return paths


def k710_command(work: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "k710_cli", "shard", "--work", str(work), *VIEWS, *options]


def start_again(work: Path) -> None:
    for name in ("shards", "outcomes", "staging"):
        shutil.rmtree(work / name, ignore_errors=True)
    for path in (*work.glob("plan.parquet*"), *work.glob("index.parquet*")):
        path.unlink()


# --- encode


def ffmpeg_command(source: Path, out: Path) -> list[str]:
    """What the ffmpeg program does with the same settings."""
    # By its name: checks run where it is not installed.
    ffmpeg = importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe()
    with av.open(str(source)) as container:
        stream = container.streams.video[0]
        width, height = scaled_size(stream.width, stream.height, 320)
        rate = stream.average_rate
    profile = profile_of("balanced")
    options = [word for name, value in settings(profile).items() for word in (f"-{name}", value)]
    return [
        *(ffmpeg, "-v", "error", "-nostdin", "-y", "-threads", "1", "-i", str(source)),
        *("-t", str(SECONDS), "-an", "-filter_threads", "1"),
        *("-vf", f"scale={width}:{height}:flags={SCALER}:out_range=tv,fps={rate}"),
        *("-pix_fmt", "yuv420p", "-c:v", "libx264", *options, "-g", str(profile.gop)),
        *("-threads", "1", "-fflags", "+bitexact", "-f", "mp4", str(out)),
    ]


def settings(profile: Any) -> dict[str, str]:
    """The options that k710 really gives to x264."""
    with av.open(io.BytesIO(), "w", format="mp4") as container:
        stream = add_stream(container, profile, size=(64, 64), fps=Fraction(30))
        return dict(stream.codec_context.options)


def encode(scratch: Path, num: int, rounds: int) -> dict[str, Any]:
    paths = link_clips(scratch / "videos", num)
    work = build(scratch, range(num))
    index_videos([scratch / "videos"], work=work)
    commands = [ffmpeg_command(path, scratch / "out.mp4") for path in paths]
    all_cores = os.sched_getaffinity(0)
    contestants = (
        ("one_worker_on_one_core", "1", {0}),
        ("ffmpeg_on_one_core", "", {0}),
        ("one_worker", "1", all_cores),
        ("ffmpeg", "", all_cores),
        ("two_workers", "2", all_cores),
    )
    wall: dict[str, list[float]] = {name: [] for name, _, _ in contestants}
    sizes: dict[str, int] = {}
    for number in range(rounds):
        for name, workers, cores in contestants:
            os.sched_setaffinity(0, cores)  # what is started here inherits it
            start_again(work)
            started = time.perf_counter()
            if workers:
                measure(k710_command(work, "--workers", workers))
                sizes[name] = sum(p.stat().st_size for p in (work / "shards").glob("*.tar"))
            else:
                sizes[name] = 0
                for command in commands:
                    subprocess.run(command, check=True)
                    sizes[name] += (scratch / "out.mp4").stat().st_size
            wall[name].append(time.perf_counter() - started)
            os.sched_setaffinity(0, all_cores)
            print(f"  round {number} {name}: {num / wall[name][-1]:.2f} clips/s", flush=True)
    rates = {name: num / statistics.median(times) for name, times in wall.items()}
    return {
        "clips": num,
        "clips_per_s": {name: round(rate, 3) for name, rate in rates.items()},
        "bytes": sizes,
        "one_core_to_ffmpeg": round(
            rates["one_worker_on_one_core"] / rates["ffmpeg_on_one_core"], 3
        ),
        "one_worker_to_ffmpeg_with_all_cores": round(rates["one_worker"] / rates["ffmpeg"], 3),
        "two_workers_to_one": round(rates["two_workers"] / rates["one_worker"], 3),
        "wall_s": {name: [round(t, 2) for t in times] for name, times in wall.items()},
    }


# --- copy


def copy(scratch: Path, num: int, rounds: int) -> dict[str, Any]:
    paths = link_clips(scratch / "videos", num, names=CLIPS[:5])
    num_bytes = sum(path.stat().st_size for path in paths)
    work = build(scratch, range(num))
    index_videos([scratch / "videos"], work=work, probe=True)
    wall: dict[str, list[float]] = {"k710": [], "tar_and_sha256sum": []}
    tar = f"tar cf {scratch}/all.tar -C {scratch} videos && sha256sum {scratch}/all.tar"
    for number in range(rounds + 1):
        start_again(work)
        cost = measure(k710_command(work, "--profile", "copy"))
        (scratch / "all.tar").unlink(missing_ok=True)
        other = measure(["sh", "-c", tar])
        print(f"  round {number} copy {cost.wall_s:.1f} s, tar {other.wall_s:.1f} s", flush=True)
        if number:  # the first fills the disk's cache
            wall["k710"].append(cost.wall_s)
            wall["tar_and_sha256sum"].append(other.wall_s)
    rates = {name: num_bytes / statistics.median(times) for name, times in wall.items()}
    return {
        "clips": num,
        "bytes": num_bytes,
        "mb_per_s": {name: round(rate / 1e6, 1) for name, rate in rates.items()},
        "k710_to_tar_and_sha256sum": round(rates["k710"] / rates["tar_and_sha256sum"], 3),
        "wall_s": {name: [round(t, 2) for t in times] for name, times in wall.items()},
    }


# --- memory


def task(path: Path, folder: Path, number: int, encoding: Encoding, seconds: int) -> ClipTask:
    copy = ChosenCopy(str(path), trimmed=True, starts_at_s=0.0)
    name = clip_name(number, seconds)
    source = ClipSource(name, Window(0, seconds), Status.OK, None, copy, "index")
    clip = PlannedClip(shard=0, position=number, is_tried=True, rivals=0, source=source)
    return ClipTask(clip, ByteRange(str(path)), ClipSettings(encoding, str(folder)))


def rss_mb(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(field))
    return round(int(line.split()[1]) / 1024, 1)


def worker(folder: str, paths: str, num: str, short_side: str, seconds: str) -> None:
    """Stage `num` clips in this process, and print what memory that took."""
    Path(folder).mkdir()
    encoding = Encoding(short_side=int(short_side))
    sources = [Path(path) for path in json.loads(paths)]
    after: dict[int, float] = {}
    for number in range(int(num)):
        made = task(sources[number % len(sources)], Path(folder), number, encoding, int(seconds))
        stage_clip(made)
        if number + 1 in (1, 100, 200, 500, 1000, 1500, 2000):
            after[number + 1] = rss_mb("VmRSS")
    print(json.dumps({"rss_mb_after_clips": after, "peak_mb": rss_mb("VmHWM")}))


def in_a_worker(folder: Path, paths: list[Path], num: int, side: int, seconds: int) -> Any:
    arguments = (str(folder), json.dumps([str(path) for path in paths]), str(num), str(side))
    command = [sys.executable, __file__, "worker", *arguments, str(seconds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def large_video(path: Path) -> Path:
    """A real clip at 1920x1080, 10 s."""
    with av.open(str(VIDEOS / "jesse_dance.mp4")) as source, av.open(str(path), "w") as target:
        stream = target.add_stream("libx264", rate=30, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        frames = [frame for frame in source.decode(video=0)]
        for number in range(30 * SECONDS):
            frame = frames[number % len(frames)].reformat(1920, 1080)
            frame.pts, frame.time_base, frame.pict_type = number, Fraction(1, 30), 0
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return path


def memory(scratch: Path) -> dict[str, Any]:
    large = [large_video(scratch / "large.mp4"), VIDEOS / "demo_skeleton.mp4"]
    real = [path for path in sorted(VIDEOS.glob("*.m*")) if "corrupted" not in path.name]
    return {
        "1080p": in_a_worker(scratch / "a", large, 12, 320, SECONDS),
        "2000_clips": in_a_worker(scratch / "b", [VIDEOS / n for n in CLIPS], 2000, 128, 1),
        "all_videos_200_clips": in_a_worker(scratch / "c", real, 200, 128, 2),
    }


# --- archive


def archive(scratch: Path, num: int, wanted: int) -> dict[str, Any]:
    path = scratch / "part_0.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for number in range(num):
            name = CLIPS[number % len(CLIPS)]
            tar.add(VIDEOS / name, f"part_0/{clip_name(number)}.mp4")
    numbers = [round(i * (num - 1) / (wanted - 1)) for i in range(wanted)]
    work = build(scratch, numbers)
    index_videos([path], work=work)
    size = path.stat().st_size
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", READS, str(work)], check=True, capture_output=True, text=True
    )
    wall_s = time.perf_counter() - started
    started = time.perf_counter()
    subprocess.run(["sh", "-c", f"gzip -dc {path} | cat >/dev/null"], check=True)
    gunzip_s = time.perf_counter() - started
    return {
        "bytes": size,
        "members": num,
        "clips_wanted_all_over_it": wanted,
        "bytes_read_by_main_process": int(done.stdout),
        "times_read": round(int(done.stdout) / size, 3),
        "wall_s": round(wall_s, 2),
        "gzip_dc_s": round(gunzip_s, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("encode", "copy", "memory", "archive"))
    parser.add_argument("--out", type=Path, default=HERE / "results" / "shard.json")
    arguments = parser.parse_args()
    parts: dict[str, Callable[[Path], dict[str, Any]]] = {
        "encode": lambda scratch: encode(scratch, 32, arguments.rounds),
        "copy": lambda scratch: copy(scratch, 3000, arguments.rounds),
        "memory": memory,
        "archive": lambda scratch: archive(scratch, 1400, 32),
    }
    report = json.loads(arguments.out.read_text()) if arguments.only else {}
    report["benchmark"] = "k710 shard on real clips; whole processes in turn, medians"
    report["device"] = {**device(), "encoder": encoder_versions()}
    for name, part in parts.items():
        if arguments.only in (None, name):
            with tempfile.TemporaryDirectory() as temporary:
                report[name] = part(Path(temporary))
            print(name, json.dumps(report[name]), flush=True)
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        worker(*sys.argv[2:])
    else:
        main()
