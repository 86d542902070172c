"""README shows what is: real output, real files, real numbers."""

import ast
import json
import re
import subprocess
from pathlib import Path

import pytest

import k710
from support.command_line import K710
from support.paths import ROOT
from support.readme import README, shown


def output(*arguments: str, cwd: Path) -> list[str]:
    done = subprocess.run([K710, *arguments], cwd=cwd, capture_output=True, text=True)
    return [line.rstrip() for line in done.stdout.splitlines()]


def test_the_real_output_is_shown(real_built: Path) -> None:
    printed = (real_built / "printed.txt").read_text().splitlines()
    assert [line.rstrip() for line in printed] == shown(
        "k710 build-manifest --annotations annotations"
    )
    explain = ("explain", "c9ZWYpxefXQ")
    assert output(*explain, cwd=real_built) == shown(f"k710 {' '.join(explain)}")


def test_label_commands_are_shown_as_they_print(real_labels: Path, tmp_path: Path) -> None:
    labels = output("labels", "--dataset", "k400", "--family", "alphabetical", cwd=tmp_path)
    assert labels[:3] == shown("k710 labels --dataset k400 --family alphabetical | head -3")
    path = tmp_path / "label_map_k710.txt"
    path.symlink_to(real_labels / "videomaev2_label_map_k710_WRONG_NAMES.txt")
    check = shown(f"k710 labels --check {path.name}")
    assert output("labels", "--check", path.name, cwd=tmp_path)[: len(check)] == check


def rooms_shown(package: str) -> dict[str, str]:
    """The rooms of a package in README's tree, in order, each with what it is said to be."""
    tree = re.search(rf"^{package}/ .*\n((?:[├└]── .*\n)+)", README, re.M)
    assert tree
    return dict(re.findall(r"^[├└]── ([\w.]+)/ +(.*)$", tree[1], re.M))


@pytest.mark.parametrize("package", ["k710", "uniformerv2"])
def test_the_tree_names_each_room_and_says_what_it_says_itself(package: str) -> None:
    shown = rooms_shown(package)
    inits = (ROOT / package).glob("*/__init__.py")
    says = {path.parent.name: ast.get_docstring(ast.parse(path.read_text())) for path in inits}
    folders = {path.name for path in (ROOT / package).iterdir() if path.is_dir()}
    assert shown.keys() == {name for name in folders if not name.startswith("_")}
    for room, doc in says.items():
        assert doc and shown[room] == doc.partition("\n")[0].rstrip(".")


def test_the_tree_is_short_and_in_the_order_of_the_data() -> None:
    block = re.search(r"^manifests/ .*?^```", README, re.M | re.S)
    assert block and block[0].count("\n") <= 35
    stages = ["annotations", "manifest", "sources", "download", "shards", "export", "report"]
    assert list(rooms_shown("k710"))[: len(stages)] == stages
    tops = {name for name in re.findall(r"^([\w/]+)/ ", block[0], re.M)}
    assert tops == {name for name in tops if (ROOT / name).is_dir()} >= {"k710", "docs", "tests"}


def test_every_command_is_mentioned() -> None:
    done = subprocess.run([K710, "--help"], capture_output=True, text=True)
    commands = re.findall(r"^│ ([a-z][a-z-]+) ", done.stdout, re.M)
    assert len(commands) >= 5
    for command in commands:
        assert f"k710 {command}" in README or f"scripts/{command}" in README, command


