"""What the workers need of the process that trains. How they read: test_data.py."""

import os
import subprocess
import sys

import pytest

from uniformerv2.dataset.workers import shorten_openmp_spin


def test_threads_sleep_soon_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    shorten_openmp_spin()
    assert os.environ["GOMP_SPINCOUNT"] == "10000"
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    shorten_openmp_spin()
    assert os.environ["GOMP_SPINCOUNT"] == "7"


def test_it_can_be_called_before_torch_is_imported() -> None:
    program = (
        "import sys, uniformerv2; uniformerv2.shorten_openmp_spin(); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
