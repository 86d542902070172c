"""A clip shows what its source shows, upright, in its colours, at its rate, with its sound."""

import io
import os
import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, strategies as st

from k710.errors import MediaError
from k710.video.container import open_video
from k710.video.encode import Encoded, encoder_versions, scaled_size
from k710.video.frames import read_frames
from support.cut_clips import clip_of, cut_and_encode
from support.list_files import shared
from support.made_videos import (
    FORMATS,
    Pixels,
    make_loud_video,
    make_video,
    numbered,
    numbers_in,
)
from support.paths import PYTHONPATH

Matrix = tuple[int, int, int, int]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("transcode")


@cache
def made(kind: str, folder: Path) -> Path:
    return make_video(folder / f"{kind}.video", format=FORMATS[kind])


def frames_of(clip: Encoded) -> Pixels:
    return read_frames(clip.data, range(clip.num_frames))


# Sizes


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(16, 1000))
def test_sizes_are_even_in_proportion_and_never_larger(width: int, height: int, side: int) -> None:
    size = scaled_size(width, height, side)
    assert all(new % 2 == 0 and new >= 2 for new in size)
    assert all(new <= max(old, 2) for new, old in zip(size, (width, height), strict=True))
    assert min(size) <= side or min(width, height) < 2
    if min(width, height) >= 16:
        longer = max(width, height) * min(size) / min(width, height)
        assert abs(max(size) - longer) <= max(2, max(width, height) / min(width, height) + 1)


@pytest.mark.parametrize(
    ("size", "short_side", "expected"),
    [
        *(((1920, 1080), 320, (568, 320)), ((320, 240), 320, (320, 240))),
        *(
            ((127, 95), 320, (126, 94)),
            ((240, 426), 320, (240, 426)),
            ((426, 320), 101, (134, 100)),
        ),
        *(((1, 120), 320, (2, 120)), ((120, 1), 320, (120, 2)), ((3, 2), 16, (2, 2))),
    ],
)
def test_sizes_by_example(
    size: tuple[int, int], short_side: int, expected: tuple[int, int]
) -> None:
    assert scaled_size(*size, short_side) == expected


@pytest.mark.parametrize("size", [(127, 95), (1, 64), (64, 1), (2, 2), (170, 34)])
def test_odd_and_tiny_sources_are_encoded(tmp_path: Path, size: tuple[int, int]) -> None:
    format = FORMATS["intra"].but(container="matroska", pix_fmt="yuv444p")
    path = make_video(tmp_path / "a.mkv", range(25), format=format, size=size)
    clip = clip_of(path)
    assert (clip.width, clip.height) == scaled_size(*size, 320)
    assert frames_of(clip).shape == (25, clip.height, clip.width, 3)


def test_a_source_that_changes_its_size_keeps_the_first(tmp_path: Path) -> None:
    parts = [(range(25), (160, 96)), (range(25, 50), (96, 128))]
    with av.open(str(tmp_path / "a.webm"), "w") as container:
        stream: Any = container.add_stream("libvpx", rate=25)
        stream.width, stream.height = 160, 96
        for numbers, size in parts:
            codec: Any = av.CodecContext.create("libvpx", "w")
            codec.width, codec.height, codec.pix_fmt = *size, "yuv420p"
            codec.time_base, codec.options = Fraction(1, 25), {"deadline": "realtime"}
            frames = [
                av.VideoFrame.from_ndarray(numbered(n, size), format="rgb24") for n in numbers
            ]
            for number, frame in zip(numbers, frames, strict=True):
                frame.pts, frame.time_base = number, Fraction(1, 25)
            for packet in [p for frame in [*frames, None] for p in codec.encode(frame)]:
                packet.stream = stream
                container.mux(packet)
    clip = clip_of(tmp_path / "a.webm", 0, 2)
    assert (clip.width, clip.height) == (160, 96)
    assert numbers_in(clip.data) == list(range(50))


