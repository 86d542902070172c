"""What the demo says of this machine: its numbers, and how long it takes in all.

python benchmarks/demo.py [--out benchmarks/results/demo.json]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import machine

HERE = Path(__file__).resolve().parent


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE / "results" / "demo.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "demo"
        start = time.perf_counter()
        command = [sys.executable, "-m", "k710_cli", "demo", "--folder", str(folder)]
        subprocess.run(command, check=True)
        seconds = time.perf_counter() - start
        found = json.loads((folder / "demo.json").read_text())
    report = {
        "benchmark": "k710 demo: top-1 on clips that no training has seen",
        "device": machine.device("torch", "av", "duckdb"),
        "seconds": round(seconds, 1),
        **found,
    }
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
