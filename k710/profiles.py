"""How clips are encoded: the profiles, and the stream that one of them makes in a container.

A profile trades bytes against the time that a loader takes to read a few frames of a clip. All are
x264 in yuv420p, chosen by measurement: `benchmarks/gop.py` prints what each costs.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

__all__ = ["COPY", "PROFILES", "PROFILE_NAMES", "Colour", "Profile", "add_stream", "profile_of"]

COPY = "copy"
"""The profile that leaves bytes as they are; clips that must be cut are encoded as `balanced`."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Settings of x264. `gop` is the most frames from one keyframe to the next."""

    name: str
    gop: int
    options: tuple[tuple[str, str], ...]
    bytes_per_second_at_320: int  # at short side 320 and 30 fps, to plan with: clips vary widely


@dataclass(frozen=True, slots=True)
class Colour:
    """Colour tags as FFmpeg numbers them: ISO/IEC 23091-2; range 1 is limited, 2 is full."""

    primaries: int = 2
    transfer: int = 2
    matrix: int = 2
    range: int = 0


# fastdecode: no CABAC, no in-loop filter, no weighted prediction.
PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        profile.name: profile
        for profile in (
            Profile(
                "balanced",
                12,
                (
                    *(("preset", "medium"), ("crf", "23"), ("tune", "fastdecode")),
                    ("x264-params", "scenecut=0"),
                ),
                80_000,
            ),
            Profile("compact", 48, (("preset", "medium"), ("crf", "23")), 55_000),
            Profile("intra", 1, (("preset", "medium"), ("crf", "23")), 200_000),
        )
    }
)
_UP_TO_AVX2 = "MMX2,SSE2Fast,SSSE3,SSE4.2,AVX,FMA3,BMI2,AVX2"
PROFILE_NAMES = (*PROFILES, COPY)


def profile_of(name: str) -> Profile:
    """The settings that `name` encodes with; for `copy` those of what can't be copied."""
    if name not in PROFILE_NAMES:
        raise ValueError(f"profile ({name!r}) must be one of {', '.join(PROFILE_NAMES)}.")
    return PROFILES["balanced" if name == COPY else name]


def add_stream(
    container: Any,
    profile: Profile,
    *,
    size: tuple[int, int],
    fps: Fraction,
    time_base: Fraction | None = None,
    colour: Colour | None = None,
) -> Any:
    """A new H.264 stream of `container`, an `av` output container; `size` is (width, height).

    Frames given to its `encode` must be yuv420p of that size. One thread encodes, because x264's
    output changes with their number.
    """
    stream = container.add_stream("libx264", rate=fps, options=_options(profile))
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


def _options(profile: Profile) -> dict[str, str]:
    """The profile's options, and what makes x264's output depend on them and the frames alone."""
    options = dict(profile.options)
    if _has_avx512():
        params = options.get("x264-params")
        options["x264-params"] = ":".join(filter(None, [params, f"asm={_UP_TO_AVX2}"]))
    return options


@cache
def _has_avx512() -> bool:
    # x264's AVX-512 code of the macroblock tree reads memory that nothing was written to: where
    # the picture is no multiple of 16 wide, bytes change with what the process did before (seen
    # with x264 core 165: MALLOC_PERTURB_ shows it). With less, all processors give the same bytes.
    with contextlib.suppress(OSError):
        return "avx512" in Path("/proc/cpuinfo").read_text()
    return False
