"""Odd videos, made by the ffmpeg program: what sites, phones, cameras and old downloads have.

Three seconds each of pictures 64 x 48 that show their numbers, 25 a second unless it is said.
"""

import subprocess
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from support.damaged_videos import overwritten, remux
from support.made_videos import BITS, Format, Pixels, bars, make_video

SIZE = (64, 48)  # width, height
FPS = 25
SECONDS = 3
NUM_FRAMES = FPS * SECONDS

Maker = Callable[[Path], object]
ODD: dict[str, Maker] = {}
"""How each file is made: a function of its path, whose ending FFmpeg goes by."""

X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-x264-params", "bframes=2:keyint=25:scenecut=0")
VP8 = ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "400k", "-g", "25")
COPY = ("-c", "copy")
_ONE = 1 << 16
# Display matrices (a, b, c, d) as phones write them, and what lays a picture down that stands.
TURNS: dict[str, tuple[tuple[int, int, int, int], Callable[[Pixels], Pixels]]] = {
    "90": ((0, _ONE, -_ONE, 0), lambda picture: np.rot90(picture)),
    "180": ((-_ONE, 0, 0, -_ONE), lambda picture: np.rot90(picture, 2)),
    "270": ((0, -_ONE, _ONE, 0), lambda picture: np.rot90(picture, -1)),
    "mirrored": ((-_ONE, 0, 0, _ONE), lambda picture: picture[:, ::-1]),
    "upside_down": ((_ONE, 0, 0, -_ONE), lambda picture: picture[::-1]),
    "transposed": ((0, _ONE, _ONE, 0), lambda picture: picture.swapaxes(0, 1)),
}


@cache
def ffmpeg_program() -> str:
    """The path of imageio-ffmpeg's program; skips where there is none."""
    return str(pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe())


def ffmpeg(*arguments: object, data: bytes | None = None) -> bytes:
    """What the program writes to its standard output."""
    command = [ffmpeg_program(), "-hide_banner", "-v", "error", "-y", *map(str, arguments)]
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


