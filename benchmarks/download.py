"""What does `k710 download` take for itself, and does it stay small?

    python benchmarks/download.py [--videos 2000] [--workers 8] [--kill] [--out FILE]

A server of this machine stands for the site. Of its small videos 5 % each are: gone (404, 410),
forbidden (403), too many requests once, broken for ever (500), cut half-way for ever, a page in
place of a video, hung up on. `k710 download` runs as a whole process; the memory of it and its
workers is looked at all the time, and the ledger is counted at the end. With `--kill` the run is
killed with SIGKILL half-way, and goes on. Prints all and writes it with the device's description.
"""

import argparse
import csv
import http.server
import io
import json
import multiprocessing
import os
import signal
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from fractions import Fraction
from importlib import metadata
from pathlib import Path
from typing import Any

import av
import duckdb
import numpy as np

import k710
from k710.video.profiles import PROFILES, add_stream
from manifest import HERE, device

WAYS = ("404", "410", "403", "429 once", "500", "cut", "page", "hang up")
SHARE = 0.05


def way_of(youtube_id: str, num_videos: int) -> str:
    """How the server answers for a video: by its number, which its id ends with."""
    place = int(youtube_id[1:]) * len(WAYS) // round(num_videos * SHARE * len(WAYS))
    number = int(youtube_id[1:])
    each = round(num_videos * SHARE)
    return WAYS[place] if number < each * len(WAYS) else "200"


def serve(body: bytes, num_videos: int, port: Any) -> None:
    """A site, in a process of its own, until it is killed."""
    asked: Counter[str] = Counter()
    lock = threading.Lock()

    class Site(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.strip("/").removesuffix(".mp4")
            with lock:
                asked[name] += 1
                is_first = asked[name] == 1
            way = way_of(name, num_videos)
            if way == "hang up":
                return
            if way in ("404", "410", "403", "500") or (way == "429 once" and is_first):
                self.send_response(int(way[:3]))
                self.end_headers()
                return
            page = b"<html><title>Sign in</title></html>"
            data = page if way == "page" else body
            self.send_response(200)
            self.send_header("Content-Type", "text/html" if way == "page" else "video/mp4")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if way == "cut" else data)

        def log_message(self, *_: object) -> None: ...

    class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_: object) -> None: ...

    with Server(("127.0.0.1", 0), Site) as server:
        port.send(server.server_port)
        server.serve_forever()


def write_lists(folder: Path, num_videos: int) -> None:
    path = folder / "kinetics400" / "train.csv"
    path.parent.mkdir(parents=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("label", "youtube_id", "time_start", "time_end", "split"))
        for number in range(num_videos):
            writer.writerow(("yoga", f"-{number:010d}", 0, 10, "train"))


def tree_mb(pid: int) -> float:
    """Memory of a process and its children that no other has, and shared pages by their share."""
    pids = [pid, *map(int, _children(pid))]
    total = 0
    for one in pids:
        try:
            text = Path(f"/proc/{one}/smaps_rollup").read_text()
        except OSError:
            continue
        total += next((int(line.split()[1]) for line in text.splitlines() if "Pss:" in line), 0)
    return total * 1024 / 1e6


def _children(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []


def attempts_in(work: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in (work / "ledger").glob("*.jsonl"))


def run(command: list[str], work: Path, kill_at: int | None) -> tuple[float, float, list[Any]]:
    """Wall and CPU seconds, and (attempts so far, MB of the process tree) all along."""
    started = time.perf_counter()
    seen = []
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        done = attempts_in(work)
        seen.append((done, round(tree_mb(process.pid), 1)))
        if kill_at is not None and done >= kill_at:
            process.send_signal(signal.SIGKILL)
        time.sleep(0.25)
    _, status, usage = os.wait4(process.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, -signal.SIGKILL if kill_at else 0):
        raise SystemExit(f"{command} failed")
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime, seen


def counted(work: Path) -> dict[str, Any]:
    """What the ledger says."""
    rows = duckdb.execute(
        "select youtube_id, status, len(clips), attempt from read_json($1, "
        "format = 'newline_delimited', ignore_errors = true) where youtube_id is not null",
        [str(work / "ledger" / "*.jsonl")],
    ).fetchall()
    last = {}
    for youtube_id, status, clips, _ in sorted(rows, key=lambda row: (row[0], row[3])):
        last[youtube_id] = (status, clips)
    had = Counter(youtube_id for youtube_id, status, *_ in rows if status == "ok")
    return {
        "attempts": len(rows),
        "clips": sum(clips for _, clips in last.values()),
        "statuses": dict(sorted(Counter(status for status, _ in last.values()).items())),
        "fetched_twice": sum(count > 1 for count in had.values()),
    }


def noise_video() -> bytes:
    """An MP4 of 10 s, 96x64 at 10 frames a second: a bar that moves over noise."""
    noise = np.random.default_rng(4).integers(0, 255, (64, 96, 3), np.uint8)
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = add_stream(container, PROFILES["compact"], size=(96, 64), fps=Fraction(10))
        for place in range(100):
            picture = noise.copy()
            picture[:, place % 96] = 255
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = place, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=2_000)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "download.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        write_lists(scratch / "lists", arguments.videos)
        k710.build_manifest(scratch / "lists", work=scratch / "work")
        body = noise_video()
        ours, theirs = multiprocessing.Pipe()
        server = multiprocessing.Process(target=serve, args=(body, arguments.videos, theirs))
        server.start()
        try:
            command = [
                *(sys.executable, "-m", "k710_cli", "download", "--views", "k400/train"),
                *("--url-template", f"http://127.0.0.1:{ours.recv()}/{{id}}.mp4"),
                *("--work", str(scratch / "work"), "--workers", str(arguments.workers)),
                *("--sleep", "0", "--backoff", "0.1", "--walls", "1000000", "--fetch", "whole"),
            ]
            wall_s, cpu_s = 0.0, 0.0
            seen: list[Any] = []
            for kill_at in (arguments.videos // 2, None) if arguments.kill else (None,):
                one_wall_s, one_cpu_s, one_seen = run(command, scratch / "work", kill_at)
                wall_s, cpu_s, seen = wall_s + one_wall_s, cpu_s + one_cpu_s, seen + one_seen
        finally:
            server.kill()
        ledger = counted(scratch / "work")
    marks = [ledger["attempts"] * part // 10 for part in (1, 5, 9)]
    memory = {
        str(mark): max(mb for done, mb in seen if done <= mark or mark == 0) for mark in marks
    }
    report = {
        "benchmark": "k710 download from a server of the same machine; one whole process",
        "device": device() | {"yt_dlp": metadata.version("yt-dlp")},
        "videos": arguments.videos,
        "video_bytes": len(body),
        "workers": arguments.workers,
        "is_killed_half_way": arguments.kill,
        "wall_s": round(wall_s, 1),
        "cpu_s": round(cpu_s, 1),
        "cpu_s_per_attempt": round(cpu_s / ledger["attempts"], 3),
        "attempts_per_s": round(ledger["attempts"] / wall_s, 1),
        "peak_mb_until_attempt": memory | {str(ledger["attempts"]): max(mb for _, mb in seen)},
        "ledger": ledger,
    }
    print(json.dumps(report, indent=1))
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
