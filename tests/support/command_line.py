"""The command `k710` in a test: in a process of its own, or in the test's own, which is quicker."""

import contextlib
import io
import subprocess
import sys
from pathlib import Path

from k710_cli import app

K710 = str(Path(sys.executable).with_name("k710"))


def k710(*arguments: object, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """What the command prints and its exit code, without the start of another interpreter.

    That the installed program does the same is tested with the programs that README shows.
    """
    words = [str(argument) for argument in arguments]
    printed, said = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with (
        contextlib.chdir(cwd or Path.cwd()),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(said),
    ):
        try:
            app(words, prog_name="k710")
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    outputs = []
    for stream in (printed, said):
        stream.flush()
        outputs.append(stream.buffer.getvalue().decode())
    return subprocess.CompletedProcess(["k710", *words], code, *outputs)
