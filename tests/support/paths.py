"""Where the project lies, the real data beside it, and how another process finds `support`."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
PYTHONPATH = os.pathsep.join(
    [str(ROOT / "tests"), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
)
"""As PYTHONPATH of a process: it can import `support`, and all that this one was given."""
