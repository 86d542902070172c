"""Odd videos, read at every stage: the same pictures as the ffmpeg program's, frame by frame."""

import contextlib
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from k710.errors import MediaError
from k710.shards.verify import verify_shards
from k710.sources.index import index_videos
from k710.video.container import open_video
from k710.video.cut import Cut, Window
from k710.video.decoding import decoder_log
from k710.video.encode import Encoding
from k710.video.frames import num_frames, read_frames
from k710.video.placing import place_window
from support.list_files import vid
from support.made_videos import Pixels, number_in
from support.odd_videos import FPS, NUM_FRAMES, ODD, SECONDS, SIZE, ffmpeg_program, make_odd
from support.small_manifest import clip, manifest_of
from support.small_shards import rows_of, shard
from uniformerv2.dataset.clips import read_view
from uniformerv2.dataset.decode import Place, Reading, Request, read_request, spread
from uniformerv2.dataset.frames import Sampling
from uniformerv2.dataset.shard_reader import ByteSpan, ShardReader

# Files of which the ffmpeg program shows other pictures than k710, and why.
OTHER_PICTURES = {
    "turned_by_30_degrees.mp4": "the program turns by any angle, k710 by quarters",
    "jpeg_is_default.mp4": "the program takes a still picture that is flagged as the default",
    "jpeg_is_default.mkv": "the program takes a still picture that is flagged as the default",
    "slides_are_default.mkv": "the program takes slides that are flagged as the default",
}
# Files of which k710 reads no frames that aren't as they were, while the program shows them.
NOT_READ = {
    "size_changes.webm": "needs a size: the program scales all to that of the first",
    "noise_in_it.mp4": "is damaged: the program shows what the decoder conceals",
    "noise_in_it.ts": "is damaged: the program shows what the decoder conceals",
    "breaks_off.mp4": "is cut off within a picture: the program shows those before",
    "breaks_off.avi": "is cut off within a picture: the program shows those before",
    "breaks_off.flv": "is cut off within a picture: the program shows those before",
}
# Files whose times or numbers tell nothing of what a window shows.
OTHER_WINDOWS = {
    "plain.avi": "AVI has no times of showing: the program guesses, two pictures late",
    "loud.avi": "AVI has no times of showing: the program guesses, two pictures late",
    "mpeg4_b_frames.avi": "AVI has no times of showing: the program guesses, one picture late",
    "vfr.mp4": "the program passes all on, and a clip has a constant rate",
    "vfr.mkv": "the program passes all on, and a clip has a constant rate",
    "hole.mp4": "the program leaves the hole out, and a clip shows the picture before it",
    "hole.mkv": "the program leaves the hole out, and a clip shows the picture before it",
    "late_pictures.avi": "as of a hole: it comes after the first picture",
    "negative_start.mkv": "times before zero are lost in it, and go back then: k710 counts",
}


@dataclass(frozen=True)
class Theirs:
    """What the program shows of a file: pictures, and seconds after the container's start."""

    pictures: list[Pixels]
    at_s: list[float]

    def numbers(self, start_s: float, end_s: float) -> list[int]:
        """What is shown in a window."""
        pairs = zip(self.pictures, self.at_s, strict=True)
        return [number_in(one) for one, at in pairs if start_s - 1e-3 <= at < end_s - 1e-3]


@cache
def theirs(path: Path) -> Theirs:
    command = [ffmpeg_program(), "-hide_banner", "-nostats", "-threads", "1", "-i", path]
    command += ["-fps_mode", "passthrough", "-vf", "showinfo", "-pix_fmt", "rgb24"]
    command += ["-f", "rawvideo", "-"]
    with av.open(str(path)) as container:
        if container.streams.audio:  # or it would count for nothing, not for the start either
            command += ["-map", "0:a:0", "-f", "null", "-"]
    ran = subprocess.run(command, capture_output=True, check=True)
    shown = re.findall(r"pts_time:(\S+).*? s:(\d+)x(\d+)", ran.stderr.decode("utf-8", "replace"))
    _, width, height = shown[0]  # to which it scales all that follow
    pictures = np.frombuffer(ran.stdout, np.uint8).reshape(len(shown), int(height), int(width), 3)
    return Theirs(list(pictures), [float(at) for at, *_ in shown])


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    ffmpeg_program()
    folder = tmp_path_factory.mktemp("odd")
    (folder / "base").mkdir()
    return folder


def test_there_are_many_kinds() -> None:
    assert len(ODD) >= 40
    assert {*OTHER_PICTURES, *NOT_READ, *OTHER_WINDOWS} <= set(ODD)


@pytest.mark.parametrize("name", ODD)
def test_all_pictures_are_those_of_the_program(folder: Path, name: str) -> None:
    path = make_odd(name, folder)
    expected = theirs(path).pictures
    for source in (path, path.read_bytes()):
        if name in NOT_READ:
            with pytest.raises(MediaError):
                read_frames(source, range(len(expected)))
            continue
        ours = read_frames(source, range(num_frames(source)))
        if name in OTHER_PICTURES:
            assert [number_in(one) for one in ours] == list(range(NUM_FRAMES))
            assert len(ours) != len(expected) or np.abs(ours[9].astype(int) - expected[9]).max() > 9
        else:
            assert ours.shape == (len(expected), *expected[0].shape)
            assert np.abs(ours.astype(int) - expected).max() <= 2


def test_pictures_of_another_size_are_scaled_if_one_is_given(folder: Path) -> None:
    path = make_odd("size_changes.webm", folder)
    ours = read_frames(path, range(NUM_FRAMES), size=SIZE)
    assert [number_in(one) for one in ours] == theirs(path).numbers(0, SECONDS)


