"""Full-size Kinetics annotation lists, synthesised from the published counts and overlaps.

    python benchmarks/synthetic_lists.py OUT_DIR [--copies 20]

Row counts and overlaps between lists are those of the 2021 refresh (K400 219,782 / 18,035 / 35,357
rows of train / val / test; K600 371,354 / 28,318 / 56,618; K700-2020 544,823 / 34,178 / 67,722).
Ids, windows and labels are drawn at random, seeded. `--copies n` writes n times the rows, each copy
with ids of its own. Train rows found in another dataset's val or test list are modelled as
published; where no figure is published (triple overlaps) the choice is stated in the code.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import csv as pa_csv

from k710.labels.orders import DATASETS, class_names, dataset_rows, dataset_spelling

ALPHABET = np.frombuffer(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", dtype="S1"
)
FOLDERS = {"k400": "kinetics400", "k600": "kinetics600", "k700": "kinetics700_2020"}
SPLIT_WORDS = {"train": "train", "val": "validate", "test": "test"}


@dataclass(frozen=True, slots=True)
class Lists:
    """Positions in a pool of clips: a list's `members`; its `extra` ones have a second window."""

    num_clips: int
    members: dict[str, np.ndarray]
    extra: dict[str, np.ndarray]


def plan_lists() -> Lists:
    """Which clips of one pool are in which list, so that the published counts hold."""
    taken = 0

    def fresh(count: int) -> np.ndarray:
        nonlocal taken
        taken += count
        return np.arange(taken - count, taken)

    k400 = fresh(219_782)
    k600_new = fresh(203_275 - 772)
    k700_new = fresh(281_248 - 2_471)
    members: dict[str, npt.NDArray[np.int64]] = {
        "k400/train": k400,
        "k600/train": np.concatenate([k400[:168_079], k600_new]),
        # No figure for the triple overlap is published: most of K700's share is taken from clips
        # that K600 has too.
        "k700/train": np.concatenate(
            [k400[:160_000], k400[168_079 : 168_079 + 7_973], k600_new[:95_602], k700_new]
        ),
    }
    in_k600_val, in_k600_test = k700_new[:17_307], k700_new[17_307 : 17_307 + 30_068]
    in_k400_val, in_k400_test = in_k600_val[:13_427], in_k600_test[:22_267]
    # K400 train and K600 train in later val and test lists.
    to_k600_val, to_k700_val = k400[-737:], np.concatenate([k400[-1_062:-737], k600_new[-79:]])
    to_k700_test = np.concatenate([k400[-1_137:-1_062], k600_new[-82:-79]])
    # Held-out lists among themselves: K400 val and K600 val share 13,569 ids, their test lists
    # 27,190.
    both_val, both_test = fresh(13_569 - 13_427), fresh(27_190 - 22_267)
    k400_test_k700_val = fresh(4_275)
    k600_val = np.concatenate([in_k600_val, to_k600_val, both_val])
    k600_test = np.concatenate([in_k600_test, both_test])
    k400_val = np.concatenate([in_k400_val, both_val])
    k400_test = np.concatenate([in_k400_test, both_test, k400_test_k700_val])
    k600_test_k700_val, k600_test_k700_test = fresh(6_360), fresh(1_837)
    k600_test = np.concatenate([k600_test, k600_test_k700_val, k600_test_k700_test])
    k700_val = np.concatenate([to_k700_val, k400_test_k700_val, k600_test_k700_val])
    k700_test = np.concatenate([to_k700_test, k600_test_k700_test])
    for name, rows, size in (
        ("k400/val", k400_val, 18_035),
        ("k400/test", k400_test, 35_357),
        ("k600/val", k600_val, 28_313),
        ("k600/test", k600_test, 56_618),
        ("k700/val", k700_val, 34_125),
        ("k700/test", k700_test, 67_433),
    ):
        members[name] = np.concatenate([rows, fresh(size - len(rows))])
    extra = {name: members[name][:0] for name in members}
    # Ids that serve a second window inside one list.
    extra["k600/train"] = k600_new[100_000 : 100_000 + 772]
    extra["k700/train"] = k700_new[60_000 : 60_000 + 2_471]
    extra["k600/val"] = members["k600/val"][-5:]
    extra["k700/val"] = members["k700/val"][-53:]
    extra["k700/test"] = members["k700/test"][-289:]
    return Lists(num_clips=taken, members=members, extra=extra)


def write_lists(out: Path, *, copies: int = 1, seed: int = 0) -> int:
    """Write one CSV a list below `out`, in the published format; returns the number of rows."""
    lists = plan_lists()
    rng = np.random.default_rng(seed)
    common = sorted(dataset_rows("k400") & dataset_rows("k600") & dataset_rows("k700"))
    own: dict[str, npt.NDArray[np.str_]] = {
        d: np.array([dataset_spelling(d, r) if r in dataset_rows(d) else "" for r in range(710)])
        for d in DATASETS
    }
    assert len(class_names()) == 710
    num_rows = 0
    for copy in range(copies):
        ids = ALPHABET[rng.integers(0, 64, (lists.num_clips, 11))].view("S11").ravel().astype(str)
        starts = rng.integers(0, 300, lists.num_clips)
        labels = rng.choice(common, lists.num_clips)
        for name, member in lists.members.items():
            dataset, split = name.split("/")
            rows = np.concatenate([member, lists.extra[name]])
            later = np.concatenate(
                [np.zeros(len(member), int), np.full(len(lists.extra[name]), 17)]
            )
            order = np.lexsort((ids[rows], labels[rows]))  # upstream lists are sorted by class
            rows, later = rows[order], later[order]
            table = pa.table(
                {
                    "label": own[dataset][labels[rows]],
                    "youtube_id": ids[rows],
                    "time_start": starts[rows] + later,
                    "time_end": starts[rows] + later + 10,
                    "split": np.full(len(rows), SPLIT_WORDS[split]),
                }
            )
            if dataset == "k700" and split == "test":
                table = table.drop_columns("label")
            _append_csv(
                table, out / FOLDERS[dataset] / f"{SPLIT_WORDS[split]}.csv", header=copy == 0
            )
            num_rows += table.num_rows
    return num_rows


def _append_csv(table: pa.Table, path: Path, *, header: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb" if header else "ab") as file:
        if header:
            file.write(",".join(table.column_names).encode() + b"\n")
        pa_csv.write_csv(
            table, file, pa_csv.WriteOptions(include_header=False, quoting_style="none")
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--copies", type=int, default=1)
    arguments = parser.parse_args()
    print(f"{write_lists(arguments.out, copies=arguments.copies):,} rows")
