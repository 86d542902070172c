"""Which files are opened, by which demuxers, and which of their streams is the video."""

import io
from pathlib import Path

import av
import numpy as np
import pytest

from k710.errors import MediaError
from k710.video import VIDEO_ENDINGS
from k710.video.container import open_video
from k710.video.formats import CAN_BE_COPIED, DEMUXERS
from k710.video.frames import num_frames, read_frames
from support.made_videos import numbers_in
from support.odd_videos import COPY, NUM_FRAMES, ffmpeg, make_odd


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("container")
    (folder / "base").mkdir()
    return folder


# What would make FFmpeg open other files, ask the network, or run something.
DENIED = (
    *("hls", "dash", "concat", "imf", "webm_dash_manifest", "sdp", "rtsp", "rtp", "sap", "lavfi"),
    *("image2", "alias_pix", "brender_pix", "png_pipe", "vobsub", "tedcaptions", "avisynth"),
    *(
        "vapoursynth",
        "libopenmpt",
        "x11grab",
        "fbdev",
        "video4linux2",
        "alsa",
        "kmsgrab",
        "ffmetadata",
    ),
)


def test_no_demuxer_is_allowed_that_opens_what_a_file_names() -> None:
    assert not set(DENIED) & set(DEMUXERS)
    for name, demuxer in DEMUXERS.items():
        assert av.ContainerFormat(name, "r").is_input, "or else the name would allow nothing"
        assert demuxer.why
        assert all(end.startswith(".") and end == end.lower() for end in demuxer.endings)
    assert set(CAN_BE_COPIED) <= set(DEMUXERS)
    assert len(set(VIDEO_ENDINGS)) == len(VIDEO_ENDINGS)
    assert {".mp4", ".webm", ".flv", ".3gp", ".wmv", ".ts", ".mpg", ".ogv", ".m2ts", ".gif"} <= set(
        VIDEO_ENDINGS
    )


@pytest.mark.parametrize("demuxer", ["m4v", "h264", "ivf", "nut", "wav", "image2"])
def test_what_another_demuxer_would_read_is_refused_in_words(
    folder: Path, tmp_path: Path, demuxer: str
) -> None:
    path = tmp_path / "a.mp4"
    made = {
        "m4v": ("-c:v", "mpeg4"),
        "h264": ("-c:v", "libx264"),
        "ivf": ("-c:v", "libvpx", "-frames:v", 3),
        "nut": COPY,
        "image2": ("-frames:v", 1, "-c:v", "mjpeg"),
    }
    source = (
        ("-f", "lavfi", "-i", "sine=d=1")
        if demuxer == "wav"
        else ("-i", make_odd("plain.mp4", folder))
    )
    ffmpeg(*source, *made.get(demuxer, ()), "-f", demuxer, path)
    with av.open(str(path)) as container:
        assert container.format.name not in DEMUXERS, "or else this would prove nothing"
    with pytest.raises(MediaError, match=r"a\.mp4 can't be decoded: ") as error, open_video(path):
        pass
    assert "Invalid argument" not in str(error.value)
    if demuxer in ("wav", "image2"):
        assert "it seems to be" in str(error.value)
        return
    assert str(error.value).endswith(
        "a.mp4 can't be decoded: it is broken, or in a format that k710 does not open (it opens "
        "mp4, mkv, webm, avi, ts, flv, wmv, mpg, m2v, ogv, gif): convert it with ffmpeg to .mp4."
    )


def with_reference(data: bytes, target: Path) -> bytes:
    """The MP4 whose first track says that its data are in another file, as QuickTime can."""
    name = target.name.encode()
    record = bytes(10) + b"\x01v".ljust(28, b"\0") + bytes(12)
    record += bytes([len(name)]) + name.ljust(63, b"\0") + bytes(16) + (1).to_bytes(2, "big") * 2
    record += (
        bytes(16) + b"\x00\x02" + len(name).to_bytes(2, "big") + name + b"\0" * (len(name) % 2)
    )
    record += b"\xff\xff\x00\x00"
    entry = (12 + len(record)).to_bytes(4, "big") + b"alis" + bytes(4) + record
    at = data.index(b"dref") - 4
    size = int.from_bytes(data[at : at + 4], "big")
    grown = len(entry) - (size - 16)
    made = bytearray(data[: at + 16] + entry + data[at + size :])
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        start = data.index(kind) - 4
        old = int.from_bytes(data[start : start + 4], "big")
        made[start : start + 4] = (old + grown).to_bytes(4, "big")
    return bytes(made)


def test_a_quicktime_file_that_refers_to_another_opens_none(folder: Path, tmp_path: Path) -> None:
    source = make_odd("mjpeg.mov", folder)
    secret = tmp_path / "secret.mov"
    secret.write_bytes(source.read_bytes())
    path = tmp_path / "a.mp4"
    data = with_reference(source.read_bytes(), secret)
    pictures = data.index(b"mdat") + 4
    path.write_bytes(
        data[:pictures]
        + bytes(data.index(b"moov") - 4 - pictures)
        + data[data.index(b"moov") - 4 :]
    )
    with av.open(str(path), options={"enable_drefs": "1"}) as container:
        assert len(list(container.decode(video=0))) == NUM_FRAMES, (
            "or else this would prove nothing"
        )
    with pytest.raises(MediaError):
        read_frames(path, [0])


@pytest.mark.parametrize("name", ["jpeg_is_default.mkv", "two_sizes.mp4", "second_is_default.mkv"])
def test_the_video_is_the_same_stream_however_a_file_is_given(folder: Path, name: str) -> None:
    path = make_odd(name, folder)
    found = set()
    with path.open("rb") as file:
        file.seek(100)
        for source in (path, str(path), path.read_bytes(), file):
            with open_video(source) as (container, stream):
                index = stream.index
                frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
            found.add((index, len(frames), frames[0].tobytes()))
    assert [num for _, num, _ in found] == [NUM_FRAMES]
    assert np.array_equal(read_frames(path, [40]), read_frames(path.read_bytes(), [40]))


def test_a_track_without_a_picture_is_not_the_video(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(make_odd("plain.mp4", folder))) as source, av.open(str(path), "w") as made:
        stream = source.streams.video[0]
        made.add_stream_from_template(stream)
        copy = made.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                made.mux(packet)
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 2, "or else this would prove nothing"
    assert num_frames(path) == NUM_FRAMES


def test_of_tracks_without_a_decoder_the_other_is_taken(folder: Path) -> None:
    data = make_odd("two_sizes.mp4", folder).read_bytes()
    first, second = data.index(b"avc1", data.index(b"moov")), data.rindex(b"avc1")
    lacks_second = data[:second] + b"xyz1" + data[second + 4 :]
    assert num_frames(lacks_second) == NUM_FRAMES
    assert numbers_in_first(lacks_second) == 100, "the smaller one"
    lacks_both = lacks_second[:first] + b"xyz1" + lacks_second[first + 4 :]
    with pytest.raises(MediaError, match="FFmpeg knows no decoder for it"):
        read_frames(lacks_both, [0])


def numbers_in_first(data: bytes) -> int:
    with open_video(io.BytesIO(data)) as (container, stream):
        made = io.BytesIO()
        with av.open(made, "w", format="mp4") as target:
            copy = target.add_stream_from_template(stream)
            for packet in container.demux(stream):
                if packet.dts is not None:
                    packet.stream = copy
                    target.mux(packet)
    return numbers_in(made.getvalue())[0]
