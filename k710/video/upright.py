"""What makes a picture upright that says it lies on its side, or is mirrored: phones write such.

Only quarter turns and mirrors: of a picture that is turned by 30 degrees nothing is changed. The
shape of pixels is another matter: pictures keep theirs, square or not.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast

import numpy as np
import numpy.typing as npt
from av import VideoFrame
from av.buffer import Buffer

__all__ = ["NO_TURN", "Turn", "turn_of"]

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Turn:
    """One of the eight ways in which a picture can lie: rows and columns swapped, then mirrored."""

    filters: str = ""  # of FFmpeg, with commas
    is_quarter: bool = False  # rows become columns
    flips_rows: bool = False  # the first row becomes the last, after that
    flips_columns: bool = False

    def size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of the upright picture."""
        return (height, width) if self.is_quarter else (width, height)

    def apply(self, picture: Pixels) -> Pixels:
        """A view of (height, width, ...) that is upright."""
        if self.is_quarter:
            picture = picture.swapaxes(0, 1)
        return picture[:: -1 if self.flips_rows else 1, :: -1 if self.flips_columns else 1]


NO_TURN = Turn()
_PARTS = 57  # a 57th is the tangent of a degree: less than that off a quarter turn is one
# By the signs of the display matrix (a, b, c, d), as the ffmpeg program does it.
_TURNS: Mapping[tuple[int, ...], Turn] = MappingProxyType(
    {
        (-1, 0, 0, 1): Turn("hflip", flips_columns=True),
        (1, 0, 0, -1): Turn("vflip", flips_rows=True),
        (-1, 0, 0, -1): Turn("hflip,vflip", flips_rows=True, flips_columns=True),
        (0, 1, -1, 0): Turn("transpose=clock", is_quarter=True, flips_columns=True),
        (0, -1, 1, 0): Turn("transpose=cclock", is_quarter=True, flips_rows=True),
        (0, 1, 1, 0): Turn("transpose=cclock_flip", is_quarter=True),
        (0, -1, -1, 0): Turn(
            "transpose=clock_flip", is_quarter=True, flips_rows=True, flips_columns=True
        ),
    }
)


def turn_of(frame: VideoFrame) -> Turn:
    """How to turn and mirror the frame as its display matrix says.

    Not of every frame: one whose side data was looked at waits for the garbage collector, and of
    1080p that is 3 MB each.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return NO_TURN
    a, b, _, c, d = struct.unpack("=5i", bytes(cast(Buffer, matrix))[:20])
    nothing = max(map(abs, (a, b, c, d))) / _PARTS
    signs = tuple((number > nothing) - (number < -nothing) for number in (a, b, c, d))
    return _TURNS.get(signs, NO_TURN)
