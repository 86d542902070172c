"""The kernels in Triton's interpreter: what they compute, where there is no GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

FILES = ("augment/test_triton.py", "test_depthwise_triton.py")
SOME = (
    "a_batch or is_scaled or equalize or color or sharpness or shear_x or "
    "(as_conv3d and (shape1 or shape2)) or (several_rows and True) or read_after"
)


@pytest.mark.parametrize(
    ("chosen", "passed"),
    [pytest.param(SOME, 14, id="some"), pytest.param("", 36, id="all", marks=pytest.mark.slow)],
)
def test_in_tritons_interpreter(chosen: str, passed: int) -> None:
    # In a process of its own: Triton asks for the variable when it is imported.
    files = [str(Path(__file__).parent / name) for name in FILES]
    command = [sys.executable, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", "-k", chosen]
    done = subprocess.run(
        [*command, *files],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert f"{passed} passed" in done.stdout, done.stdout
