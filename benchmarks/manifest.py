"""How fast, and in how much memory, does `k710 build-manifest` make K710 of full-size lists?

    python benchmarks/manifest.py [--runs 5] [--copies 20] [--out benchmarks/results/manifest.json]

Synthesises lists with the published counts and overlaps (1,135,959 train rows and the val and test
lists), and runs in turn, as whole processes:

    k710     the command line
    plain    the same rules in pandas, written plainly: the baseline
    tuned    the same rules in pandas, tuned for memory and speed
    floor    DuckDB reads those CSVs and writes one sorted zstd Parquet: what no tool can go below

Then `--copies` times the rows under `--memory-limit 2GB`, against one time the rows under that
limit. Prints the medians and writes them with the device's description.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import machine
from synthetic_lists import write_lists

HERE = Path(__file__).resolve().parent
FLOOR = """
import sys, duckdb
duckdb.connect().execute(
    "copy (from read_csv($lists, union_by_name=true, filename=true) "
    "order by filename, youtube_id, time_start, time_end) "
    "to $out (format parquet, compression zstd)",
    {"lists": sys.argv[1] + "/*/*.csv", "out": sys.argv[2] + ".parquet"},
).fetchall()
"""
LIMIT = "2GB"


@dataclass(frozen=True)
class Cost:
    """What one process took."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def k710(lists: Path, out: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "k710_cli", "build-manifest", "--json"),
        *("--annotations", str(lists), "--work", str(out), "--memory-limit", LIMIT),
    ]


def script(name: str) -> Callable[[Path, Path], list[str]]:
    return lambda lists, out: [sys.executable, str(HERE / name), str(lists), str(out)]


def floor(lists: Path, out: Path) -> list[str]:
    return [sys.executable, "-c", FLOOR, str(lists), str(out)]


CONTESTANTS: dict[str, Callable[[Path, Path], list[str]]] = {
    "k710": k710,
    "plain": script("manifest_in_plain_pandas.py"),
    "tuned": script("manifest_in_pandas.py"),
    "floor": floor,
}


def measure(command: list[str]) -> Cost:
    """Run a command to its end; its own children's memory doesn't count."""
    started = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall_s = time.perf_counter() - started
        if process.returncode:
            output.seek(0)
            raise SystemExit(f"{command} failed:\n{output.read().decode()}")
    return Cost(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6)


def compete(lists: Path, scratch: Path, runs: int) -> dict[str, list[Cost]]:
    """`runs` runs of each contestant, in turn, after one round that doesn't count."""
    costs: dict[str, list[Cost]] = {name: [] for name in CONTESTANTS}
    for run in range(runs + 1):
        for name, command in CONTESTANTS.items():
            out = scratch / name
            shutil.rmtree(out, ignore_errors=True)
            cost = measure(command(lists, out))
            print(f"  run {run} {name}: {cost.wall_s:.2f} s, {cost.peak_mb:.0f} MB", flush=True)
            if run:
                costs[name].append(cost)
    return costs


def summary(costs: list[Cost]) -> dict[str, Any]:
    return {
        "wall_s": round(statistics.median(cost.wall_s for cost in costs), 3),
        "cpu_s": round(statistics.median(cost.cpu_s for cost in costs), 3),
        "peak_mb": round(max(cost.peak_mb for cost in costs)),
        "runs": [{key: round(value, 3) for key, value in asdict(cost).items()} for cost in costs],
    }


def device() -> dict[str, Any]:
    return machine.device("duckdb", "pandas", "pyarrow")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--copies", type=int, default=20)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "manifest.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        rows = write_lists(scratch / "lists")
        print(f"{rows:,} rows")
        costs = compete(scratch / "lists", scratch, arguments.runs)
        many_rows = write_lists(scratch / "many", copies=arguments.copies)
        print(f"{many_rows:,} rows, --memory-limit {LIMIT}")
        many = measure(k710(scratch / "many", scratch / "k710_many"))
    results = {name: summary(taken) for name, taken in costs.items()}
    wall = {name: result["wall_s"] for name, result in results.items()}
    report = {
        "benchmark": "build-manifest on full-size synthetic lists; medians, highest peak memory",
        "device": device(),
        "rows": rows,
        "results": results,
        "ratios": {
            "plain_to_k710_wall": round(wall["plain"] / wall["k710"], 2),
            "tuned_to_k710_wall": round(wall["tuned"] / wall["k710"], 2),
            "k710_to_floor_wall": round(wall["k710"] / wall["floor"], 2),
        },
        "many": {
            "copies": arguments.copies,
            "rows": many_rows,
            "memory_limit": LIMIT,
            **{key: round(value, 2) for key, value in asdict(many).items()},
            "wall_to_one_copy": round(many.wall_s / wall["k710"], 1),
        },
    }
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    for name, result in results.items():
        print(
            f"{name:>6} {result['wall_s']:7.2f} s {result['cpu_s']:7.2f} s CPU "
            f"{result['peak_mb']} MB"
        )
    print(json.dumps(report["ratios"]), json.dumps(report["many"]))


if __name__ == "__main__":
    main()