def picture(number: int, size: tuple[int, int] = SIZE) -> Pixels:
    """RGB: the number as bars above, and a ramp that moves below."""
    drawn = bars(number, size)
    width, height = size
    drawn[height * 2 // 3 :] = (60 + (np.arange(width) * 3 + number * 5) % 120)[None, :, None]
    return drawn


def encode(
    path: Path,
    *arguments: object,
    numbers: Iterable[int] = range(NUM_FRAMES),
    size: tuple[int, int] = SIZE,
    rate: int = FPS,
    draw: Callable[[int, tuple[int, int]], Pixels] = picture,
    inputs: Sequence[object] = (),
) -> Path:
    """Have the program encode the pictures, with these arguments for the output."""
    data = b"".join(np.ascontiguousarray(draw(number, size)).tobytes() for number in numbers)
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{size[0]}x{size[1]}", "-r", rate)
    ffmpeg(*raw, "-i", "-", *inputs, *arguments, path, data=data)
    return path


def odd(*names: str) -> Callable[[Maker], Maker]:
    """Put a maker into `ODD`, under these names: each is a file's, ending and all."""

    def put(make: Maker) -> Maker:
        ODD.update(dict.fromkeys(names, make))
        return make

    return put


def make_odd(name: str, folder: Path) -> Path:
    """The file of that name in `folder`, made if it is not there."""
    path = folder / name
    if not path.exists():
        ODD[name](path)
    return path


# What others are made of


def _plain(path: Path) -> Path:
    """H.264 with B-frames beside `path`, without sound."""
    made = path.parent / "base" / "plain.mp4"
    if not made.exists():
        made.parent.mkdir(exist_ok=True)
        encode(made, *X264, "-pix_fmt", "yuv420p")
    return made


def _loud(path: Path, seconds: float = SECONDS) -> Path:
    """The same with so much sound."""
    made = path.parent / "base" / f"loud_{seconds}.mp4"
    if not made.exists():
        sound = ("-f", "lavfi", "-i", f"sine=d={seconds}")
        ffmpeg("-i", _plain(path), *sound, "-c:v", "copy", "-c:a", "aac", made)
    return made


def _cover(path: Path) -> Path:
    """A JPEG that is larger than the pictures."""
    made = path.parent / "base" / "cover.jpg"
    if not made.exists():
        made.parent.mkdir(exist_ok=True)
        ffmpeg("-f", "lavfi", "-i", "color=red:s=96x96", "-frames:v", "1", made)
    return made


# Containers and codecs


@odd("plain.mp4", "plain.mov", "plain.mkv", "plain.flv", "plain.ts", "plain.avi")
def _copied(path: Path) -> None:
    ffmpeg("-i", _plain(path), *COPY, path)


@odd("loud.mp4", "loud.mkv", "loud.flv", "loud.ts", "loud.m2ts", "loud.avi")
def _copied_with_sound(path: Path) -> None:
    ffmpeg("-i", _loud(path), *COPY, path)


_CODECS: dict[str, tuple[object, ...]] = {
    "mpeg4.mp4": ("-c:v", "mpeg4", "-q:v", 3, "-bf", 2),
    "mpeg4.avi": ("-c:v", "mpeg4", "-q:v", 3),
    "mpeg4_b_frames.avi": ("-c:v", "mpeg4", "-q:v", 3, "-bf", 2),
    "xvid.avi": ("-c:v", "libxvid", "-q:v", 3),
    "mjpeg.avi": ("-c:v", "mjpeg", "-q:v", 3),
    "mjpeg.mov": ("-c:v", "mjpeg", "-q:v", 3),
    "prores.mov": ("-c:v", "prores_ks"),
    "ffv1.mkv": ("-c:v", "ffv1"),
    "hevc.mp4": ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none"),
    "hevc_10_bit.mkv": (
        *("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none"),
        *("-pix_fmt", "yuv420p10le"),
    ),
    "h264_10_bit.mp4": (*X264, "-pix_fmt", "yuv420p10le"),
    "h264_444.mkv": (*X264, "-pix_fmt", "yuv444p"),
    "full_range.mp4": (*X264, "-pix_fmt", "yuvj420p"),
    "wide_pixels.mp4": (*X264, "-pix_fmt", "yuv420p", "-vf", "setsar=16/11"),
    "interlaced.ts": ("-c:v", "mpeg2video", "-q:v", 3, "-flags", "+ildct+ilme"),
    "interlaced.mp4": (*X264, "-pix_fmt", "yuv420p", "-flags", "+ildct+ilme"),
    "vp8.webm": VP8,
    "hidden_frames.webm": ("-c:v", "libvpx", "-auto-alt-ref", 1, "-lag-in-frames", 10),
    "vp9.webm": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", 8),
    "av1.mkv": ("-c:v", "libaom-av1", "-cpu-used", 8, "-usage", "realtime"),
    "sorenson.flv": ("-c:v", "flv", "-q:v", 3),
    "wmv2.wmv": ("-c:v", "wmv2", "-q:v", 3),
    "msmpeg4.asf": ("-c:v", "msmpeg4", "-q:v", 3),
    "mpeg1.mpg": ("-c:v", "mpeg1video", "-q:v", 3),
    "mpeg2.mpg": ("-c:v", "mpeg2video", "-q:v", 3, "-bf", 2),
    "mpeg2.vob": ("-c:v", "mpeg2video", "-q:v", 3, "-bf", 2),
    "mpeg2.ts": ("-c:v", "mpeg2video", "-q:v", 3, "-bf", 2),
    "mpeg2.m2v": ("-c:v", "mpeg2video", "-q:v", 3),
    "theora.ogv": ("-c:v", "libtheora", "-q:v", 8),
    "moving.gif": (),
}


@odd(*_CODECS)
def _encoded(path: Path) -> None:
    encode(path, *_CODECS[path.name])


@odd("h263.3gp")
def _encoded_for_old_phones(path: Path) -> None:
    encode(path, "-c:v", "h263", "-q:v", 3, size=(128, 96))


@odd("odd_size.mkv", "three_rows.mkv")
def _of_odd_size(path: Path) -> None:
    size = (63, 47) if path.stem == "odd_size" else (64, 3)
    encode(path, "-c:v", "ffv1", size=size)


# Without an index or a length


@odd("fragmented.mp4")
def _fragmented(path: Path) -> None:
    ffmpeg("-i", _loud(path), *COPY, "-movflags", "frag_keyframe+empty_moov", path)


@odd("piped.mp4", "piped.mkv", "piped.flv", "piped.ts")
def _piped(path: Path) -> None:
    kind = {".mp4": "mp4", ".mkv": "matroska", ".flv": "flv", ".ts": "mpegts"}[path.suffix]
    flags = ("-movflags", "frag_keyframe+empty_moov") if kind == "mp4" else ()
    path.write_bytes(ffmpeg("-i", _plain(path), *COPY, *flags, "-f", kind, "-"))


@odd("live.webm")
def _live(path: Path) -> None:
    recorded = encode(path.with_name("base") / "vp8.webm", *VP8)
    path.write_bytes(ffmpeg("-i", recorded, *COPY, "-f", "webm", "-live", 1, "-"))


@odd("joined_segments.ts")
def _joined(path: Path) -> None:
    """Segments of HLS one after another, whose counters begin anew."""
    source, parts = _plain(path), [path.with_name("base") / f"{n}.ts" for n in range(SECONDS)]
    for number, part in enumerate(parts):
        remux(source, part, from_packet=number * FPS, to_packet=(number + 1) * FPS, shift=1)
    path.write_bytes(b"".join(part.read_bytes() for part in parts))


# On their side


@odd(*(f"turned_{name}.mp4" for name in TURNS), "turned_90.mov")
def _turned(path: Path) -> None:
    matrix, lay = TURNS[path.stem.removeprefix("turned_")]
    width, height = lay(np.zeros(SIZE[::-1])).shape[::-1]
    encode(
        path, *X264, "-pix_fmt", "yuv420p", size=(width, height), draw=lambda n, _: lay(picture(n))
    )
    path.write_bytes(with_matrix(path.read_bytes(), matrix))


@odd("turned_90.mkv")
def _turned_in_matroska(path: Path) -> None:
    ffmpeg("-i", make_odd("turned_90.mp4", path.parent), *COPY, path)


def with_matrix(data: bytes, matrix: tuple[int, int, int, int]) -> bytes:
    """The MP4 with (a, b, c, d) in the display matrix of its first track."""
    a, b, c, d = matrix
    at = data.index(b"tkhd") + 44
    numbers = (a, b, 0, c, d, 0, 0, 0, 1 << 30)
    raw = b"".join(number.to_bytes(4, "big", signed=True) for number in numbers)
    return data[:at] + raw + data[at + 36 :]


@odd("turned_by_30_degrees.mp4")
def _turned_a_little(path: Path) -> None:
    a, b = round(0.866 * _ONE), round(0.5 * _ONE)
    path.write_bytes(with_matrix(_plain(path).read_bytes(), (a, b, -b, a)))


# When pictures are shown


@odd("late_pictures.mp4", "late_pictures.mkv", "late_pictures.ts", "late_pictures.flv")
def _late(path: Path) -> None:
    later = ("-itsoffset", 1, "-i", _plain(path))
    ffmpeg("-i", _loud(path, 4), *later, "-map", "0:a", "-map", "1:v", *COPY, path)


@odd("late_pictures.avi")
def _late_in_avi(path: Path) -> None:
    later = ("-itsoffset", 1, "-i", make_odd("mpeg4.avi", path.parent))
    ffmpeg("-i", _loud(path, 4), *later, "-map", "0:a", "-map", "1:v", *COPY, path)


@odd("longer_sound.mp4", "longer_sound.mkv")
def _longer_sound(path: Path) -> None:
    ffmpeg("-i", _loud(path, 9), *COPY, path)


@odd("own_times.mp4", "own_times.mkv")
def _with_own_times(path: Path) -> None:
    ffmpeg("-itsoffset", 7, "-i", _loud(path), *COPY, "-copyts", path)


@odd("trimmed_by_edit_list.mp4")
def _trimmed(path: Path) -> None:
    long = encode(
        path.with_name("base") / "long.mp4", *X264, "-pix_fmt", "yuv420p", numbers=range(150)
    )
    ffmpeg("-ss", 1.6, "-i", long, "-t", SECONDS, *COPY, path)


@odd("negative_start.mkv")
def _before_zero(path: Path) -> None:
    remux(_plain(path), path, shift=-1, options={"avoid_negative_ts": "disabled"})


@odd("vfr.mp4", "vfr.mkv")
def _of_changing_rate(path: Path) -> None:
    _by_times(path, lambda number: number * 20 + number // 10 * 200)


@odd("hole.mp4", "hole.mkv")
def _with_a_hole(path: Path) -> None:
    _by_times(path, lambda number: number * 40 + (20_000 if number >= 10 else 0))


def _by_times(path: Path, at_ms: Callable[[int], int]) -> None:
    container = {".mp4": "mp4", ".mkv": "matroska"}[path.suffix]
    format = Format(container, options={"preset": "ultrafast"}, gop=25)
    make_video(path, range(NUM_FRAMES), format=format, at_ms=at_ms, size=SIZE, draw=picture)


# Several tracks


@odd("two_sizes.mp4", "second_is_default.mkv", "first_is_disabled.mp4")
def _two_tracks(path: Path) -> None:
    small = encode(
        path.with_name("base") / "small.mp4", *X264, size=(32, 24), numbers=range(100, 175)
    )
    order = (small, _plain(path)) if path.stem == "two_sizes" else (_plain(path), small)
    inputs = [argument for one in order for argument in ("-i", one)]
    flags = ("-disposition:v:0", "default", "-disposition:v:1", "default")
    if path.stem != "two_sizes":
        flags = ("-disposition:v:0", "0", "-disposition:v:1", "default")
    ffmpeg(*inputs, "-map", 0, "-map", 1, *COPY, *flags, path)


@odd("cover_first.mp4", "cover_first.mkv")
def _with_a_cover(path: Path) -> None:
    inputs = ("-i", _cover(path), "-i", _plain(path), "-map", 0, "-map", 1)
    ffmpeg(*inputs, *COPY, "-disposition:v:0", "attached_pic", path)


@odd("jpeg_first.mp4", "jpeg_first.mkv", "jpeg_is_default.mp4", "jpeg_is_default.mkv")
def _with_a_picture(path: Path) -> None:
    inputs = ("-i", _cover(path), "-i", _plain(path), "-map", 0, "-map", 1)
    flags = ("-disposition:v:0", "default", "-disposition:v:1", "0")
    ffmpeg(*inputs, *COPY, *(flags if path.stem == "jpeg_is_default" else ()), path)


@odd("slides_are_default.mkv")
def _with_slides(path: Path) -> None:
    slides = encode(
        path.with_name("base") / "slides.mkv",
        "-c:v",
        "mjpeg",
        size=(96, 96),
        numbers=(1, 2),
        rate=1,
    )
    flags = ("-disposition:v:0", "default", "-disposition:v:1", "0")
    ffmpeg("-i", slides, "-i", _plain(path), "-map", 0, "-map", 1, *COPY, *flags, path)


# Changing and damaged


@odd("size_changes.webm")
def _of_two_sizes(path: Path) -> None:
    base = path.with_name("base")
    halves = [
        encode(base / "first.ivf", *VP8, numbers=range(40)),
        encode(base / "second.ivf", *VP8, numbers=range(40, 75), size=(32, 32)),
    ]
    (base / "halves.txt").write_text("".join(f"file {half.name}\n" for half in halves))
    ffmpeg("-f", "concat", "-i", base / "halves.txt", *COPY, path)


@odd("noise_in_it.mp4", "noise_in_it.ts")
def _damaged(path: Path) -> None:
    sound = make_odd(f"plain{path.suffix}", path.parent)
    path.write_bytes(overwritten(sound, 1.4, 1.6) if path.suffix == ".mp4" else _with_noise(sound))


def _with_noise(path: Path) -> bytes:
    """A transport stream with noise in the middle of some of its packets."""
    data = bytearray(path.read_bytes())
    noise = np.random.default_rng(0)
    for packet in range(len(data) // 188 * 2 // 5, len(data) // 188 * 3 // 5):
        data[packet * 188 + 60 : packet * 188 + 120] = noise.bytes(60)
    return bytes(data)


@odd("breaks_off.mp4", "breaks_off.mkv", "breaks_off.avi", "breaks_off.ts", "breaks_off.flv")
def _cut_off(path: Path) -> None:
    options = ("-movflags", "faststart") if path.suffix == ".mp4" else ()
    whole = path.with_name("base") / f"whole{path.suffix}"
    source = _plain(path) if path.suffix != ".avi" else make_odd("mpeg4.avi", path.parent)
    ffmpeg("-i", source, *COPY, *options, whole)
    data = whole.read_bytes()
    path.write_bytes(data[: len(data) * 7 // 10])


assert 1 << BITS > 2 * NUM_FRAMES, "each picture has a number of its own"
