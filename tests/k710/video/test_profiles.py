"""Profiles: what their streams are like, and bytes that depend on nothing but the frames."""

import dataclasses
import io
import os
import platform
import random
import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from k710.errors import MediaError
from k710.video.frames import read_frames
from k710.video.profiles import (
    COPY,
    PROFILE_NAMES,
    PROFILES,
    Colour,
    Profile,
    add_stream,
    profile_of,
)
from support.damaged_videos import damaged, frames_without_doubt
from support.noise_videos import FPS, NUM_FRAMES, all_frames, noise_video
from support.paths import PYTHONPATH
from support.profile_clips import HEIGHT, WIDTH, clip


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("videos")


def test_names() -> None:
    assert PROFILE_NAMES == ("balanced", "compact", "intra", "copy")
    assert all(profile_of(name).name == name for name in PROFILES)
    assert profile_of(COPY) == PROFILES["balanced"]
    with pytest.raises(
        ValueError, match=r"'best'\) must be one of balanced, compact, intra, copy\."
    ):
        profile_of("best")


@pytest.mark.parametrize("name", PROFILES)
def test_keyframes_come_every_gop_frames_and_nowhere_else(name: str) -> None:
    profile = PROFILES[name]
    with av.open(io.BytesIO(clip(profile))) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.width, stream.codec_context.height) == (WIDTH, HEIGHT)
        assert stream.codec_context.pix_fmt == "yuv420p"
        keyframes = [frame.key_frame for frame in container.decode(stream)]
    assert keyframes == [number % profile.gop == 0 for number in range(40)]


@pytest.mark.parametrize("name", PROFILES)
def test_rate_and_colour_are_in_the_stream(name: str) -> None:
    fps = Fraction(30_000, 1001)
    data = clip(PROFILES[name], fps=fps, colour=Colour(9, 16, 9, range=1))
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == fps
        frame = next(container.decode(stream))
    assert (frame.color_primaries, frame.color_trc, frame.colorspace) == (9, 16, 9)
    assert frame.color_range == 1


def test_a_time_base_can_be_chosen() -> None:
    with av.open(io.BytesIO(), "w", format="mp4") as container:
        stream = add_stream(
            container,
            PROFILES["intra"],
            size=(32, 16),
            fps=Fraction(25),
            time_base=Fraction(1, 12_800),
        )
        assert stream.codec_context.time_base == Fraction(1, 12_800)
        assert stream.codec_context.thread_count == 1


def with_params(profile: Profile, params: str) -> Profile:
    options = dict(profile.options)
    options["x264-params"] += f":{params}"
    return dataclasses.replace(profile, options=tuple(options.items()))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names instructions of x86")
@pytest.mark.parametrize("name", PROFILES)
def test_bytes_are_the_same_on_every_processor(name: str) -> None:
    data = clip(PROFILES[name])
    for instructions in ("0", "SSE2Fast", "MMX2,SSE2Fast,SSSE3,SSE4.2"):
        assert clip(with_params(PROFILES[name], f"asm={instructions}")) == data


PRINT_HASHES = """
import hashlib
from k710.video.profiles import PROFILES
from support.profile_clips import clip
for profile in PROFILES.values():
    print(hashlib.sha256(clip(profile)).hexdigest())
"""


@pytest.mark.parametrize(
    "fillings", [("0", "170"), pytest.param(("0", "85", "170", "255"), marks=pytest.mark.slow)]
)
def test_bytes_are_the_same_whatever_was_in_memory_before(fillings: Sequence[str]) -> None:
    printed = {
        subprocess.run(
            [sys.executable, "-c", PRINT_HASHES],
            env={**os.environ, "MALLOC_PERTURB_": filling, "PYTHONPATH": PYTHONPATH},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        for filling in fillings
    }
    assert len(printed) == 1
    assert len(printed.pop().split()) == len(PROFILES)


@pytest.mark.parametrize("times", [40, pytest.param(60, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", PROFILES)
def test_damage_gives_no_other_picture(folder: Path, name: str, times: int) -> None:
    path = noise_video(name, folder)
    sound = all_frames(path)
    rng = random.Random(0)
    num_errors = 0
    for _ in range(times):
        data = damaged(path.read_bytes(), rng, rng.choice((1, 3, 500)))
        indices = sorted(rng.sample(range(NUM_FRAMES), 4))
        try:
            frames = read_frames(data, indices)
        except MediaError:
            num_errors += 1
            continue
        # What is no error to the decoder is as the decoder has it.
        decoded = frames_without_doubt(data, FPS)
        for index, frame in zip(indices, frames, strict=True):
            assert np.array_equal(frame, sound[index]) or np.array_equal(frame, decoded[index])
    assert num_errors
