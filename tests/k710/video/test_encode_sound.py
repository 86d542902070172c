"""A clip's sound is in time, as long as its pictures, and never their undoing."""

import io
from pathlib import Path

import av
import numpy as np
import pytest

from k710.video.container import open_video
from k710.video.cut import Window
from k710.video.decoding import decoder_log
from k710.video.encode import Encoded, Encoding, encode_window
from k710.video.placing import place_window
from support.cut_clips import clip_of, cut_and_encode
from support.made_videos import make_loud_video, make_video, numbers_in
from support.odd_videos import ffmpeg


def clicks_in(clip: Encoded) -> list[float]:
    with av.open(io.BytesIO(clip.data)) as container:
        stream = container.streams.audio[0]
        assert (stream.codec_context.name, stream.channels, stream.rate) == ("aac", 2, 48_000)
        sound = np.concatenate([frame.to_ndarray() for frame in container.decode(stream)], 1)
        assert abs(float(stream.duration * stream.time_base) - clip.duration_s) <= 1024 / 48_000
    loud = np.flatnonzero(np.abs(sound).max(0) > 0.1) / 48_000
    return [float(b) for a, b in zip([-1, *loud], loud, strict=False) if b - a > 0.1]


SOUNDS = {
    "aac.mp4": ("aac", "stereo", {}),
    "mono.mp4": ("aac", "mono", {"rate": 44_100}),
    "surround.mp4": ("aac", "5.1", {}),
    "opus.mkv": ("libopus", "stereo", {}),
    "mp3.mkv": ("libmp3lame", "mono", {"rate": 44_100}),
    "mp3.avi": ("libmp3lame", "stereo", {}),
}


@pytest.mark.parametrize("name", SOUNDS)
def test_sound_is_in_time_and_as_long_as_the_pictures(tmp_path: Path, name: str) -> None:
    codec, layout, more = SOUNDS[name]
    path = make_loud_video(tmp_path / name, codec, layout, **more)
    for start_s, end_s in ((0, 4), (1, 4), (2, 3)):
        found = clicks_in(clip_of(path, start_s, end_s, audio=True))
        expected = [at - start_s for at in (1.0, 2.5) if start_s <= at < end_s]
        assert found == pytest.approx(expected, abs=0.03), (start_s, end_s)


def test_sound_that_begins_late_or_ends_early_is_filled_with_silence(tmp_path: Path) -> None:
    short = make_loud_video(tmp_path / "a.mp4", "aac", "stereo", seconds=2)
    assert clicks_in(clip_of(short, 0, 4, audio=True)) == pytest.approx([1.0], abs=0.03)
    assert clicks_in(clip_of(short, 1, 4, audio=True)) == pytest.approx([0.0], abs=0.03)
    assert not has_sound(clip_of(short, 3, 4, audio=True))


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_sound_is_in_time_with_pictures_that_begin_later(tmp_path: Path, ending: str) -> None:
    loud, path = make_loud_video(tmp_path / "a.mp4", "aac", "stereo"), tmp_path / f"b.{ending}"
    later = ("-itsoffset", 0.6, "-i", loud, "-map", "0:a", "-map", "1:v", "-c", "copy")
    ffmpeg("-i", loud, *later, path)
    for (start_s, end_s), expected in (((0, 3), [0.4, 1.9]), ((1, 4), [0.0, 1.5])):
        window = Window(start_s, end_s)
        with decoder_log() as log, open_video(path) as (_, stream):
            placed = place_window(stream, log, window, trimmed=False)
        with decoder_log() as log, open_video(path) as (_, stream):
            encoding = Encoding(audio=True)
            clip = encode_window(stream, log, window, encoding, from_s=placed.begins_s)[1]
        assert clip is not None and clip.num_frames == (60 if start_s == 0 else 75)
        assert clicks_in(clip) == pytest.approx(expected, abs=0.03)


def has_sound(clip: Encoded) -> bool:
    with av.open(io.BytesIO(clip.data)) as container:
        return bool(container.streams.audio)


def test_no_sound_unless_asked_for_and_there(tmp_path: Path) -> None:
    loud = make_loud_video(tmp_path / "a.mp4", "aac", "stereo")
    assert has_sound(clip_of(loud, audio=True))
    assert not has_sound(clip_of(loud))
    assert not has_sound(clip_of(make_video(tmp_path / "b.mp4"), audio=True))


def test_broken_sound_harms_no_picture(tmp_path: Path) -> None:
    path = make_loud_video(tmp_path / "a.mp4", "aac", "stereo")
    with av.open(str(path)) as container:
        places = [(p.pos, p.size, p.pts * p.time_base) for p in container.demux(audio=0) if p.size]
    data, half = bytearray(path.read_bytes()), bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    for place, size, at in places:
        data[place : place + size] = rng.bytes(size)
        if at < 2:
            half[place : place + size] = rng.bytes(size)
    cut, clip = cut_and_encode(bytes(data), 0, 4, audio=True)
    assert cut.status()[0] == "ok"
    assert clip is not None
    assert numbers_in(clip.data) == list(range(100))
    loud = clicks_in(clip_of(bytes(half), 0, 4, audio=True))
    assert any(abs(at - 2.5) < 0.03 for at in loud), "the sound that is whole is there"
