"""What there is of what k710 needs, and how to get what is missing."""

import datetime
import io
import platform
import re
import shutil
from collections.abc import Iterator
from fractions import Fraction
from importlib import metadata
from pathlib import Path

from k710.doctor.machine import Check, State, Version, gpu, installed, machine
from k710.errors import K710Error, MediaError, printable

__all__ = ["Check", "decoder", "downloads", "extras", "gpu", "machine", "packages", "run_checks"]

_OLD = datetime.timedelta(days=90)  # of a yt-dlp: sites change more often than that
_EXTRAS = (
    ("train", "training, and whatever reads a checkpoint"),
    ("onnx", "convert --to onnx"),
    ("ray", "shard --engine ray; shards below a URL"),
)


def run_checks(
    work: Path, *, today: datetime.date | None = None, version: Version = installed
) -> list[Check]:
    """All that can be looked at, in the order in which a user needs it.

    `version` tells of an installed package. Nothing is written that stays.
    """
    today = today or datetime.date.today()
    return [
        *packages(version),
        *decoder(),
        *machine(work),
        *downloads(today, version),
        *extras(version),
        *gpu(version),
    ]


# --- packages


def packages(version: Version = installed) -> Iterator[Check]:
    """Python, k710, and what it can't do without."""
    yield Check("packages", "Python", "ok", platform.python_version(), "all")
    if version("k710") is None:  # run out of a checkout: what it asks for isn't known
        remedy = "pip install k710; or pip install -e . in the checkout"
        yield Check("packages", "k710", "broken", "not installed", "all", remedy)
        return
    for name, least in (("k710", ""), *_required(None)):
        yield _package(name, "all", "pip install --upgrade k710", version, least, is_needed=True)


def _required(extra: str | None) -> list[tuple[str, str]]:
    """The packages that k710's own metadata asks for: of the base install, or of an extra.

    Each with the least version that will do; "" if any will.
    """
    found = []
    for line in metadata.requires("k710") or ():
        name = re.match(r"[A-Za-z0-9._-]+", line)
        of = re.search(r"""extra\s*==\s*['"]([a-z]+)['"]""", line)
        if name and (of[1] if of else None) == extra:
            least = re.search(r">=\s*([\d.]+)", line.partition(";")[0])
            found.append((name[0], least[1] if least else ""))
    return found


def _package(
    name: str,
    needed_for: str,
    remedy: str,
    version: Version,
    least: str = "",
    *,
    is_needed: bool = False,
) -> Check:
    topic = "packages" if is_needed else "extras"
    number = version(name)
    state: State = "broken" if is_needed else "missing"
    if number is None:
        return Check(topic, name, state, "not installed", needed_for, remedy)
    if _release(number) < _release(least):
        found = f"{number}: k710 needs {least}"
        return Check(topic, name, state, found, needed_for, remedy)
    return Check(topic, name, "ok", number, needed_for)


def _release(number: str) -> tuple[int, ...]:
    """The numbers that a version begins with; none of what is no version."""
    start = re.match(r"\d+(?:\.\d+)*", number)
    numbers = [int(each) for each in start[0].split(".")] if start else []
    while numbers and not numbers[-1]:
        numbers.pop()  # 2.0 is 2
    return tuple(numbers)


def extras(version: Version = installed) -> Iterator[Check]:
    """What some commands need."""
    if version("k710") is not None:
        for extra, use in _EXTRAS:
            for name, least in _required(extra):
                yield _package(name, use, f"pip install 'k710[{extra}]'", version, least)
    for name, key in (("tensorboard", "run.tensorboard"), ("wandb", "run.wandb")):
        yield _package(name, f"--set {key}=true", f"pip install {name}", version)


# --- videos


def decoder() -> Iterator[Check]:
    """Whether videos can be written and read: a small one is."""
    use = "index, shard, training"
    remedy = "pip install --force-reinstall av numpy"
    try:
        found = _written_and_read()
    except (ImportError, OSError, ValueError, RuntimeError, K710Error) as error:
        why = printable(str(error)) or type(error).__name__
        yield Check("videos", "decoder", "broken", why, use, remedy)
        return
    yield Check("videos", "decoder", "ok", found, use)


