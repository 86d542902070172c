"""On what a figure was taken."""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["device"]


def device(*packages: str) -> dict[str, Any]:
    """Processor, cores, memory, system, and the versions of `packages`."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    models = [line.partition(":")[2].strip() for line in cpuinfo.splitlines() if "model n" in line]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in packages},
    }
