"""What a clip may be called: its id names files and members of shards, and is no path."""

import re

from k710.errors import SchemaError, shown

__all__ = ["CLIP_ID", "MAX_TIME_S", "YOUTUBE_ID", "require_clip_id"]

YOUTUBE_ID = "[A-Za-z0-9_-]{11}"
MAX_TIME_S = 999_999
"""What the six digits hold that a clip's id has for a time."""

CLIP_ID = "[A-Za-z0-9_-]{1,95}"
"""The whole of an id. With `.json` it fits into the 100 bytes that a tar has for a name; tools that
split a member's name at its first dot find the whole id before it."""


def require_clip_id(clip_id: str) -> str:
    """Return `clip_id`; SchemaError where a name made of it could lie in another folder."""
    if not re.fullmatch(CLIP_ID, clip_id):
        raise SchemaError(
            f"{shown(clip_id)} can't be a clip's id: those have 1 to 95 characters of "
            "A-Z a-z 0-9 _ -.\nThe tables that say so were not written by k710: build them again."
        )
    return clip_id
