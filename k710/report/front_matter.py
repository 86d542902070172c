"""The YAML on top of a dataset card, as the Hugging Face hub reads it.

The keys are those of the hub's own datasetcard.md. A config is a table, so that
`load_dataset(REPO, "manifest", split="rows")` reads it, and the hub's viewer shows it.
"""

import json
from collections.abc import Mapping

from k710.tables.sidecar import Sidecar

__all__ = ["front_matter", "size_category"]

_TAGS = ("kinetics", "kinetics-710", "action-recognition")


def front_matter(num_clips: int, tables: Mapping[str, Sidecar]) -> str:
    """The front matter with its fences; the first of `tables` is what is read by default."""
    lines = [
        "---",
        "pretty_name: " + _quoted("Kinetics-710 (manifest)"),
        "license: " + _quoted("cc-by-4.0"),
        "language:",
        "- " + _quoted("en"),
        "task_categories:",
        "- " + _quoted("video-classification"),
        "size_categories:",
        "- " + _quoted(size_category(num_clips)),
        "tags:",
        *("- " + _quoted(tag) for tag in _TAGS),
        "configs:",
    ]
    # The hub's viewer shows an error for a table without rows.
    for place, name in enumerate(name for name, sidecar in tables.items() if sidecar.rows):
        lines.append("- config_name: " + _quoted(name))
        lines += [] if place else ["  default: true"]
        # Not `train`: a table holds the rows of all views. `all` is a word of the library's own.
        lines += ["  data_files:", "  - split: " + _quoted("rows")]
        lines.append("    path: " + _quoted(f"{name}.parquet"))
    return "\n".join([*lines, "---", "", ""])


def size_category(num: int) -> str:
    """The hub's name for a data set of so many examples: `100K<n<1M`."""
    names = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")
    for place, name in enumerate(names):
        if num < 1000 * 10**place:
            return f"{names[place - 1]}<n<{name}" if place else f"n<{name}"
    return f"n>{names[-1]}"


def _quoted(text: str) -> str:
    """A YAML scalar that is text, whatever it looks like: JSON's strings are such."""
    return json.dumps(text)