def _written_and_read() -> str:
    """FFmpeg's version, after four grey frames went through libx264 and came back as they were."""
    import av
    import numpy as np

    from k710.video.frames import read_frames
    from k710.video.profiles import PROFILES, add_stream

    greys = (40, 90, 140, 190)
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = add_stream(container, PROFILES["balanced"], size=(48, 32), fps=Fraction(10))
        for grey in greys:
            picture = np.full((32, 48, 3), grey, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    read = read_frames(file.getvalue(), [0, 3]).mean(axis=(1, 2, 3))
    if abs(read - [greys[0], greys[3]]).max() > 8:  # of 255: x264 may lose a little
        raise MediaError(f"greys of 40 and 190 came back as {read[0]:.0f} and {read[1]:.0f}")
    return f"FFmpeg {av.ffmpeg_version_info} in PyAV: H.264 written and read"


# --- downloads


def downloads(today: datetime.date, version: Version = installed) -> Iterator[Check]:
    """What `k710 download` needs beside yt-dlp itself, and how old that is."""
    number = version("yt-dlp")
    if number is not None:
        yield _age(number, today)
        yield from _javascript(version)
    ffmpeg = shutil.which("ffmpeg")
    use = "download --fetch sections, download --audio"
    if ffmpeg is None:
        yield Check("downloads", "ffmpeg", "missing", "not on PATH", use, "apt install ffmpeg")
    else:
        yield Check("downloads", "ffmpeg", "ok", printable(ffmpeg), use)


def _age(number: str, today: datetime.date) -> Check:
    """A version of yt-dlp is its date: 2026.10.26, or with the time behind it."""
    try:
        year, month, day = map(int, number.split(".")[:3])
        days = (today - datetime.date(year, month, day)).days
    except ValueError:
        return Check("downloads", "yt-dlp", "note", f"{number}, which is no date", "download")
    if days <= _OLD.days:
        return Check("downloads", "yt-dlp", "ok", f"{number}, {max(days, 0)} days old", "download")
    found = f"{number}, {days} days old: sites have changed since"
    return Check("downloads", "yt-dlp", "note", found, "download", "pip install --upgrade yt-dlp")


def _javascript(version: Version) -> Iterator[Check]:
    """YouTube's pages ask for JavaScript: a runtime, and the solver that runs in it.

    Of the runtimes that yt-dlp knows it uses Deno alone unless told otherwise, and k710 doesn't.
    Without the solver it has one that Deno would have to get from npm, which it is not let do.
    """
    use = "download, all streams of YouTube"
    try:
        import yt_dlp.utils._jsruntime as known
    except ImportError:  # before 2025.11; or it has moved
        yield Check("downloads", "deno", "note", "this yt-dlp does not tell of runtimes", use)
        return
    info = known.DenoJsRuntime().info
    if info is None:
        others = (known.NodeJsRuntime, known.BunJsRuntime, known.QuickJsRuntime)
        there = [f"{one.name} {one.version}" for kind in others if (one := kind().info)]
        found = "not on PATH" + (f"; {', '.join(there)} is not used by k710" if there else "")
        yield Check("downloads", "deno", "missing", printable(found), use, "pip install deno")
    elif not info.supported:
        least = ".".join(map(str, known.DenoJsRuntime.MIN_SUPPORTED_VERSION))
        found = f"{printable(info.version)}: yt-dlp needs {least}"
        yield Check("downloads", "deno", "missing", found, use, "pip install --upgrade deno")
    else:
        yield Check("downloads", "deno", "ok", printable(info.version), use)
    solver = version("yt-dlp-ejs")
    if solver is None:
        remedy = "pip install 'yt-dlp[default]'"
        yield Check("downloads", "yt-dlp-ejs", "missing", "not installed", use, remedy)
    else:
        yield Check("downloads", "yt-dlp-ejs", "ok", solver, use)
