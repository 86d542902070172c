"""docs/ shows what is: options that are there, scripts that bash reads, numbers as measured."""

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from support.command_line import k710

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
CLUSTER = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"k710 ([a-z][a-z-]+)((?:[^`\n]|\\\n)*)", CLUSTER)


@cache
def options_of(command: str) -> set[str]:
    done = k710(command, "--help")
    assert done.returncode == 0
    return set(re.findall(r"--[a-z][a-z-]*", done.stdout))


def test_every_option_that_is_shown_is_there() -> None:
    assert len(COMMANDS) > 5
    for command, rest in COMMANDS:
        assert set(re.findall(r" (--[a-z][a-z-]*)", rest)) <= options_of(command), (command, rest)


@pytest.mark.parametrize("script", re.findall(r"^```(?:bash|sh)\n(.*?)^```", CLUSTER, re.M | re.S))
def test_bash_reads_the_scripts(script: str) -> None:
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_extrapolation_is_of_the_measurements_that_there_are(tmp_path: Path) -> None:
    out = tmp_path / "cluster.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "cluster.py"), "--out", str(out)]
    subprocess.run(command, capture_output=True, check=True)
    assert json.loads(out.read_text()) == json.loads((RESULTS / "cluster.json").read_text())


def test_numbers_of_clusters_are_those_of_the_benchmarks() -> None:
    report = json.loads((RESULTS / "cluster.json").read_text())
    for name, one in report["datasets"].items():
        cells = [f"{one['clips']:,}", f"{one['hours_of_video']:,}", f"{one['core_hours']:,}"]
        cells += [f"{one['hours_on_16_cores']}", *(f"{gb:,} GB" for gb in one["gb"].values())]
        assert f"| {name} | {' | '.join(cells)} |" in CLUSTER
    words = " ".join(CLUSTER.split())
    per_core = report["clips_per_s_and_core"]
    assert f"{report['clips_measured']} encodes" in words and f"{per_core} clips/s" in words
    times = report["encode_to_balanced"]
    assert f"takes {times['compact']} times as long" in words
    assert f"{times['intra']} times for `intra`" in words
    assert f"as fast as {report['cores_that_one_driver_packs_for']} cores" in words
    shard = json.loads((RESULTS / "shard.json").read_text())
    assert f"in memory: {shard['memory']['1080p']['peak_mb']:.0f} MB" in words
    assert f"{report['videos_per_day_and_address']:,} videos a day" in words
    days = {name: one["days_of_one_address"] for name, one in report["datasets"].items()}
    assert f"K710 in {days['K710']} days, K400 in {days['K400']}." in words
    assert f"10,000 clips takes {10_000 / per_core / 3600:.1f} core-hours" in words


def test_what_engines_cost_is_as_measured() -> None:
    report = json.loads((RESULTS / "engines.json").read_text())
    words = " ".join(CLUSTER.split())
    assert f"{report['clips']} real clips" in words
    times = {name: f"{ratio:.2f} times" for name, ratio in report["wall_to_local"].items()}
    assert f"`--engine ray` takes {times['ray']} as long" in words
    assert f"{times['ray_on_cluster']} on a cluster that is up" in words
    assert f"`--finish` {times['parts']}." in words
