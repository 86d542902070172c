"""Small lists in the published format that overlap as the real ones do, videos, and a site."""

import contextlib
import csv
import functools
import http.server
import random
import string
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from k710.files import replacing
from k710.labels import DATASETS, dataset_rows, dataset_spelling, resolve_label
from k710.profiles import PROFILES, add_stream

__all__ = ["DemoLists", "demo_site", "write_demo_lists", "write_demo_videos"]

_FOLDERS = {"k400": "kinetics400", "k600": "kinetics600", "k700": "kinetics700_2020"}
_FILES = {"train": "train.csv", "val": "validate.csv", "test": "test.csv"}
_ALPHABET = string.ascii_letters + string.digits + "_-"
_HEADER = ("label", "youtube_id", "time_start", "time_end", "split")
_NUM_CLIPS = {"train": 60, "val": 12, "test": 12}
_NUM_CLASSES = 12


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
# dataset, split, id, start, end, K710 name
_SPECIAL = (
    ("k400", "train", "-leaked_id0", 10, 20, "abseiling"),
    ("k700", "val", "-leaked_id0", 10, 20, "abseiling"),
    ("k600", "train", "two_windows", 3, 13, "archery"),
    ("k600", "train", "two_windows", 40, 50, "bowling"),
    ("k400", "train", "renamed_cls", 7, 17, "tying necktie"),
    ("k600", "train", "renamed_cls", 7, 17, "tying necktie"),
)


def write_demo_lists(folder: Path, *, seed: int = 0) -> DemoLists:
    """Write train, val and test lists of three small datasets below `folder`.

    As upstream: later datasets repeat clips of earlier ones, sometimes in another split; K700's
    test list has no labels.
    """
    rng = random.Random(seed)
    common = sorted(frozenset.intersection(*(dataset_rows(d) for d in DATASETS)))[:_NUM_CLASSES]
    pool: list[tuple[str, tuple[str, int, int]]] = []  # split and clip of what came before
    files = []
    for dataset in DATASETS:
        for split, num_clips in _NUM_CLIPS.items():
            rows = [
                (dataset_spelling(dataset, resolve_label(name)), youtube_id, start, end)
                for home, part, youtube_id, start, end, name in _SPECIAL
                if (home, part) == (dataset, split)
            ]
            new = [_new_clip(rng, common) for _ in range(num_clips)]
            again = [c for part, c in pool if rng.random() < (0.3 if part == split else 0.03)]
            clips = [*again, *new]
            rows += [(dataset_spelling(dataset, row), i, s, s + 10) for i, row, s in clips]
            pool += [(split, clip) for clip in new]
            path = folder / _FOLDERS[dataset] / _FILES[split]
            _write(
                path, rows, split="validate" if split == "val" else split, blind=dataset == "k700"
            )
            files.append(path)
    return DemoLists(files=tuple(files), stories=_STORIES)


def _new_clip(rng: random.Random, rows: list[int]) -> tuple[str, int, int]:
    return "".join(rng.choices(_ALPHABET, k=11)), rng.choice(rows), rng.randrange(300)


def _write(path: Path, rows: list[tuple[str, str, int, int]], *, split: str, blind: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    without_label = blind and split == "test"
    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_HEADER[1:] if without_label else _HEADER)
        for row in sorted(rows):
            line = (*row, split)
            writer.writerow(line[1:] if without_label else line)


def write_demo_videos(folder: Path, clip_ids: Sequence[str]) -> None:
    """Write small videos of 10 s named as these clips, but for the first four.

    Those are what copies can be: missing, too short, damaged, and without a byte.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number, clip_id in enumerate(clip_ids):
        data = _video(number, seconds=7 if number == 1 else 10)
        if number == 2:
            middle = len(data) // 2
            data = data[:middle] + b"\xff" * 2000 + data[middle + 2000 :]
        if number:
            path = folder / f"{clip_id}.mp4"
            with replacing(path) as partial:
                partial.write_bytes(b"" if number == 3 else data)


@contextlib.contextmanager
def demo_site(lengths_s: Mapping[str, int]) -> Iterator[str]:
    """The address of a site on this machine, with {id} for an id: it stands for YouTube.

    It has whole videos of these ids and lengths, but of about a fifth, which it says are gone.
    """

    @functools.cache  # yt-dlp looks, and comes again
    def body(youtube_id: str) -> bytes | None:
        number = zlib.crc32(youtube_id.encode())
        if youtube_id not in lengths_s or number % 5 == 0:
            return None
        return _video(number, seconds=lengths_s[youtube_id])

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


def _video(number: int, *, seconds: int) -> bytes:
    """An MP4 of a bar that moves over noise, 96x64 at 10 frames a second."""
    import io

    import av
    import numpy as np

    noise = np.random.default_rng(number).integers(0, 255, (64, 96, 3), np.uint8)
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = add_stream(container, PROFILES["compact"], size=(96, 64), fps=Fraction(10))
        for place in range(10 * seconds):
            picture = noise.copy()
            picture[:, place % 96] = 255
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = place, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()
