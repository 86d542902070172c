"""Frames out of files, and clips into them."""

from k710.video.frames import *  # noqa: F403
