"""Where the project lies, and the path of Python processes that import its tests."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
PYTHONPATH = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
"""`tests.k710.engines.test_local` and `support.loopback` can be imported with this."""
