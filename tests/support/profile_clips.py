"""Clips that are encoded by the profiles alone, from the same pictures."""

import io
from fractions import Fraction

import av
import numpy as np

from k710.video.profiles import Colour, Profile, add_stream

# A width that is no multiple of 16: x264 core 165 with AVX-512 reads memory beyond it.
WIDTH, HEIGHT = 170, 96


def clip(profile: Profile, *, fps: Fraction = Fraction(30), colour: Colour | None = None) -> bytes:
    """40 frames in which a picture moves and fades."""
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (HEIGHT * 3 // 2, WIDTH), np.uint8)
    picture = np.sort(picture, axis=1)
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = add_stream(container, profile, size=(WIDTH, HEIGHT), fps=fps, colour=colour)
        for number in range(40):
            moved = np.roll(picture, number * 3, 1) // (1 + number / 40)
            frame = av.VideoFrame.from_ndarray(moved.astype(np.uint8), format="yuv420p")
            frame.pts, frame.time_base = number, 1 / fps
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()
