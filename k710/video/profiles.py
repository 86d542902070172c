"""How clips are encoded: the profiles, and the stream that one of them makes in a container.

A profile trades bytes against the time that a loader takes to read a few frames of a clip. All are
x264 in yuv420p, chosen by measurement: `benchmarks/gop.py` prints what each costs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from av import VideoStream
    from av.container import OutputContainer

__all__ = [
    "COPY",
    "PROFILES",
    "PROFILE_NAMES",
    "Colour",
    "Profile",
    "ProfileName",
    "add_stream",
    "profile_of",
]

ProfileName = Literal["balanced", "compact", "intra", "copy"]
PROFILE_NAMES: tuple[ProfileName, ...] = get_args(ProfileName)
COPY = "copy"
"""The profile that leaves bytes as they are; clips that must be cut are encoded as `balanced`."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Settings of x264. `gop` is the most frames from one keyframe to the next."""

    name: str
    gop: int
    options: tuple[tuple[str, str], ...]
    bytes_per_second_at_320: int  # at short side 320 and 30 fps, to plan with: clips vary widely


def _profile(name: str, gop: int, crf: str, own: str, bytes_per_second_at_320: int) -> Profile:
    x264_params = f"{_COMMON}:{own}" if own else _COMMON
    options = (("preset", "medium"), ("crf", crf), ("x264-params", x264_params))
    return Profile(name, gop, options, bytes_per_second_at_320)


@dataclass(frozen=True, slots=True)
class Colour:
    """Colour tags as FFmpeg numbers them: ISO/IEC 23091-2; range 1 is limited, 2 is full."""

    primaries: int = 2
    transfer: int = 2
    matrix: int = 2
    range: int = 0


# What all have in common, and why (figures: `balanced`, the five clips of benchmarks/gop.py):
# - cpu-independent: else the bytes depend on which vector instructions the processor has; and those
#   of AVX-512 for the macroblock tree read memory that nothing was written to, so that bytes change
#   with what the process did before (x264 core 165, widths that are no multiple of 16).
# - no psy, no aq: they move bits to please the eye; with them the same PSNR takes 17% more.
# - b-pyramid=none: no B-frame is needed for another, so a reader skips all but those it wants.
# - scenecut=0: keyframes every `gop` frames and nowhere else.
_COMMON = "cpu-independent=1:psy=0:aq-mode=0:b-pyramid=none:scenecut=0"

# cabac=0 takes two fifths off the time to read for 10% more bytes. The deblocking filter takes a
# fifth of that time, and stays: without it 0.4 dB are lost.
PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        profile.name: profile
        for profile in (
            _profile("balanced", 15, "22.3", "cabac=0:weightb=0", 73_000),
            _profile("compact", 30, "23", "", 53_000),
            _profile("intra", 1, "22.8", "cabac=0", 190_000),
        )
    }
)


def profile_of(name: str) -> Profile:
    """The settings that `name` encodes with; for `copy` those of what can't be copied."""
    if name not in PROFILE_NAMES:
        raise ValueError(f"profile ({name!r}) must be one of {', '.join(PROFILE_NAMES)}.")
    return PROFILES["balanced" if name == COPY else name]


def add_stream(
    container: "OutputContainer",
    profile: Profile,
    *,
    size: tuple[int, int],
    fps: Fraction,
    time_base: Fraction | None = None,
    colour: Colour | None = None,
) -> "VideoStream":
    """A new H.264 stream of `container`, an `av` output container; `size` is (width, height).

    Frames given to its `encode` must be yuv420p of that size. One thread encodes, because x264's
    output changes with their number.
    """
    stream = container.add_stream("libx264", rate=fps, options=dict(profile.options))
    stream.width, stream.height = size
    stream.pix_fmt = "yuv420p"
    stream.gop_size = profile.gop
    codec = stream.codec_context
    codec.time_base = time_base or 1 / fps
    codec.thread_count = 1
    codec.thread_type = "NONE"
    if colour is not None:
        codec.color_primaries = colour.primaries
        codec.color_trc = colour.transfer
        codec.colorspace = colour.matrix
        codec.color_range = colour.range
    return stream
