"""Reading chosen frames: each equals the one that decoding everything gives, whatever the video."""

import itertools
import subprocess
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings, strategies as st

from k710.errors import MediaError
from k710.video import frames as video
from k710.video.frames import read_frames
from k710.video.profiles import PROFILES
from support.list_files import shared
from support.noise_videos import ALL, HEIGHT, NUM_FRAMES, WIDTH, all_frames, noise_video


def check(path: Path, indices: Sequence[int], *, in_memory: bool = False) -> None:
    frames = all_frames(path)
    read = read_frames(path.read_bytes() if in_memory else path, indices)
    assert read.dtype == np.uint8
    assert read.shape == (len(indices), *frames[0].shape)
    for index, frame in zip(indices, read, strict=True):
        assert np.array_equal(frame, frames[index]), index


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("videos")


@pytest.mark.parametrize("kind", ALL)
def test_every_frame_alone_equals_a_full_decode(folder: Path, kind: str) -> None:
    path = noise_video(kind, folder)
    assert len(all_frames(path)) == NUM_FRAMES
    for index in range(NUM_FRAMES):
        check(path, [index])


@settings(max_examples=60)
@given(
    kind=st.sampled_from(sorted(ALL)),
    indices=st.lists(st.integers(0, NUM_FRAMES - 1), min_size=1, max_size=12),
    in_memory=st.booleans(),
)
def test_any_list_of_frames_in_any_order_with_repeats(
    folder: Path, kind: str, indices: list[int], in_memory: bool
) -> None:
    check(noise_video(kind, folder), indices, in_memory=in_memory)


@pytest.mark.parametrize("kind", ALL)
def test_a_file_too_large_to_keep_is_read_by_seeking(
    folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video, "_KEPT_BYTES", 10_000)
    check(noise_video(kind, folder), [49, 0, 13, 13, 26])


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("kind", [*PROFILES, "hevc"])
def test_of_a_profile_only_groups_are_decoded(
    folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch, in_memory: bool
) -> None:
    monkeypatch.setattr(video, "_read_from_start", lambda *_: pytest.fail("decoded from the start"))
    check(noise_video(kind, folder), [40, 20, 0, 49], in_memory=in_memory)


SOUND = (
    *("Tw2yXa6CzWE.mp4", "arm_wrestling_demo.mp4", "av1_video.mkv", "bt709_full_range.mp4"),
    *("demo_skeleton.mp4", "eEG7ZOQG6LM.00.mp4", "flipping_a_pancake.mkv", "h265_10bits.mp4"),
    *("h265_video.mp4", "hitting_baseball.mp4", "internvid_example1.mp4", "jesse_dance.mp4"),
    *("making_cake.mp4", "mmaction_test.avi", "mmaction_test.mp4", "nasa_13013.mp4"),
    *("paddle_example.avi", "playing_guitar.mp4", "yoga.mp4"),
)


