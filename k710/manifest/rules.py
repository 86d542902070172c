"""The choices that decide which rows get into the k710 views."""

from dataclasses import dataclass
from typing import Literal, get_args

from k710.labels.orders import DATASETS

__all__ = ["Dedup", "Rules"]

Dedup = Literal["id", "clip"]


@dataclass(frozen=True, slots=True)
class Rules:
    """How K710 is made of the lists; README says what each choice means."""

    protect: tuple[str, ...] = ("val", "test")  # train rows with an id in these lists are dropped
    prefer: tuple[str, ...] = ("k700", "k600", "k400")  # whose row of an id stays
    dedup: Dedup = "id"  # one row per YouTube id, or per (id, start, end)

    def __post_init__(self) -> None:
        if not set(self.protect) <= {"val", "test"} or len(set(self.protect)) < len(self.protect):
            raise ValueError(f"protect must be some of val and test, and is {list(self.protect)}")
        if sorted(self.prefer) != sorted(DATASETS):
            raise ValueError(
                f"prefer must name {', '.join(DATASETS)} once each, and is {list(self.prefer)}"
            )
        if self.dedup not in get_args(Dedup):
            raise ValueError(f"dedup must be id or clip, and is {self.dedup!r}")