def test_numbers_are_those_of_the_files_that_they_come_from() -> None:
    rules = (ROOT / "k710" / "manifest" / "verdicts.sql").read_text().count("\n")
    words = " ".join(README.split())
    assert f"are {rules} lines of SQL, `k710/manifest/verdicts.sql`." in words
    results = json.loads((ROOT / "benchmarks" / "results" / "manifest.json").read_text())
    for name, result in results["results"].items():
        row = f"| {result['wall_s']:.1f} s | {result['cpu_s']:.1f} s | {result['peak_mb']:,} MB |"
        assert row in README, (name, row)
    startup = json.loads((ROOT / "benchmarks" / "results" / "startup.json").read_text())
    assert f"`k710 --help` takes {startup['cpu_s']['k710 --help']} s of CPU" in README
    many = results["many"]
    assert f"{many['rows']:,} rows" in README
    assert f"{many['wall_s']:.0f} s" in README and f"{many['peak_mb']:,.0f} MB" in README


def test_the_python_example_names_public_things() -> None:
    for name in re.findall(r"k710\.(\w+)\(", README):
        assert name in k710.__all__


def test_what_python_examples_import_is_there() -> None:
    """Read, not run: most of it needs PyTorch."""
    blocks = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)
    nodes = [node for block in blocks for node in ast.walk(ast.parse(block))]
    ours = [n for n in nodes if isinstance(n, ast.ImportFrom) and "uniformerv2" in str(n.module)]
    assert len(ours) > 2
    for node in ours:
        path = ROOT.joinpath(*str(node.module).split("."))
        face = path / "__init__.pyi"
        text = (face if face.exists() else path.with_suffix(".py")).read_text()
        for alias in node.names:
            assert re.search(rf"(as|def|class) {alias.name}\b", text), (node.module, alias.name)


def test_numbers_of_videos_are_those_of_the_benchmarks() -> None:
    results = ROOT / "benchmarks" / "results"
    gop = json.loads((results / "gop.json").read_text())["totals"]
    for name in ("balanced", "compact", "intra"):
        one = gop[name]
        assert (
            f"| {one['bytes_to_default']:.2f} x | {one['psnr_to_default_db']:+.2f} dB |" in README
        )
        assert f"| {one['read_ms']:.1f} ms, {one['times_decord']:.1f} x as fast |" in README
    shard = json.loads((results / "shard.json").read_text())
    encode = shard["encode"]
    assert f": {encode['one_core_to_ffmpeg']:.2f} times |" in README
    assert f": {encode['one_worker_to_ffmpeg_with_all_cores']:.2f} times |" in README
    assert f"| {encode['two_workers_to_one']:.2f} times |" in README
    assert f"| {shard['copy']['k710_to_tar_and_sha256sum']:.2f} times as fast |" in README
    assert f"| {shard['memory']['1080p']['peak_mb']:.0f} MB |" in README
    assert f"| read {shard['archive']['times_read']:.2f} times |" in README
    index = json.loads((results / "index.json").read_text())
    assert f"| {index['first']['wall_s']:.1f} s |" in README
    engines = json.loads((results / "engines.json").read_text())["wall_to_local"]
    assert f"included | {engines['ray']:.2f} times as long |" in README
    download = json.loads((results / "download.json").read_text())
    assert f"half-way | {download['cpu_s_per_attempt']:.3f} s |" in README
    peaks = list(download["peak_mb_until_attempt"].items())
    (early, early_mb), (late, late_mb) = peaks[0], peaks[-1]
    memory = f"{early_mb:.0f} and {late_mb:.0f} MB"
    assert f"after {int(early):,} and after {int(late):,} attempts | {memory} |" in README


def test_the_demos_numbers_are_those_that_it_came_to() -> None:
    results = ROOT / "benchmarks" / "results"
    demo = json.loads((results / "demo.json").read_text())
    rows = re.search(r"`scripts/demo` ends with.*\n((?:\|.*\n)+)", README)
    assert rows
    shown_top1 = re.findall(r"([\d.]+) % \|$", rows[1], re.M)
    assert shown_top1 == [f"{100 * top1:.1f}" for top1 in demo["top1"].values()]
    loop = json.loads((results / "train_loop.json").read_text())["recipes"]
    shares = [f"{one['share']:.2f}" for one in loop.values()]
    assert f"against its bare step | {shares[0]} and {shares[1]} times |" in README