@pytest.mark.parametrize("name", sorted(set(ODD) - set(OTHER_WINDOWS)))
def test_a_second_of_each_shows_what_the_program_shows_then(folder: Path, name: str) -> None:
    path = make_odd(name, folder)
    with decoder_log() as log, open_video(path) as (_, stream):
        placed = place_window(stream, log, Window(1, 2), trimmed=False)
    numbers: list[int] = []
    with decoder_log() as log, open_video(path) as (_, stream):
        cut = Cut(1, placed.fps)
        for shown in cut.frames(stream, log, from_s=placed.begins_s):
            numbers += [number_in(shown.frame.to_ndarray(format="rgb24"))] * shown.times
    if name.startswith("noise_in_it"):
        assert cut.status()[0] == "damaged"
    elif name.startswith("turned"):  # the frames of a cut lie as they did
        assert (cut.num_frames, cut.status()[0]) == (FPS, "ok")
    elif name in OTHER_PICTURES:
        assert numbers == list(range(FPS, 2 * FPS))
    elif name in ("breaks_off.mp4", "breaks_off.avi"):  # within the second
        assert cut.status()[0] == "damaged"
    else:
        assert numbers == theirs(path).numbers(1, 2)


# From copies to batches


WHOLE = list(range(NUM_FRAMES))
# (status, what a clip of three seconds shows) where it is not "ok" and all pictures.
FATES: Mapping[str, tuple[str, list[int] | None]] = {
    **dict.fromkeys(
        [f"late_pictures.{end}" for end in ("mp4", "mkv", "ts", "flv")], ("truncated", WHOLE[:50])
    ),
    **dict.fromkeys(["noise_in_it.mp4", "noise_in_it.ts"], ("damaged", None)),
    **dict.fromkeys(
        [f"breaks_off.{end}" for end in ("mp4", "mkv", "avi", "flv")], ("damaged", None)
    ),
    "breaks_off.ts": ("truncated", WHOLE[:51]),  # it ends between two pictures
    "second_is_default.mkv": ("ok", list(range(100, 175))),
    "first_is_disabled.mp4": ("ok", list(range(100, 175))),
    "trimmed_by_edit_list.mp4": ("ok", list(range(40, 115))),
}
# What is of no constant rate.
UNTOLD = {"vfr.mp4", "vfr.mkv", "hole.mp4", "hole.mkv", "late_pictures.avi"}


def odd_id(name: str) -> str:
    return f"odd_{sorted(ODD).index(name):03d}"


@pytest.mark.parametrize(
    "profile",
    [
        "copy",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("balanced", "compact", "intra")),
    ],
)
def test_a_copy_is_judged_stored_verified_and_loaded_alike(
    folder: Path, tmp_path: Path, profile: str
) -> None:
    rows = [("archery", odd_id(name), 0, SECONDS) for name in ODD]
    work = manifest_of(tmp_path, *rows)
    (tmp_path / "videos").mkdir()
    for name in ODD:  # the content decides, and not what it is called
        (tmp_path / "videos" / f"{vid(odd_id(name))}.mp4").symlink_to(make_odd(name, folder))
    index_videos([tmp_path / "videos"], work=work, probe=True, workers=2)
    probed = dict(rows_of(work, "sources", "clip_id, (status, trimmed)"))
    shard(work, ["k400/train"], encoding=Encoding(profile), workers=2)
    made = dict(rows_of(work, "sources", "clip_id, (status, trimmed)"))
    broken_off = {clip(odd_id(f"breaks_off.{end}"), 0, SECONDS) for end in ("avi", "flv")}
    assert {one: made[one] for one in made if one not in broken_off} == {
        one: probed[one] for one in probed if one not in broken_off
    }, "of a whole video a probe counts the packets only"
    assert verify_shards(work=work, deep=True, workers=2).faults == ()
    shown = numbers_in_batches(work)
    for name in ODD:
        clip_id = clip(odd_id(name), 0, SECONDS)
        status, numbers = FATES.get(name, ("ok", WHOLE))
        assert made[clip_id][0] == status, name
        if name in UNTOLD:
            assert clip_id in shown
        elif numbers is None:
            assert clip_id not in shown
        else:
            num_frames, numbers_at = shown[clip_id]
            more = 2 if profile == "copy" and name == "trimmed_by_edit_list.mp4" else 0
            assert num_frames == len(numbers) + more, name
            of_window = {at: number for at, number in numbers_at.items() if at < len(numbers)}
            assert of_window == {at: numbers[at] for at in of_window}, name


def numbers_in_batches(work: Path) -> dict[str, tuple[int, dict[int, int]]]:
    """What the loader reads of each clip: how many frames it has, and what those of a view show."""
    view = read_view(work, "k400/train")
    found = {}
    with contextlib.closing(ShardReader(work / "shards")) as reader:
        for row, clip_id in enumerate(view.clip_ids):
            span: Any = ByteSpan(
                clip_id,
                int(view.shards[row]),
                int(view.offsets[row]),
                int(view.num_bytes[row]),
                view.digests[row].decode(),
            )
            size = int(view.num_frames[row]), int(view.heights[row]), int(view.widths[row])
            place = Place(row, span, *size, 0, 0)
            reading = Reading(reader, Sampling(place.num_frames))
            block = np.empty(spread(reading, [place])[1], np.uint8)
            (read,) = read_request(
                reading, Request(0, 0, (place,)), [(reader.read([span])[0], 0.0)], block
            )
            assert read.error is None, (clip_id, read.error)
            frames = block[: np.prod(read.shape)].reshape(read.shape)
            (indices,) = reading.sampling.views(place.num_frames, 1)
            numbers = {at: number_in(one) for at, one in zip(indices, frames, strict=True)}
            found[clip_id] = place.num_frames, numbers
    return found
