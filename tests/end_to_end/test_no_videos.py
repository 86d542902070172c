"""On a machine with no videos: from lists over a site and a Ray cluster to shards, as README shows.

README's section is made of what these commands print: see `shown` in test_readme.py.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.command_line import K710
from support.readme import shown
from support.real_clips import lay_out_site

pytestmark = pytest.mark.slow

COMMANDS = (
    "download --views k400/train,k400/val --sleep 0 --url-template http://127.0.0.1:8000/{id}.mp4",
    "shard --views k400/train,k400/val --engine ray --address 127.0.0.1:6379",
    "verify",
    "status --view k400/train --view k400/val",
    "export k400/train --format slowfast --root clips --extract",
    "card",
)


@contextmanager
def web(folder: Path) -> Iterator[str]:
    """The address of Python's own web server with this folder."""
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]
    server = subprocess.Popen(
        [*command, "--directory", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert server.stdout is not None
    try:
        match = re.search(r"port (\d+)", server.stdout.readline())
        assert match
        yield f"127.0.0.1:{match[1]}"
    finally:
        server.terminate()
        server.communicate()


@contextmanager
def two_nodes() -> Iterator[str]:
    """The address of a Ray cluster of two nodes with one core each."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    cluster.add_node(**node)
    try:
        yield cluster.address
    finally:
        cluster.shutdown()


def masked(lines: list[str]) -> list[str]:
    """Without times, and without bytes, which are others with another version of x264."""
    return [re.sub(r"\d+\.\d", "#", line).rstrip() for line in lines]


def test_the_way_without_videos_is_shown(tmp_path: Path) -> None:
    folder = lay_out_site(tmp_path)
    build = ("build-manifest", "--annotations", "annotations")
    subprocess.run([K710, *build], cwd=folder, check=True, capture_output=True)
    with web(folder / "site") as site, two_nodes() as nodes:
        for command in COMMANDS:
            real = command.replace("127.0.0.1:8000", site).replace("127.0.0.1:6379", nodes)
            done = subprocess.run([K710, *real.split()], cwd=folder, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            lines = done.stdout.replace(f"{folder}/", "").splitlines()
            assert masked(lines) == masked(shown(f"k710 {command}"))
    clips = sorted(path.name for path in (folder / "clips").rglob("*.mp4"))
    assert "nasa_13013__000003_000013.mp4" in clips and len(clips) == 6
    # One fetch served both windows of that video.
    ledger = (folder / "work" / "ledger" / "001_of_001.jsonl").read_text().splitlines()
    assert len(ledger) == 9
