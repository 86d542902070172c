"""Reading chosen frames: each equals the one that decoding everything gives, whatever the video."""

import contextlib
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from conftest import shared
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import Answer, Loopback

from k710.errors import MediaError
from k710.video import read_frames

NUM_FRAMES = 50
KINDS = {
    "one group": ("mp4", "libx264", {"bf": "3"}, 250),
    "short groups": ("mp4", "libx264", {"tune": "fastdecode", "sc_threshold": "0"}, 12),
    "open groups": ("mp4", "libx264", {"x264-params": "open-gop=1:keyint=10:bframes=3"}, 10),
    "pyramid": ("matroska", "libx264", {"bf": "5", "b-pyramid": "normal"}, 20),
    "intra": ("mp4", "libx264", {}, 1),
    "mpeg4": ("mp4", "mpeg4", {"bf": "2"}, 12),
    "avi": ("avi", "mpeg4", {}, 12),
    "hevc": ("mp4", "libx265", {"x265-params": "keyint=10:log-level=none"}, 10),
}


@cache
def encoded(kind: str, folder: Path) -> Path:
    """A video of moving noise, no frame like another."""
    form, codec, options, group = KINDS[kind]
    path = folder / f"{kind}.video"
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (96, 160, 3), np.uint8)
    with av.open(str(path), "w", format=form) as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        stream.gop_size = group
        stream.codec_context.thread_count = 1
        for number in range(NUM_FRAMES):
            picture[number % 96] = number * 5
            frame = av.VideoFrame.from_ndarray(np.roll(picture, number, 1), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@cache
def all_frames(path: Path) -> list[npt.NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def check(path: Path, indices: Sequence[int]) -> None:
    frames = all_frames(path)
    read = read_frames(path, indices)
    assert read.dtype == np.uint8
    assert read.shape == (len(indices), *frames[0].shape)
    for index, frame in zip(indices, read, strict=True):
        assert np.array_equal(frame, frames[index]), index


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("videos")


@pytest.mark.parametrize("kind", KINDS)
def test_every_frame_alone_equals_a_full_decode(folder: Path, kind: str) -> None:
    path = encoded(kind, folder)
    assert len(all_frames(path)) == NUM_FRAMES
    for index in range(NUM_FRAMES):
        check(path, [index])


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    indices=st.lists(st.integers(0, NUM_FRAMES - 1), min_size=1, max_size=12),
)
def test_any_list_of_frames_in_any_order_with_repeats(
    folder: Path, kind: str, indices: list[int]
) -> None:
    check(encoded(kind, folder), indices)


SOUND = (
    *("Tw2yXa6CzWE.mp4", "arm_wrestling_demo.mp4", "av1_video.mkv", "bt709_full_range.mp4"),
    *("demo_skeleton.mp4", "eEG7ZOQG6LM.00.mp4", "flipping_a_pancake.mkv", "h265_10bits.mp4"),
    *("h265_video.mp4", "hitting_baseball.mp4", "internvid_example1.mp4", "jesse_dance.mp4"),
    *("making_cake.mp4", "mmaction_test.avi", "mmaction_test.mp4", "nasa_13013.mp4"),
    *("paddle_example.avi", "playing_guitar.mp4", "yoga.mp4"),
)


@pytest.mark.parametrize("name", SOUND)
def test_real_videos(name: str) -> None:
    path = shared("videos", name)
    rng = np.random.default_rng(0)
    with av.open(str(path)) as container:
        frames = [
            frame.to_ndarray(format="rgb24", width=64, height=48)
            for frame in container.decode(video=0)
        ]
    for _ in range(4):
        indices = [int(index) for index in rng.integers(0, len(frames), 8)]
        read = read_frames(path, indices, size=(64, 48))
        for index, frame in zip(indices, read, strict=True):
            assert np.array_equal(frame, frames[index]), index


def test_bytes_read_like_a_file_and_size_scales(folder: Path) -> None:
    path = encoded("short groups", folder)
    assert np.array_equal(read_frames(path.read_bytes(), [30, 2]), read_frames(path, [30, 2]))
    assert read_frames(path, [5], size=(80, 40)).shape == (1, 40, 80, 3)


@pytest.mark.parametrize("kind", ["short groups", "avi"])
def test_a_frame_after_the_end_is_said(folder: Path, kind: str) -> None:
    with pytest.raises(MediaError, match="Frame 50 was asked for, and the video has 50"):
        read_frames(encoded(kind, folder), [3, 50])


def test_wrong_arguments_are_refused(folder: Path) -> None:
    path = encoded("intra", folder)
    with pytest.raises(ValueError, match="at least one frame"):
        read_frames(path, [])
    with pytest.raises(ValueError, match="must not be negative, and one is -1"):
        read_frames(path, [3, -1])


def test_what_is_no_video_is_said(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(MediaError, match=r"text\.mp4 can't be decoded: Invalid data"):
        read_frames(tmp_path / "text.mp4", [0])
    with pytest.raises(MediaError, match=r"none\.mp4 can't be decoded: No such file"):
        read_frames(tmp_path / "none.mp4", [0])
    with pytest.raises(MediaError, match="the video can't be decoded"):
        read_frames(b"", [0])


def test_a_playlist_called_mp4_opens_no_other_file(folder: Path, tmp_path: Path) -> None:
    path = encoded("intra", folder)
    playlist = tmp_path / "clip.mp4"
    playlist.write_text(f"ffconcat version 1.0\nfile '{path}'\n")
    with av.open(str(playlist), options={"safe": "0"}) as container:
        assert container.streams.video, "or else this would prove nothing"
    with pytest.raises(MediaError, match=r"clip\.mp4 can't be decoded"):
        read_frames(playlist, [0])


def test_a_playlist_called_mp4_asks_no_server(folder: Path, tmp_path: Path) -> None:
    playlist = tmp_path / "clip.mp4"
    with Loopback() as server:
        url = server.tell("/part.ts", Answer(body=encoded("intra", folder).read_bytes()))
        playlist.write_text(
            f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{url}\n#EXT-X-ENDLIST\n"
        )
        trusting = {"protocol_whitelist": "file,http,tcp", "allowed_extensions": "ALL"}
        with contextlib.suppress(av.error.FFmpegError):
            av.open(str(playlist), format="hls", options=trusting).close()
        asked = len(server.seen)
        assert asked, "or else this would prove nothing"
        with pytest.raises(MediaError, match=r"clip\.mp4 can't be decoded"):
            read_frames(playlist, [0])
        assert len(server.seen) == asked
