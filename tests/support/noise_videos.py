"""Videos of moving noise in every format, no frame like another: for tests that read frames."""

from functools import cache
from pathlib import Path

import av

from k710.video.profiles import PROFILES
from support.made_videos import FORMATS, Pixels, format_of_profile, make_video, moving_noise

NUM_FRAMES = 50
FPS = 25
WIDTH, HEIGHT = 170, 98  # no multiples of 16: FFmpeg pads the rows
ALL = {**FORMATS, **{name: format_of_profile(name) for name in PROFILES}}


@cache
def noise_video(kind: str, folder: Path) -> Path:
    """The video of that kind in `folder`, made once."""
    return make_video(
        folder / f"{kind}.video",
        range(NUM_FRAMES),
        format=ALL[kind],
        rate=FPS,
        size=(WIDTH, HEIGHT),
        draw=moving_noise(),
    )


@cache
def all_frames(path: Path) -> list[Pixels]:
    """Every frame of a file, decoded from its start to its end."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