@pytest.mark.parametrize(
    ("shape", "matrix", "expected"),
    [
        (Fraction(16, 11), (1, 0, 0, 1), Fraction(16, 11)),
        (Fraction(16, 11), (0, 1, -1, 0), Fraction(11, 16)),
        (Fraction(640, 639), (1, 0, 0, 1), None),
    ],
)
def test_the_shape_of_pixels_is_noted_unless_it_is_square(
    tmp_path: Path, shape: Fraction, matrix: Matrix, expected: Fraction | None
) -> None:
    format = FORMATS["short groups"].but(pixel_shape=shape)
    path = make_video(tmp_path / "a.mp4", range(25), format=format)
    clip = clip_of(turned(path.read_bytes(), matrix), short_side=48)
    with av.open(io.BytesIO(clip.data)) as container:
        assert (container.streams.video[0].sample_aspect_ratio or None) == expected


# Rotation


def turned(data: bytes, matrix: Matrix) -> bytes:
    """The MP4 with (a, b, c, d) in its track's display matrix."""
    a, b, c, d = (number << 16 for number in matrix)
    numbers = (a, b, 0, c, d, 0, 0, 0, 1 << 30)
    at = data.index(b"tkhd") + 44
    return (
        data[:at] + b"".join(n.to_bytes(4, "big", signed=True) for n in numbers) + data[at + 36 :]
    )


MATRICES = {
    (1, 0, 0, 1): lambda picture: picture,
    (0, 1, -1, 0): lambda picture: np.rot90(picture, -1),  # clockwise
    (-1, 0, 0, -1): lambda picture: np.rot90(picture, 2),
    (0, -1, 1, 0): lambda picture: np.rot90(picture),
    (-1, 0, 0, 1): lambda picture: picture[:, ::-1],
    (1, 0, 0, -1): lambda picture: picture[::-1],
    (0, 1, 1, 0): lambda picture: picture.swapaxes(0, 1),
    (0, -1, -1, 0): lambda picture: np.rot90(picture, 2).swapaxes(0, 1),
}


@pytest.mark.parametrize("matrix", MATRICES)
def test_pictures_are_turned_upright(folder: Path, matrix: Matrix) -> None:
    lying = made("one group", folder).read_bytes()
    data = turned(lying, matrix)
    upright = MATRICES[matrix](read_frames(lying, [7])[0])
    assert np.array_equal(read_frames(data, [7])[0], upright)
    clip = clip_of(data)
    assert psnr(frames_of(clip)[7], upright) > 28
    with av.open(io.BytesIO(clip.data)) as container:
        assert next(container.decode(video=0)).rotation == 0


@pytest.mark.parametrize(("degrees", "turns"), [(90.5, True), (88, False), (45, False)])
def test_what_is_nearly_a_quarter_turn_is_one(folder: Path, degrees: float, turns: bool) -> None:
    data = bytearray(made("one group", folder).read_bytes())
    a, b = (round(part(np.deg2rad(degrees)) * (1 << 16)) for part in (np.cos, np.sin))
    at = data.index(b"tkhd") + 44
    for place, number in zip((0, 4, 12, 16), (a, b, -b, a), strict=True):
        data[at + place : at + place + 4] = number.to_bytes(4, "big", signed=True)
    shape = (160, 96) if turns else (96, 160)
    assert read_frames(bytes(data), [7]).shape == (1, *shape, 3)
    clip = clip_of(bytes(data))
    assert (clip.height, clip.width) == shape


