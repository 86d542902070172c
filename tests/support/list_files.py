"""Annotation lists that tests write, and the real data beside the project."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import strategies as st

from k710.annotations.table import LISTS
from support.paths import SHARED

Row = tuple[str, str, int, int]  # label, id, start, end
Lists = Mapping[str, Sequence[Row]]

# Few ids, windows and labels, so that they meet in every way.
CLIPS = st.tuples(
    st.sampled_from(["archery", "bowling", "yoga", "zumba"]),
    st.sampled_from(["a", "A", "-a", "b", "c", "d"]),
    st.sampled_from([0, 1, 100]),
).map(lambda clip: (*clip, clip[2] + 10))
ANY_LISTS = st.dictionaries(
    st.sampled_from([*LISTS, "k600/holdout_test"]),
    st.lists(CLIPS, min_size=1, max_size=8),
    min_size=1,
    max_size=10,
)


def vid(name: str) -> str:
    """A YouTube id that can be read: `name`, filled up to 11 characters."""
    return name.ljust(11, "_")


def write_lists(folder: Path, lists: Lists) -> Path:
    """Write one CSV for each `dataset/split` below `folder`, in the published format."""
    for name, rows in lists.items():
        dataset, split = name.split("/")
        path = folder / dataset / f"{split}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"{label},{vid(i)},{start},{end},{split}" for label, i, start, end in rows]
        path.write_text("\n".join(["label,youtube_id,time_start,time_end,split", *lines, ""]))
    return folder


def shared(*parts: str) -> Path:
    """A path in the folder of real data beside the project; skips where it is missing."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs the real data in ../shared/{'/'.join(parts)}")
    return path
