"""What do Ray and parts cost, against local processes, on the same clips?

    python benchmarks/engines.py [--clips 64] [--rounds 3] [--out benchmarks/results/engines.json]

Real clips of ../shared/videos, sharded from nothing by whole processes in turn, on two cores:

    local            k710 shard --workers 2
    ray              k710 shard --engine ray --workers 2: starting and ending Ray counts
    ray_on_cluster   the same on a cluster that is up: two nodes of one core
    parts            --part 1/2 and --part 2/2 at once, one worker each, then --finish

All must make the same tars. Writes the walls, and each as a ratio of local's.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray.cluster_utils import Cluster

from k710.sources.index import index_videos
from manifest import HERE, device
from shard import build, k710_command, link_clips, start_again

NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}
SHARD = ("--shard-size", "8MB")  # several shards, so that parts have some to share


def run(*commands: list[str]) -> None:
    """Run these at once."""
    processes = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for command in commands]
    if any([process.wait() for process in processes]):
        raise SystemExit(f"{commands} failed")


def digest(work: Path) -> str:
    """A hash of all tars."""
    tars = sorted((work / "shards").glob("*.tar"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in tars)).hexdigest()


def contestants(work: Path, address: str) -> dict[str, Callable[[], None]]:
    def shard(*options: str) -> list[str]:
        return k710_command(work, *SHARD, *options)

    def parts() -> None:
        run(*(shard("--workers", "1", "--part", part) for part in ("1/2", "2/2")))
        run(shard("--finish"))

    return {
        "local": lambda: run(shard("--workers", "2")),
        "ray": lambda: run(shard("--engine", "ray", "--workers", "2")),
        "ray_on_cluster": lambda: run(shard("--engine", "ray", "--address", address)),
        "parts": parts,
    }


def measured(scratch: Path, num: int, rounds: int) -> dict[str, Any]:
    link_clips(scratch / "videos", num)
    work = build(scratch, range(num))
    index_videos([scratch / "videos"], work=work)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster: Any = Cluster(
        initialize_head=True, head_node_args={**NODE, "include_dashboard": False}
    )
    cluster.add_node(**NODE)
    wall: dict[str, list[float]] = {}
    digests = set()
    try:
        for number in range(rounds):
            for name, contestant in contestants(work, cluster.address).items():
                start_again(work)
                started = time.perf_counter()
                contestant()
                wall.setdefault(name, []).append(time.perf_counter() - started)
                digests.add(digest(work))
                print(f"  round {number} {name}: {wall[name][-1]:.1f} s", flush=True)
    finally:
        cluster.shutdown()
    if len(digests) > 1:
        raise SystemExit("the engines made different tars")
    median_s = {name: statistics.median(times) for name, times in wall.items()}
    return {
        "clips": num,
        "clips_per_s": {name: round(num / s, 3) for name, s in median_s.items()},
        "wall_to_local": {name: round(s / median_s["local"], 3) for name, s in median_s.items()},
        "wall_s": {name: [round(s, 2) for s in times] for name, times in wall.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "engines.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        results = measured(Path(temporary), arguments.clips, arguments.rounds)
    report = {
        "benchmark": "k710 shard by engine on two cores; whole processes in turn, medians",
        "device": device(),
        **results,
    }
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report["wall_to_local"]))


if __name__ == "__main__":
    main()