@pytest.mark.parametrize("matrix", MATRICES)
def test_planes_are_turned_like_pictures(folder: Path, matrix: Matrix) -> None:
    lying = made("one group", folder).read_bytes()
    data = turned(lying, matrix)
    planes, before = (read_frames(one, [7], pixels="yuv420p")[0] for one in (data, lying))
    upright = MATRICES[matrix](before[:96])
    height, width = upright.shape
    assert np.array_equal(planes[:height], upright)
    chroma = before[96:].reshape(2, 48, 80)
    for plane, old in zip(planes[height:].reshape(2, height // 2, width // 2), chroma, strict=True):
        assert np.array_equal(plane, MATRICES[matrix](old))
    scaled = read_frames(data, [7], size=(64, 32))
    assert scaled.shape == (1, 32, 64, 3), "the size of what is upright"
    assert (
        psnr(scaled[0], scaled_by_swscale(MATRICES[matrix](read_frames(lying, [7])[0]), (64, 32)))
        > 20
    )


def scaled_by_swscale(picture: Pixels, size: tuple[int, int]) -> Pixels:
    """The picture scaled by swscale, as `read_frames` does it."""
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    return frame.reformat(*size).to_ndarray()


def test_frames_are_turned_into_room_that_was_made_for_them_as_they_lie(folder: Path) -> None:
    data = turned(made("one group", folder).read_bytes(), (0, 1, -1, 0))
    room = np.zeros((2, 96, 160, 3), np.uint8)
    frames = read_frames(data, [7, 9], out=room)
    assert frames.shape == (2, 160, 96, 3) and np.shares_memory(frames, room)
    assert np.array_equal(frames, read_frames(data, [7, 9]))
    with pytest.raises(MediaError, match="are expected"):
        read_frames(made("one group", folder), [7], out=np.zeros((1, 160, 96, 3), np.uint8))


# Rate and length


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("fps", [None, Fraction(10), Fraction(30000, 1001)])
def test_frames_are_seconds_by_rate(folder: Path, kind: str, fps: Fraction | None) -> None:
    clip = clip_of(made(kind, folder), 1, 3, fps=fps)
    assert clip.num_frames == round(2 * (fps or 25))
    assert clip.fps == float(fps or 25)
    with av.open(io.BytesIO(clip.data)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == (fps or 25)
        stamps = [frame.pts * stream.time_base for frame in container.decode(stream)]
    assert stamps == [number / (fps or Fraction(25)) for number in range(clip.num_frames)]


def test_an_average_rate_is_kept_where_the_source_has_none(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", range(60), at_ms=lambda n: n * 20 + n // 20 * 400)
    clip = clip_of(path, 0, 2)
    with av.open(str(path)) as container:
        rate = container.streams.video[0].average_rate
    assert rate is not None
    assert abs(clip.fps - rate) < 1e-3
    assert abs(clip.num_frames - 2 * rate) <= 1


def test_what_is_not_kept_is_not_encoded(folder: Path) -> None:
    path = made("one group", folder)
    assert cut_and_encode(path, 3, 6)[1] is None, "a third of the window"
    assert cut_and_encode(path, 3, 5)[1] is not None, "half"
    assert cut_and_encode(path, 5, 6)[1] is None


def test_groups_are_as_long_as_told(folder: Path) -> None:
    for profile in ("balanced", "compact", "intra"):
        clip = clip_of(made("one group", folder), 0, 4, profile=profile)
        with av.open(io.BytesIO(clip.data)) as container:
            keys = [p.is_keyframe for p in container.demux(video=0) if p.size]
        starts = [place for place, key in enumerate(keys) if key]
        gaps = [b - a for a, b in zip(starts, [*starts[1:], len(keys)], strict=True)]
        assert clip.gop == max(gaps)


# Colours


PATCHES = ((200, 40, 40), (40, 180, 60), (50, 60, 200), (128, 128, 128), (230, 220, 40))


def patches(number: int, size: tuple[int, int]) -> Pixels:
    width, height = size
    columns = np.arange(width) * len(PATCHES) // width
    return np.broadcast_to(np.asarray(PATCHES, np.uint8)[columns], (height, width, 3)).copy()


def tagged(path: Path, pix_fmt: str, matrix: int, value_range: int, codec: str = "libx264") -> Path:
    """A second of the patches in that format, converted by swscale as told, and tagged so."""
    with av.open(str(path), "w", format="matroska") as container:
        stream: Any = container.add_stream(codec, rate=25, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 160, 96, pix_fmt
        stream.codec_context.colorspace = matrix
        stream.codec_context.color_range = value_range
        for number in range(25):
            rgb = av.VideoFrame.from_ndarray(patches(number, (160, 96)), format="rgb24")
            frame: Any = rgb.reformat(
                format=pix_fmt, dst_colorspace=matrix, dst_color_range=value_range
            )
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("short_side", [320, 48])
@pytest.mark.parametrize(
    ("pix_fmt", "matrix", "value_range"),
    [
        *(("yuv420p", 1, 1), ("yuv420p", 5, 1), ("yuv420p", 1, 2), ("yuvj420p", 5, 2)),
        *(("yuv420p10le", 1, 1), ("yuv422p", 1, 1), ("yuv444p", 5, 1), ("yuv444p10le", 1, 2)),
    ],
)
def test_colours_stay(
    tmp_path: Path, pix_fmt: str, matrix: int, value_range: int, short_side: int
) -> None:
    path = tagged(tmp_path / "a.mkv", pix_fmt, matrix, value_range)
    clip = clip_of(path, short_side=short_side)
    shown = frames_of(clip)[12].astype(int)
    off = []
    for place, colour in enumerate(PATCHES):
        left = (place * 2 + 1) * clip.width // (2 * len(PATCHES))
        off.append(shown[8:-8, left - 3 : left + 3].mean(axis=(0, 1)) - colour)
    assert np.abs(off).max() <= 4
    assert np.abs(off).mean(axis=0).max() <= 2


def psnr(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    error = float(((a.astype(np.float32) - b) ** 2).mean())
    return 10 * float(np.log10(255**2 / max(error, 1e-3)))


# As ffmpeg itself


def by_ffmpeg(path: Path, clip: Encoded, start_s: int, seconds: int) -> Pixels:
    """The frames that the ffmpeg program makes of the same window, not encoded."""
    ffmpeg = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    rate = Fraction(clip.fps).limit_denominator(10_000)
    chain = (
        f"setpts=PTS-STARTPTS-{start_s}/TB,fps={rate},trim=start=0:end={seconds},"
        f"scale={clip.width}:{clip.height}:flags=bicubic+accurate_rnd+full_chroma_int:out_range=tv,"
        "format=yuv420p"
    )
    command = [ffmpeg, "-v", "error", "-threads", "1", "-i", path, "-an", "-sn", "-vf", chain]
    command += ["-fps_mode", "passthrough", "-pix_fmt", "rgb24", "-f", "rawvideo", "-"]
    raw = subprocess.run(command, check=True, capture_output=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, clip.height, clip.width, 3)


def assert_like_ffmpeg(path: Path, start_s: int, seconds: int, least: float, **more: Any) -> None:
    clip = clip_of(path, start_s, start_s + seconds, **more)
    theirs = by_ffmpeg(path, clip, start_s, seconds)
    assert abs(len(theirs) - clip.num_frames) <= 1
    ours = frames_of(clip)[: len(theirs)]
    theirs = theirs[: len(ours)]
    found = [psnr(a, b) for a, b in zip(ours, theirs, strict=True)]
    assert np.mean(found) >= least
    for place in range(0, len(ours) - 1, 3):  # its own is the nearest, but where nothing moves
        assert psnr(ours[place], theirs[place + 1]) <= found[place] + 0.5, place
    channels = ours.reshape(-1, 3).mean(0) - theirs.reshape(-1, 3).mean(0)
    assert np.abs(channels).max() <= 2


@pytest.mark.parametrize("kind", sorted(set(FORMATS) - {"intra"}))
def test_made_videos_are_cut_as_by_ffmpeg(folder: Path, kind: str) -> None:
    assert_like_ffmpeg(made(kind, folder), 1, 2, 30, short_side=80)


def test_any_times_and_turns_are_as_by_ffmpeg(folder: Path, tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", range(90), at_ms=lambda n: n * 20 + n // 7 * 90)
    assert_like_ffmpeg(path, 0, 2, 30)
    assert_like_ffmpeg(path, 1, 1, 30, fps=Fraction(30000, 1001))
    for matrix in MATRICES:
        path.write_bytes(turned(made("one group", folder).read_bytes(), matrix))
        assert_like_ffmpeg(path, 1, 1, 30)


REAL = (
    *("bt709_full_range.mp4", "demo_skeleton.mp4", "h265_10bits.mp4", "h265_video.mp4"),
    *("Tw2yXa6CzWE.mp4", "arm_wrestling_demo.mp4", "av1_video.mkv", "eEG7ZOQG6LM.00.mp4"),
    *("flipping_a_pancake.mkv", "hitting_baseball.mp4", "internvid_example1.mp4"),
    *("jesse_dance.mp4", "making_cake.mp4", "mmaction_test.avi", "mmaction_test.mp4"),
    *("nasa_13013.mp4", "paddle_example.avi", "playing_guitar.mp4", "yoga.mp4"),
)


@pytest.mark.parametrize(
    "name", [*REAL[:4], *(pytest.param(n, marks=pytest.mark.slow) for n in REAL[4:])]
)
def test_real_videos_are_cut_as_by_ffmpeg(name: str) -> None:
    path = shared("videos", name)
    with open_video(path) as (_, stream):
        seconds = float(stream.duration * stream.time_base) if stream.duration else 5
    for start_s, end_s in [(0, min(10, int(seconds)))] + [(2, 4)] * (seconds > 4):
        assert_like_ffmpeg(path, start_s, end_s - start_s, 32)


# The same bytes


@pytest.mark.parametrize(
    "fills", [("0", "165"), pytest.param(("0", "1", "85", "165", "255"), marks=pytest.mark.slow)]
)
def test_fresh_memory_decides_no_byte(folder: Path, tmp_path: Path, fills: Sequence[str]) -> None:
    short = FORMATS["short groups"]
    odd = short.but(container="matroska", pix_fmt="yuv444p")
    make_video(tmp_path / "odd.mkv", range(50), format=odd, size=(170, 94))
    deep = short.but(pix_fmt="yuv420p10le")
    make_video(tmp_path / "deep.mp4", range(50), format=deep, size=(126, 90))
    make_loud_video(tmp_path / "loud.mp4", "aac", "stereo", rate=44_100)
    lying = turned(made("one group", folder).read_bytes(), (0, 1, -1, 0))
    (tmp_path / "lying.mp4").write_bytes(lying)
    code = "from support.cut_clips import print_digest; print_digest()"
    found = set()
    for fill in fills:
        command = [sys.executable, "-c", code, str(tmp_path)]
        environment = os.environ | {
            "MALLOC_PERTURB_": fill,
            "PYTHONPATH": PYTHONPATH,
        }
        ran = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        found.add(ran.stdout)
    assert len(found) == 1


def test_versions_name_the_encoder() -> None:
    assert encoder_versions()["x264"].isdecimal() or " " in encoder_versions()["x264"]
    assert encoder_versions()["av"] == av.__version__


# What it leaves behind


@pytest.mark.parametrize("times", [50, pytest.param(500, marks=pytest.mark.slow)])
def test_many_clips_leave_nothing_open_and_no_memory(folder: Path, times: int) -> None:
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc")
    path = made("one group", folder)

    def used() -> tuple[int, int]:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return len(os.listdir("/proc/self/fd")), pages * os.sysconf("SC_PAGE_SIZE")

    for number in range(50 + times):
        if number == 50:
            before = used()
        cut_and_encode(path, 3, 4 + number % 3, short_side=48)
    after = used()
    assert after[0] == before[0]
    assert after[1] - before[1] < min(times * (80 << 10), 8 << 20)
