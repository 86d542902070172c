"""How long does `k710 index` take to find a million videos, and how fast does it read a .tar.gz?

    python benchmarks/index.py [--files 1000000] [--runs 3] [--out benchmarks/results/index.json]

Builds a manifest from full-size synthetic lists, and a tree of empty files for it: class folders in
three spellings, a flat folder, numbered folders, bare ids, second copies, and names that are no
clip's. Then `k710 index` runs as a whole process: once with no table there, and again on its own
table. Last, a .tar.gz of 1 GB is listed, against `gunzip -c` of it. Prints all and writes it with
the device's description.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import duckdb

from k710.sources.archives import whole_members
from manifest import HERE, Cost, device, k710, measure
from synthetic_lists import write_lists

MEMBER_BYTES = 1_000_000


def names(work: Path, num_files: int) -> Iterator[str]:
    """Paths of videos, most of them of clips in the manifest, in the layouts that labs have."""
    clips = duckdb.execute(
        "select clip_id, youtube_id, coalesce(min(label_name), 'unlabelled') from read_parquet($1) "
        "group by clip_id, youtube_id order by md5(clip_id)",
        [str(work / "manifest.parquet")],
    ).fetchall()
    rng = random.Random(0)
    for number in range(num_files):
        again, place = divmod(number, len(clips))
        clip_id, youtube_id, label = clips[place]
        kind = rng.random()
        if kind < 0.05:
            yield f"unknown/{number:011d}_000000_000010.mp4"
        elif kind < 0.15:
            yield f"bare{again}/{label.replace(' ', '_')}/{youtube_id}.webm"
        elif kind < 0.25:
            yield f"flat{again}/{clip_id}.mp4"
        elif kind < 0.5:
            yield f"vol{again}_{number % 100:02d}/{clip_id}.mkv"
        elif kind < 0.75:
            yield f"train{again}/{label}/{clip_id}.mp4"
        else:
            yield f"val{again}/{label.replace(' ', '')}/{clip_id}.MP4"


def plant(root: Path, work: Path, num_files: int) -> int:
    """Make the files, all empty; returns how many there are."""
    made: set[Path] = set()
    num_made = 0
    for name in names(work, num_files):
        path = root / name
        if path.parent not in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            made.add(path.parent)
        path.touch()
        num_made += 1
    return num_made


def index(root: Path, work: Path) -> list[str]:
    command = ["index", "--videos", str(root), "--work", str(work), "--json"]
    return [sys.executable, "-m", "k710_cli", *command]


def pack(path: Path, num_members: int) -> None:
    """A .tar.gz of bytes that don't shrink, as videos don't."""
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for number in range(num_members):
            member = tarfile.TarInfo(f"train/{number:011d}_000000_000010.mp4")
            member.size = MEMBER_BYTES
            source = path.with_name("member")
            source.write_bytes(random.Random(number).randbytes(MEMBER_BYTES))
            with source.open("rb") as file:
                tar.addfile(member, file)


def timed_archive(scratch: Path, runs: int, num_members: int) -> dict[str, Any]:
    path = scratch / "train.tar.gz"
    pack(path, num_members)
    ours, gunzip = [], []
    for _ in range(runs + 1):  # the first brings it into memory
        started = time.perf_counter()
        assert sum(1 for _ in whole_members(path)) == num_members
        ours.append(time.perf_counter() - started)
        started = time.perf_counter()
        subprocess.run(["gunzip", "-c", str(path)], stdout=subprocess.DEVNULL, check=True)
        gunzip.append(time.perf_counter() - started)
    return {
        "bytes": path.stat().st_size,
        "members": num_members,
        "list_s": round(statistics.median(ours[1:]), 2),
        "gunzip_s": round(statistics.median(gunzip[1:]), 2),
    }


def cost(taken: list[Cost]) -> dict[str, Any]:
    return {
        "wall_s": round(statistics.median(one.wall_s for one in taken), 2),
        "cpu_s": round(statistics.median(one.cpu_s for one in taken), 2),
        "peak_mb": round(max(one.peak_mb for one in taken)),
        "runs": [{key: round(value, 2) for key, value in asdict(one).items()} for one in taken],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "index.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        work = scratch / "work"
        write_lists(scratch / "lists")
        measure(k710(scratch / "lists", work))
        num_files = plant(scratch / "videos", work, arguments.files)
        print(f"{num_files:,} files", flush=True)
        first, again = [], []
        for _ in range(arguments.runs):
            for table in ("sources", "copies"):
                for suffix in ("", ".json"):
                    (work / f"{table}.parquet{suffix}").unlink(missing_ok=True)
            first.append(measure(index(scratch / "videos", work)))
            again.append(measure(index(scratch / "videos", work)))
            print(f"  {first[-1].wall_s:.1f} s, again {again[-1].wall_s:.1f} s", flush=True)
        clips = json.loads((work / "sources.parquet.json").read_text())["rows"]
        archive = timed_archive(scratch, arguments.runs, 1000)
    report = {
        "benchmark": "k710 index, whole processes; medians, highest peak memory",
        "device": device(),
        "files": num_files,
        "clips": clips,
        "first": cost(first),
        "again": cost(again),
        "archive": archive,
    }
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps({key: value for key, value in report.items() if key != "device"}))


if __name__ == "__main__":
    main()
