"""What the demo is made of: lists that overlap as the real ones do, and no more than those."""

import csv
from pathlib import Path

from k710.demo.lists import write_demo_lists


def ids(path: Path) -> set[str]:
    with path.open(encoding="utf-8", newline="") as file:
        return {row["youtube_id"] for row in csv.DictReader(file)}


def test_no_clip_that_k400_tests_is_one_that_it_trains_on(tmp_path: Path) -> None:
    """The demo fine-tunes on k400/train and says of k400/val that no training has seen it."""
    write_demo_lists(tmp_path, sizes={"train": 380, "val": 60, "test": 12}, seconds=1)
    k400 = {name: ids(tmp_path / "kinetics400" / f"{name}.csv") for name in ("train", "validate")}
    assert len(k400["train"]) > 380 and len(k400["validate"]) == 60
    assert not k400["train"] & k400["validate"]
    k700 = ids(tmp_path / "kinetics700_2020" / "validate.csv")
    assert k700 & k400["validate"] and k700 & k400["train"]  # later lists do, and leak
