"""A world in small: lists in the published format that overlap as the real ones do, and videos.

The classes are real ones of Kinetics; what is seen in their videos are shapes that move.
"""

import contextlib
import csv
import functools
import http.server
import random
import string
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from k710.demo.videos import FPS, LOOKS, encoded, look_clip, motion_clip
from k710.files import replacing
from k710.labels.orders import DATASETS, dataset_rows, dataset_spelling, resolve_label

__all__ = [
    "DIRECTIONS",
    "DemoLists",
    "demo_site",
    "look_video",
    "motion_video",
    "whole_video",
    "write_demo_lists",
    "write_demo_videos",
    "write_motion_lists",
]

_FOLDERS = {"k400": "kinetics400", "k600": "kinetics600", "k700": "kinetics700_2020"}
_FILES = {"train": "train.csv", "val": "validate.csv", "test": "test.csv"}
_ALPHABET = string.ascii_letters + string.digits + "_-"
_HEADER = ("label", "youtube_id", "time_start", "time_end", "split")
_SMALL = {"train": 60, "val": 12, "test": 12}  # new clips of each dataset
DIRECTIONS = ("archery", "bowling", "zumba", "yoga")  # right, left, down, up


@dataclass(frozen=True, slots=True)
class DemoLists:
    """The files that were written, and the ids worth explaining, each with its story."""

    files: tuple[Path, ...]
    stories: tuple[tuple[str, str], ...]


_STORIES = (
    ("-leaked_id0", "a K400 train video that K700 holds out"),
    ("two_windows", "two windows of one video, two labels"),
    ("renamed_cls", "one clip, one class, two names"),
)
# dataset, split, id, start, K710 name
_SPECIAL = (
    ("k400", "train", "-leaked_id0", 10, "abseiling"),
    ("k700", "val", "-leaked_id0", 10, "abseiling"),
    ("k600", "train", "two_windows", 3, "archery"),
    ("k600", "train", "two_windows", 40, "bowling"),
    ("k400", "train", "renamed_cls", 7, "tying necktie"),
    ("k600", "train", "renamed_cls", 7, "tying necktie"),
)


def write_demo_lists(
    folder: Path,
    *,
    seed: int = 0,
    sizes: Mapping[str, int] = _SMALL,
    seconds: int = 10,
    latest_s: int = 300,
) -> DemoLists:
    """Write train, val and test lists of three small datasets below `folder`.

    As upstream: later datasets repeat clips of earlier ones, sometimes in another split; K700's
    test list has no labels. `sizes` are the new clips of each dataset, of so many `seconds`.
    """
    rng = random.Random(seed)
    common = _classes()
    pool: list[tuple[str, str, tuple[str, int, int]]] = []  # dataset, split, clip of what is there
    files = []
    for dataset in DATASETS:
        for split, num_clips in sizes.items():
            rows = [
                (dataset_spelling(dataset, resolve_label(name)), youtube_id, start, start + seconds)
                for home, part, youtube_id, start, name in _SPECIAL
                if (home, part) == (dataset, split)
            ]
            new = [_new_clip(rng, common, latest_s) for _ in range(num_clips)]
            again = [
                clip
                for home, part, clip in pool
                if rng.random() < (0.3 if part == split else 0.03) and home != dataset
            ]
            clips = [*again, *new]
            rows += [(dataset_spelling(dataset, row), i, s, s + seconds) for i, row, s in clips]
            pool += [(dataset, split, clip) for clip in new]
            path = folder / _FOLDERS[dataset] / _FILES[split]
            _write(
                path, rows, split="validate" if split == "val" else split, blind=dataset == "k700"
            )
            files.append(path)
    return DemoLists(files=tuple(files), stories=_STORIES)


@functools.cache
def _classes() -> tuple[int, ...]:
    """The rows of K710 that the demo's clips are of: as many as there are looks."""
    return tuple(sorted(frozenset.intersection(*(dataset_rows(d) for d in DATASETS)))[:LOOKS])


def _new_clip(rng: random.Random, rows: tuple[int, ...], latest_s: int) -> tuple[str, int, int]:
    return "".join(rng.choices(_ALPHABET, k=11)), rng.choice(rows), rng.randrange(latest_s)


def write_motion_lists(folder: Path, *, train: int, val: int, seed: int = 1) -> None:
    """Write lists of one dataset, K400, whose four classes differ in the direction of motion."""
    rng = random.Random(seed)
    for split, num_clips in (("train", train), ("val", val)):
        rows = []
        for number in range(num_clips):
            youtube_id, _, _ = _new_clip(rng, _classes(), 1)
            rows.append((DIRECTIONS[number % len(DIRECTIONS)], youtube_id, 0, 1))
        name = "validate" if split == "val" else split
        _write(folder / _FOLDERS["k400"] / _FILES[split], rows, split=name, blind=False)


def _write(path: Path, rows: list[tuple[str, str, int, int]], *, split: str, blind: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    without_label = blind and split == "test"
    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_HEADER[1:] if without_label else _HEADER)
        for row in sorted(rows):
            line = (*row, split)
            writer.writerow(line[1:] if without_label else line)


def look_video(clip_id: str, label: int) -> bytes:
    """The video of a clip of 1 s of that row of K710: its class is seen in its look."""
    return encoded(_look(clip_id, label))


def _look(clip_id: str, label: int) -> np.ndarray:
    classes = _classes()
    look = classes.index(label) if label in classes else label % LOOKS
    return look_clip(look, _generator(clip_id))


def motion_video(clip_id: str, label: int) -> bytes:
    """The video of a clip of 1 s of one of DIRECTIONS: its class is seen in its motion."""
    rows = [resolve_label(name) for name in DIRECTIONS]
    return encoded(motion_clip(rows.index(label), _generator(clip_id)))


def whole_video(clip_id: str, label: int) -> bytes:
    """The video that a clip of 1 s is out of: before it and for a while after it, all is grey."""
    frames = _look(clip_id, label)
    start = int(clip_id.rsplit("_", 2)[1])
    grey = np.full_like(frames[:1], 90)
    before, after = (np.repeat(grey, FPS * seconds, axis=0) for seconds in (start, 3))
    return encoded(np.concatenate([before, frames, after]))


def _generator(clip_id: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(clip_id.encode()))


def write_demo_videos(
    folder: Path, labels: Mapping[str, int], video: Callable[[str, int], bytes], *, odd: int = 0
) -> None:
    """Write the videos of clips, by their rows of K710.

    The first `odd` of them are faulty: missing, too short, damaged, and without a byte, in turn.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number, (clip_id, label) in enumerate(labels.items()):
        data = video(clip_id, label)
        fault = number % 4 if number < odd else None
        if fault == 0:
            continue
        if fault == 1:
            data = encoded(_look(clip_id, label)[: FPS // 2])
        if fault == 2:
            middle = len(data) // 2
            data = data[:middle] + b"\xff" * 200 + data[middle + 200 :]
        if fault == 3:
            data = b""
        (folder / f"{clip_id}.mp4").write_bytes(data)


@contextlib.contextmanager
def demo_site(video: Callable[[str], bytes | None]) -> Iterator[str]:
    """The address of a site on this machine, with {id} for an id: it stands for YouTube.

    What `video` has no bytes of, it says is gone.
    """
    body = functools.cache(video)  # yt-dlp looks, and comes again

    class Site(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = body(self.path.removeprefix("/").removesuffix(".mp4"))
            if data is None:
                return self.send_error(410)
            self.send_response(200)
            self.send_header("Content-Type", "video/mp4")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(data)

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/{{id}}.mp4"
        finally:
            server.shutdown()
            thread.join()
