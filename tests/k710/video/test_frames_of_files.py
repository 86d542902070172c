"""Files that are no video, not what they say, damaged or odd: an error or the right frames."""

import contextlib
import gc
import importlib
import io
import os
import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from k710.errors import MediaError
from k710.video.container import open_video
from k710.video.frames import read_frames
from support.damaged_videos import damaged, remux
from support.list_files import shared
from support.loopback import Answer, Loopback
from support.noise_videos import FPS, HEIGHT, NUM_FRAMES, WIDTH, all_frames, noise_video


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("videos")


def test_what_is_no_video_is_said(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(MediaError, match=r"text\.mp4 can't be decoded: Invalid data"):
        read_frames(tmp_path / "text.mp4", [0])
    with pytest.raises(MediaError, match=r"none\.mp4 can't be decoded: No such file"):
        read_frames(tmp_path / "none.mp4", [0])
    with pytest.raises(MediaError, match="the video can't be decoded"):
        read_frames(b"", [0])


def test_a_playlist_called_mp4_opens_no_other_file(folder: Path, tmp_path: Path) -> None:
    path = noise_video("intra", folder)
    playlist = tmp_path / "clip.mp4"
    playlist.write_text(f"ffconcat version 1.0\nfile '{path}'\n")
    with av.open(str(playlist), options={"safe": "0"}) as container:
        assert container.streams.video, "or else this would prove nothing"
    with pytest.raises(MediaError, match=r"clip\.mp4 can't be decoded"):
        read_frames(playlist, [0])


def test_a_playlist_called_mp4_asks_no_server(folder: Path, tmp_path: Path) -> None:
    playlist = tmp_path / "clip.mp4"
    with Loopback() as server:
        url = server.tell("/part.ts", Answer(body=noise_video("intra", folder).read_bytes()))
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


def test_a_name_is_no_protocol(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("concat:a|b.mp4", "http:clip.mp4", "pipe:0", "-x.mp4"):
        Path(name).write_bytes(noise_video("intra", folder).read_bytes())
        assert read_frames(name, [0]).shape == (1, HEIGHT, WIDTH, 3)


def test_a_title_in_any_encoding_is_no_matter(folder: Path, tmp_path: Path) -> None:
    path = remux(noise_video("intra", folder), tmp_path / "clip.mkv", title="caf\xe9")
    path.write_bytes(path.read_bytes().replace("caf\xe9".encode(), b"caf\xe9\x00"))
    with pytest.raises(UnicodeDecodeError):
        av.open(str(path))  # or else this would prove nothing
    assert read_frames(path, [1]).shape == (1, HEIGHT, WIDTH, 3)


def test_names_and_messages_are_safe_to_print(tmp_path: Path) -> None:
    path = tmp_path / "\x1b[31m.mp4"
    path.write_text("no video")
    with pytest.raises(MediaError, match=r"\\x1b\[31m\.mp4 can't be decoded"):
        read_frames(path, [0])


def test_open_video_takes_a_file_and_leaves_it_open(folder: Path) -> None:
    with noise_video("intra", folder).open("rb") as file:
        with open_video(file) as (_, stream):
            assert stream.frames == NUM_FRAMES
            assert stream.codec_context.thread_count == 1
        assert not file.closed
    with pytest.raises(MediaError, match="the video can't be decoded"), open_video(io.BytesIO()):
        pass


def test_what_the_block_raises_itself_is_left_alone(folder: Path) -> None:
    path = noise_video("intra", folder)
    with pytest.raises(OSError, match="disk full"), open_video(path):
        raise OSError("disk full")


def test_sound_with_a_cover_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.mkv"
    cover = io.BytesIO()
    with av.open(cover, "w", format="image2pipe") as container:
        picture = container.add_stream("png", rate=1)
        picture.width, picture.height, picture.pix_fmt = 16, 16, "rgb24"
        container.mux(picture.encode(av.VideoFrame(16, 16, "rgb24")))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48_000)
        container.add_attachment("cover.png", "image/png", cover.getvalue())
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        frame.sample_rate = 48_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        assert container.streams.video, "or else this would prove nothing"
    with pytest.raises(MediaError, match=r"sound\.mkv has no video in it"):
        read_frames(path, [0])


def test_a_codec_that_ffmpeg_lacks_is_said(folder: Path, tmp_path: Path) -> None:
    path = remux(noise_video("intra", folder), tmp_path / "clip.mkv")
    path.write_bytes(path.read_bytes().replace(b"V_MPEG4/ISO/AVC", b"V_MPEG4/ISO/XYZ"))
    with pytest.raises(MediaError, match=r"clip\.mkv can't be decoded: FFmpeg knows no decoder"):
        read_frames(path, [0])


def test_frames_of_two_sizes_need_one(tmp_path: Path) -> None:
    path = tmp_path / "two.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuvj420p"
        for number, (width, height) in enumerate([(32, 16), (64, 48)]):
            encoder = av.CodecContext.create("mjpeg", "w")
            encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuvj420p"
            encoder.time_base = Fraction(1, 25)
            for packet in encoder.encode(av.VideoFrame(width, height, "yuvj420p")):
                packet.stream, packet.pts, packet.dts = stream, number, number
                packet.time_base = Fraction(1, 25)
                container.mux(packet)
    assert read_frames(path, [1]).shape == (1, 48, 64, 3)
    with pytest.raises(MediaError, match=r"two\.avi changes from 32x16 to 64x48"):
        read_frames(path, [0, 1])
    assert read_frames(path, [0, 1], size=(8, 4)).shape == (2, 4, 8, 3)


@pytest.mark.parametrize("kind", ["one group", "short groups", "open groups"])
def test_a_start_that_is_edited_out_does_not_count(folder: Path, tmp_path: Path, kind: str) -> None:
    def earlier(packet: Any, number: int) -> None:
        shift = round(Fraction(17, FPS) / packet.time_base)
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift

    path = tmp_path / "clip.mp4"
    remux(
        noise_video(kind, folder), path, change=earlier, options={"avoid_negative_ts": "disabled"}
    )
    frames = all_frames(path)
    assert len(frames) == NUM_FRAMES - 17
    assert np.array_equal(frames[0], all_frames(noise_video(kind, folder))[17])
    for index in range(len(frames)):
        assert np.array_equal(read_frames(path, [index])[0], frames[index])


def test_frames_with_the_same_time_are_told_apart(folder: Path, tmp_path: Path) -> None:
    def closer(packet: Any, number: int) -> None:
        packet.time_base = Fraction(1, 1000)  # as Matroska has it
        packet.pts = packet.dts = number // 2

    path = remux(noise_video("intra", folder), tmp_path / "clip.mkv", change=closer)
    frames = all_frames(path)
    assert len(frames) == NUM_FRAMES
    assert np.array_equal(read_frames(path, range(NUM_FRAMES)), np.stack(frames))


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux")
def test_files_are_closed_whatever_happens(folder: Path, tmp_path: Path) -> None:
    path = noise_video("balanced", folder)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(path.read_bytes()[:-20_000])
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(damaged(path.read_bytes(), random.Random(0), 20_000))
    gc.disable()  # not thanks to the garbage collector
    try:
        before = open_files()
        for _ in range(3):
            read_frames(path, [40])
            for bad, wanted in ((path, [50]), (cut, [49]), (broken, range(50)), (tmp_path, [0])):
                with pytest.raises(MediaError):
                    read_frames(bad, wanted)
            with contextlib.suppress(KeyError), open_video(path):
                raise KeyError
        assert open_files() == before
    finally:
        gc.enable()


@pytest.mark.parametrize("times", [600, pytest.param(2000, marks=pytest.mark.slow)])
def test_reading_many_clips_takes_no_more_memory(folder: Path, times: int) -> None:
    data = noise_video("balanced", folder).read_bytes()
    resource = importlib.import_module("resource")
    for number in range(times):
        read_frames(data, [number % NUM_FRAMES])
        if number == 200:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 2 * times, "KiB"


def test_a_damaged_file_is_an_error_not_a_picture() -> None:
    path = shared("videos", "corrupted.mp4")
    with pytest.raises(MediaError, match=r"corrupted\.mp4 can't be decoded: Invalid data"):
        read_frames(path, [0, 30])
