"""Small videos for the demo and the tests: shapes that move, drawn from a seed.

A clip is one second, 16 frames: uint8 (16, height, width, 3), RGB.
"""

import colorsys
import io
from fractions import Fraction

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

__all__ = ["FPS", "LOOKS", "encoded", "look_clip", "motion_clip"]

FPS = 16
LOOKS = 12  # colours times kinds
_COLOURS = 6
_HEIGHT, _WIDTH = 48, 64
_SQUARE = 48

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def look_clip(look: int, generator: np.random.Generator) -> Pixels:
    """(16, 48, 64, 3): a disc or a striped square, as `look` from 0 to 11 says, in its colour.

    Where it is, where it goes, its size and its shade are drawn, and say nothing of the look.
    """
    colour, is_striped = look % _COLOURS, look >= _COLOURS
    radius = generator.uniform(10, 14)
    angle, speed = generator.uniform(0, 2 * np.pi), generator.uniform(0.5, 1.5)
    start = generator.uniform((14, 16), (_HEIGHT - 14, _WIDTH - 16))
    hue = (colour / _COLOURS + generator.uniform(-0.025, 0.025)) % 1
    paint = 255 * np.array(colorsys.hsv_to_rgb(hue, 0.85, generator.uniform(0.8, 1)))
    ground = _ground(generator, _HEIGHT, _WIDTH)
    frames = np.empty((FPS, _HEIGHT, _WIDTH, 3), np.uint8)
    for time, frame in enumerate(frames):
        moved = start + speed * time * np.array([np.sin(angle), np.cos(angle)])
        y, x = _reflected(moved[0], _HEIGHT), _reflected(moved[1], _WIDTH)
        down, right = _from(y, x, _HEIGHT, _WIDTH)
        picture = np.repeat(ground, 3, axis=2)
        if is_striped:
            inside = (np.abs(down) < radius) & (np.abs(right) < radius)
            picture[inside] = np.where((right // 4 % 2 == 0)[inside, None], paint, 245)
        else:
            picture[np.hypot(down, right) < radius] = paint
        frame[:] = picture
    return frames


def motion_clip(direction: int, generator: np.random.Generator) -> Pixels:
    """(16, 48, 48, 3): four discs that move right, left, down or up, as `direction` 0 to 3 says.

    Where they start and how they look is drawn. What leaves at one side comes in at the other. Four
    more discs take the same steps along the other axis, in an order that is drawn. So neither one
    frame tells anything of the direction, nor do all of them as a heap: it is in their order alone.
    """
    discs, radius, step = 4, 5.0, 1.5
    axis, sign = direction // 2, 1 - 2 * (direction % 2)
    places = generator.uniform(0, _SQUARE, (2 * discs, 2))
    paints = generator.uniform(120, 255, (2 * discs, 3))
    ground = _ground(generator, _SQUARE, _SQUARE)
    disorder = generator.permutation(FPS)
    on_top = generator.permutation(2 * discs)  # the last one
    frames = np.empty((FPS, _SQUARE, _SQUARE, 3), np.uint8)
    for time, frame in enumerate(frames):
        moved = places.copy()
        moved[:discs, 1 - axis] += step * time * sign
        moved[discs:, axis] += step * disorder[time] * sign
        picture = np.repeat(ground, 3, axis=2)
        # (discs, 48, 48): how far each pixel is from each of them, squared.
        offsets = (_round_about(np.arange(_SQUARE) - moved[on_top][..., None])) ** 2
        for disc, paint in zip(offsets[:, 0, :, None] + offsets[:, 1, None], paints, strict=True):
            picture[disc < radius**2] = paint
        frame[:] = picture
    return frames


def _ground(generator: np.random.Generator, height: int, width: int) -> Floats:
    """Grey, with noise."""
    grey = generator.uniform(40, 120) + generator.normal(0, 8, (height, width, 1))
    return np.clip(grey, 0, 255).astype(np.float32)


def _from(y: float, x: float, height: int, width: int) -> tuple[Floats, Floats]:
    """How far each pixel is below and right of a place."""
    down = np.arange(height, dtype=np.float32)[:, None] - np.float32(y)
    right = np.arange(width, dtype=np.float32)[None] - np.float32(x)
    return np.broadcast_to(down, (height, width)), np.broadcast_to(right, (height, width))


def _reflected(at: float, size: int, margin: int = 12) -> float:
    """A place that has run against the edges, and turned there."""
    length = size - 2 * margin
    at = (at - margin) % (2 * length)
    return margin + (at if at < length else 2 * length - at)


def _round_about(offset: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The shortest way on a torus."""
    return (offset + _SQUARE / 2) % _SQUARE - _SQUARE / 2


def encoded(frames: Pixels, *, fps: int = FPS) -> bytes:
    """The frames as an MP4 of H.264, nearly as they are, and quickly made."""
    file = io.BytesIO()
    _, height, width, _ = frames.shape
    with av.open(file, "w", format="mp4") as container:
        options = {"preset": "ultrafast", "crf": "10"}
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        convert = VideoReformatter()  # one for all frames: making it takes as long as encoding one
        for place, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame = convert.reformat(frame, format="yuv420p")
            frame.pts, frame.time_base = place, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()
