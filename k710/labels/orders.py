"""The 710 classes: their rows in checkpoints, each dataset's orders, and any name's row.

A *K710 row* is always a row of the head of the published OpenGVLab checkpoints (UniFormerV2, arXiv
2211.09552; also UMT, InternVideo2, VideoMAEv2). A *family* orders the classes of one dataset:

    opengvlab      the order of those authors' own lists; for K400 it is K710 rows 0-399 as they are
    alphabetical   Python's sorted() of the names as the dataset spells them: MMAction2,
    torchvision, DeepMind

The tables are manifests/labels.csv and manifests/aliases.csv.
"""

import csv
import difflib
import hashlib
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeVar, cast, get_args

from k710.errors import LabelError, shown
from k710.files import manifests_dir

__all__ = [
    "DATASETS",
    "FAMILIES",
    "NUM_CLASSES",
    "Dataset",
    "Family",
    "class_names",
    "class_rows",
    "dataset_rows",
    "dataset_spelling",
    "find_row",
    "head_map",
    "k710_order",
    "labels_sha256",
    "published_spelling",
    "resolve_label",
]

Dataset = Literal["k400", "k600", "k700"]
Family = Literal["opengvlab", "alphabetical"]
DATASETS: tuple[Dataset, ...] = get_args(Dataset)
FAMILIES: tuple[Family, ...] = get_args(Family)
NUM_CLASSES = 710
_LONGEST = 1000  # characters of a name that is looked for: of a file's, it may have millions
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Tables:
    names: tuple[str, ...]  # K710 row -> name
    indices: dict[str, dict[int, int]]  # dataset -> {K710 row: class index in the OpenGVLab order}
    spellings: dict[
        str, dict[int, str]
    ]  # dataset -> {K710 row: the name as the dataset itself spells it}
    rows: dict[str, int]  # folded name or alias -> K710 row
    published: frozenset[str]  # every name and alias
    by_fold: dict[str, str]  # folded -> the published name


def class_names() -> tuple[str, ...]:
    """The 710 names; position i is the name of K710 row i."""
    return _tables().names


def dataset_rows(dataset: Dataset) -> frozenset[int]:
    """The K710 rows that are classes of `dataset`: 400, 600 or 700 of them."""
    return frozenset(_of(_tables().indices, dataset))


def dataset_spelling(dataset: str, row: int) -> str:
    """K710 row `row` as `dataset`, or "k710", spells it. LabelError if it lacks that class."""
    if dataset == "k710":
        return class_names()[row]
    spellings = _of(_tables().spellings, dataset)
    if row not in spellings:
        raise LabelError(f"K710 row {row} ({class_names()[row]}) is no class of {dataset}.")
    return spellings[row]


def head_map(dataset: Dataset, family: Family) -> list[int]:
    """Position i is the K710 row of class i of `dataset` in `family`: 400, 600 or 700 rows.

    Picking these rows of a K710 head's weight and bias gives the dataset's head.
    """
    tables = _tables()
    if _known_family(family) == "opengvlab":
        indices = _of(tables.indices, dataset)
        return sorted(indices, key=indices.__getitem__)
    spellings = _of(tables.spellings, dataset)
    return sorted(spellings, key=spellings.__getitem__)


def class_rows(dataset: str, family: Family) -> list[int]:
    """Position i is the K710 row of class i of `dataset`, "k710" included, in `family`."""
    return k710_order(family) if dataset == "k710" else head_map(cast(Dataset, dataset), family)


def k710_order(family: Family) -> list[int]:
    """Position i is the K710 row of row i of that family's own 710-row head.

    `opengvlab` is 0..709 by definition. `alphabetical` is MMAction2's head: K400 by name, then rows
    400-709 as they are.
    """
    if _known_family(family) == "opengvlab":
        return list(range(NUM_CLASSES))
    return head_map("k400", "alphabetical") + list(range(400, NUM_CLASSES))


def resolve_label(name: str, *, dataset: Dataset | None = None) -> int:
    """The K710 row of a class name in any published spelling, merged names included.

    With `dataset`, the name must be a class of that dataset. LabelError gives the nearest names.
    """
    row = find_row(name)
    if row is None:
        near = nearest_names(name)
        raise LabelError(f"{shown(name)} is no Kinetics class. Nearest: {', '.join(near)}.")
    if dataset is not None and row not in dataset_rows(dataset):
        homes = " and ".join(d for d in DATASETS if row in dataset_rows(d))
        raise LabelError(f"{shown(name)} is no class of {dataset}: it is one of {homes}.")
    return row


def find_row(name: str) -> int | None:
    """The K710 row of a class name, as `resolve_label`; None if it is none."""
    return _tables().rows.get(_fold(name))


def nearest_names(name: str, *, num: int = 3) -> list[str]:
    """The `num` class names and merged names most like `name`, best first."""
    tables = _tables()
    folded = _fold(name[:_LONGEST])
    near = difflib.get_close_matches(folded, tables.rows, n=num, cutoff=0.0)
    return [tables.names[tables.rows[key]] for key in near]


def published_spelling(name: str) -> str:
    """The published name that `name` spells: as it is, if it is one; else the K710 or merged one.

    LabelError as `resolve_label`. Not covered: which dataset spells it so.
    """
    tables = _tables()
    if name in tables.published:
        return name
    resolve_label(name)
    return tables.by_fold[_fold(name)]


def labels_sha256() -> str:
    """A hash of all orders and spellings: tables or checkpoints with the same one fit together."""
    tables = _tables()
    digest = hashlib.sha256()
    for row, name in enumerate(tables.names):
        homes = [
            f"{d}:{tables.indices[d].get(row, '')}:{tables.spellings[d].get(row, '')}"
            for d in DATASETS
        ]
        digest.update("\t".join([str(row), name, *homes, "\n"]).encode())
    return digest.hexdigest()


@cache
def _tables() -> _Tables:
    with (manifests_dir() / "labels.csv").open(encoding="utf-8", newline="") as file:
        labels = list(csv.DictReader(file))
    with (manifests_dir() / "aliases.csv").open(encoding="utf-8", newline="") as file:
        aliases = list(csv.DictReader(file))
    names = tuple(line["label"] for line in labels)
    indices: dict[str, dict[int, int]] = {
        d: {row: int(line[d]) for row, line in enumerate(labels) if line[d]} for d in DATASETS
    }
    spellings: dict[str, dict[int, str]] = {
        d: {row: names[row] for row in indices[d]} for d in DATASETS
    }
    rows = {_fold(name): row for row, name in enumerate(names)}
    for line in aliases:
        row = names.index(line["label"])
        rows[_fold(line["alias"])] = row
        for dataset in line["datasets"].split():
            spellings[dataset][row] = line["alias"]
    published = [*(line["alias"] for line in aliases), *names]  # of two, the K710 name wins
    return _Tables(
        names=names,
        indices=indices,
        spellings=spellings,
        rows=rows,
        published=frozenset(published),
        by_fold={_fold(name): name for name in published},
    )


def _fold(name: str) -> str:
    # What the folder spellings in use change or leave out. The rest must be right.
    return "".join(c for c in name.lower() if c not in " _-'()")


def _of(by_dataset: dict[str, dict[int, T]], dataset: str) -> dict[int, T]:
    if dataset not in by_dataset:
        raise LabelError(f"{shown(dataset)} is no dataset: {', '.join(DATASETS)}.")
    return by_dataset[dataset]


def _known_family(family: str) -> str:
    if family not in FAMILIES:
        raise LabelError(f"{shown(family)} is no family of label orders: {' or '.join(FAMILIES)}.")
    return family
