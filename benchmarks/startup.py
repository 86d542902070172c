"""How much CPU does `k710 --help` take?

    python benchmarks/startup.py [--runs 20] [--out benchmarks/results/startup.json]

Prints the median over whole processes, against that of a Python that does nothing, and writes both
with the device's description.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

from manifest import HERE, device, measure

COMMANDS = {
    "k710 --help": [sys.executable, "-m", "k710_cli", "--help"],
    "python -c pass": [sys.executable, "-c", "pass"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "startup.json")
    arguments = parser.parse_args()
    cpu_s: dict[str, float] = {}
    for name, command in COMMANDS.items():
        measure(command)  # the first run may compile
        runs = [measure(command).cpu_s for _ in range(arguments.runs)]
        cpu_s[name] = round(statistics.median(runs), 3)
        print(f"{name}: {cpu_s[name]} s of CPU")
    report = {
        "benchmark": f"CPU of whole processes, medians of {arguments.runs} runs",
        "device": device(),
        "cpu_s": cpu_s,
    }
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