@pytest.mark.parametrize("lists", [2, pytest.param(8, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", SOUND)
def test_real_videos(name: str, lists: int) -> None:
    path = shared("videos", name)
    with av.open(str(path)) as container:
        best = container.streams.best("video").index
        num_frames = sum(packet.size > 0 for packet in container.demux(container.streams[best]))
    drawn = np.random.default_rng(0).integers(0, num_frames, (lists, 8)).tolist()
    frames = {}
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(container.streams[best])):
            if any(number in indices for indices in drawn):
                frames[number] = frame.to_ndarray(format="rgb24", width=64, height=48)
    assert number + 1 == num_frames == video.num_frames(path)
    for source, indices in zip(itertools.cycle([path, path.read_bytes()]), drawn, strict=False):
        read = read_frames(source, indices, size=(64, 48))
        for index, frame in zip(indices, read, strict=True):
            assert np.array_equal(frame, frames[index]), index


def test_bytes_read_like_a_file_and_size_scales(folder: Path) -> None:
    path = noise_video("short groups", folder)
    assert np.array_equal(read_frames(path.read_bytes(), [30, 2]), read_frames(path, [30, 2]))
    assert read_frames(path, [5], size=(80, 40)).shape == (1, 40, 80, 3)
    assert np.array_equal(
        read_frames(path, np.array([30, 2])),
        read_frames(path, [30, 2]),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("kind", ["balanced", "plain avi"])
def test_yuv_is_the_planes_as_they_are(folder: Path, kind: str) -> None:
    path = noise_video(kind, folder)
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray() for frame in container.decode(video=0)]
    read = read_frames(path, [7, 3, 7], pixels="yuv420p")
    assert read.shape == (3, HEIGHT * 3 // 2, WIDTH)
    assert np.array_equal(read, np.stack([frames[7], frames[3], frames[7]]))
    assert read_frames(path, [5], size=(80, 40), pixels="yuv420p").shape == (1, 60, 80)


def test_yuv_keeps_the_range_of_the_video() -> None:
    path = shared("videos", "bt709_full_range.mp4")
    with av.open(str(path)) as container:
        y = next(container.decode(video=0)).to_ndarray()[:720]
    assert np.array_equal(read_frames(path, [0], pixels="yuv420p")[0, :720], y)
    scaled = read_frames(path, [0], size=(640, 360), pixels="yuv420p")[0, :360]
    # In limited range it would be 7 less.
    assert abs(float(np.percentile(scaled, 90)) - float(np.percentile(y, 90))) <= 2


def of_ffmpeg(path: Path, num_frames: int, scale: str) -> npt.NDArray[np.uint8]:
    """The first frames as the ffmpeg program makes RGB of them."""
    ffmpeg = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    command = [
        *(ffmpeg, "-v", "error", "-i", str(path), "-an", "-sn"),
        *("-frames:v", str(num_frames), "-fps_mode", "passthrough", "-vf", scale),
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-"),
    ]
    made = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    return np.frombuffer(made, np.uint8)


COLOURS = ("bt709_full_range.mp4", "jesse_dance.mp4", "yoga.mp4", "av1_video.mkv", "nasa_13013.mp4")


@pytest.mark.parametrize("name", COLOURS)
def test_colours_are_those_of_the_ffmpeg_program(name: str) -> None:
    path = shared("videos", name)
    read = read_frames(path, range(4))
    theirs = of_ffmpeg(path, 4, "null").reshape(read.shape)
    assert np.abs(read.astype(int) - theirs).max() <= 2


@pytest.mark.parametrize("name", [*COLOURS, "h265_10bits.mp4"])
def test_scaled_colours_are_those_of_the_ffmpeg_program(name: str) -> None:
    path = shared("videos", name)
    # By itself the program takes all chroma to lie in the middle, as only AV1 leaves it open here.
    left = 128 if name == "av1_video.mkv" else 0
    scale = f"scale=112:80:flags=bilinear:in_h_chr_pos={left}:in_v_chr_pos=128,format=rgb24"
    read = read_frames(path, range(4), size=(112, 80))
    theirs = of_ffmpeg(path, 4, scale).reshape(read.shape)
    assert np.abs(read.astype(int) - theirs).max() <= 2


@pytest.mark.parametrize("kind", ["short groups", "plain avi"])
def test_a_frame_after_the_end_is_said(folder: Path, kind: str) -> None:
    path = noise_video(kind, folder)
    with pytest.raises(MediaError, match="Frame 50 was asked for, and the video has 50"):
        read_frames(path, [3, 50])
    assert video.num_frames(path) == video.num_frames(path.read_bytes()) == 50
    read_frames(path, [49])


def test_wrong_arguments_are_refused(folder: Path) -> None:
    path = noise_video("intra", folder)
    with pytest.raises(ValueError, match="at least one frame"):
        read_frames(path, [])
    with pytest.raises(ValueError, match="must not be negative, and one is -1"):
        read_frames(path, [3, -1])
    with pytest.raises(ValueError, match=r"size must be \(width, height\) in pixels"):
        read_frames(path, [3], size=(0, 5))
    with pytest.raises(ValueError, match=r"\('gray'\) must be rgb24 or yuv420p"):
        read_frames(path, [3], pixels="gray")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"yuv420p needs even sizes, and .* is 41x30"):
        read_frames(path, [3], size=(41, 30), pixels="yuv420p")
    with pytest.raises(TypeError):
        read_frames(path, [1.5])  # type: ignore[list-item]
