"""Which class each row of a head is: it travels with the weights, and decides what fits to what."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from k710.errors import LabelError, shown
from k710.labels.orders import (
    DATASETS,
    FAMILIES,
    NUM_CLASSES,
    Family,
    class_names,
    class_rows,
    dataset_spelling,
    labels_sha256,
)

__all__ = ["ClassOrder", "Classes", "assumed_order", "order_of_record", "positions"]

Classes = Literal["k710", "k400", "k600", "k700"]
_NUM: dict[int, Classes] = {NUM_CLASSES: "k710", 400: "k400", 600: "k600", 700: "k700"}


@dataclass(frozen=True, slots=True)
class ClassOrder:
    """The classes of `dataset` in the order of `family`."""

    dataset: Classes
    family: Family

    def rows(self) -> list[int]:
        """Position i: the K710 row of row i of the head."""
        return class_rows(self.dataset, self.family)

    def names(self) -> list[str]:
        """Position i: the class of row i of the head, as its dataset spells it."""
        return [dataset_spelling(self.dataset, row) for row in self.rows()]

    def record(self) -> dict[str, str]:
        """What is written beside the weights."""
        return {
            "dataset": self.dataset,
            "family": self.family,
            "labels_sha256": labels_sha256(),
        }


def order_of_record(record: Mapping[str, Any], num_classes: int, where: str) -> ClassOrder:
    """The order that a checkpoint's record says.

    LabelError if it says none that is known, or one of another number of classes, or was written
    with other label tables.
    """
    dataset: Any
    family: Any
    dataset, family, sha256 = (record.get(key) for key in ("dataset", "family", "labels_sha256"))
    if "dataset" not in record:
        dataset = _NUM.get(num_classes)
    if dataset not in get_args(Classes) or family not in FAMILIES:
        raise LabelError(
            f"{where} says that its classes are {_said(dataset)} in {_said(family)} order: "
            f"known are {', '.join(_NUM.values())} in {' or '.join(FAMILIES)} order."
        )
    if sha256 != labels_sha256():
        raise LabelError(
            f"{where} was written with other label tables than this version's "
            "(labels_sha256 differs): read it with the k710 that wrote it."
        )
    order = ClassOrder(dataset, family)
    if len(order.rows()) != num_classes:
        raise LabelError(f"{where} says {dataset}, and its head has {num_classes:,} rows.")
    return order


def _said(value: object) -> str:
    return shown(value) if isinstance(value, str) else f"a {type(value).__name__}"


def assumed_order(num_classes: int, family: Family) -> ClassOrder | None:
    """What a head without a record is taken for; None if it is none of Kinetics."""
    dataset = _NUM.get(num_classes)
    return None if dataset is None else ClassOrder(dataset, family)


def positions(source: ClassOrder, target: ClassOrder) -> list[int]:
    """Position i: the row of a head in `source` order that is class i of `target`.

    LabelError if a class of the target is none of the source's.
    """
    place = {row: position for position, row in enumerate(source.rows())}
    lacking = [row for row in target.rows() if row not in place]
    if lacking:
        raise LabelError(
            f"A head of {source.dataset} has no row for {len(lacking)} classes of "
            f"{target.dataset}: {shown(class_names()[lacking[0]])} is one."
        )
    return [place[row] for row in target.rows()]


assert set(_NUM.values()) - {"k710"} == set(DATASETS)
