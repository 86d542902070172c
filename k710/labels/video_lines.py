"""Is a line one of a ready-made list of videos, as trainers read them, and none of a class list?"""

import re

__all__ = ["is_video_line"]

_VIDEO = re.compile(
    r"\.(?:mp4|mkv|webm|avi|mov|m4v|flv|wmv|3gp|ts|mpg|mpeg|ogv)[\"']?(?=[\s,;]|$)", re.IGNORECASE
)
_CLIP = re.compile(r"[A-Za-z0-9_-]{11}(?:_\d+_\d+)?")
_INTEGER = re.compile(r"-?\d+")


def is_video_line(line: str) -> bool:
    """Whether a line has a video's name in it, or is a path or a clip's name with its class number.

    Counts of frames may stand between. Not covered: `archery 3`, which is a class and its number.
    """
    if _VIDEO.search(line):
        return True
    name, *others = re.split(r"[\s,;]+", line.strip(" \t,;"))
    if not others or not _INTEGER.fullmatch(others[-1]):
        return False
    if any("/" in word or "\\" in word for word in (name, *others)):
        return True
    is_clip = len(others) == 1 and _CLIP.fullmatch(name.strip("\"'"))
    return bool(is_clip) or (len(others) > 1 and all(map(_INTEGER.fullmatch, others)))
