"""What do K400, K600, K700 and K710 take? An extrapolation from measured rates, and no run.

    python benchmarks/cluster.py [--out benchmarks/results/cluster.json]

Reads results/shard.json (clips/s with both cores at work, bytes/s of packing) and results/gop.json
(bytes/s of each profile), and multiplies them by the published numbers of clips. It measures
nothing. docs/cluster.md shows the result.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SECONDS = 10  # of nearly every clip
SLEEP_S = 5.0  # k710 download's default, for each address
# Train and val rows of the full lists of 2021; K710 as README has it, and the ids of all val lists.
CLIPS: Mapping[str, int] = {
    "K400": 219_782 + 18_035,
    "K600": 371_354 + 28_318,
    "K700": 544_823 + 34_178,
    "K710": 652_468 + 70_017,
}
PROFILES = ("balanced", "compact", "intra")


def extrapolated(shard: Mapping[str, Any], gop: Mapping[str, Any]) -> dict[str, Any]:
    """The report, of what benchmarks/shard.py and benchmarks/gop.py wrote."""
    per_core = shard["encode"]["clips_per_s"]["two_workers"] / 2
    clip_bytes = shard["encode"]["bytes"]["two_workers"] / shard["encode"]["clips"]
    packed_per_s = shard["copy"]["mb_per_s"]["k710"] * 1e6 / clip_bytes
    totals = gop["totals"]
    return {
        "benchmark": "extrapolated from results/shard.json and results/gop.json: nothing of it ran",
        "device": shard["device"],
        "clips_per_s_and_core": round(per_core, 3),
        "clips_measured": shard["encode"]["clips"],
        "encode_to_balanced": {
            name: round(totals[name]["encode_s"] / totals["balanced"]["encode_s"], 2)
            for name in PROFILES
        },
        "cores_that_one_driver_packs_for": round(packed_per_s / per_core),
        "videos_per_day_and_address": round(86_400 / SLEEP_S),
        "datasets": {
            name: {
                "clips": clips,
                "hours_of_video": round(clips * SECONDS / 3600),
                "core_hours": round(clips / per_core / 3600),
                "hours_on_16_cores": round(clips / per_core / 3600 / 16, 1),
                "gb": {
                    profile: round(clips * SECONDS * totals[profile]["bytes_per_second"] / 1e9)
                    for profile in PROFILES
                },
                "days_of_one_address": round(clips * SLEEP_S / 86_400),
            }
            for name, clips in CLIPS.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE / "results" / "cluster.json")
    arguments = parser.parse_args()
    shard, gop = (
        json.loads((HERE / "results" / f"{name}.json").read_text()) for name in ("shard", "gop")
    )
    report = extrapolated(shard, gop)
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report["datasets"], indent=1))


if __name__ == "__main__":
    main()
