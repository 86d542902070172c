"""A part of a run that several machines share: i of n."""

import re
from dataclasses import dataclass

from k710.errors import shown

__all__ = ["Part"]


@dataclass(frozen=True, slots=True)
class Part:
    """Part `number` of `of`, from 1 on: the shards whose number leaves number - 1 over."""

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of <= 9999:
            raise ValueError(f"{self} is no part: write it like 3/16, from 1/16 to 16/16.")

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @property
    def name(self) -> str:
        """`003_of_016`: what its files are called."""
        return f"{self.number:03d}_of_{self.of:03d}"

    def has(self, shard: int) -> bool:
        """Whether that shard is this part's to make."""
        return shard % self.of == self.number - 1

    @classmethod
    def parse(cls, text: str) -> "Part":
        """The part that `text` says, like 3/16. ValueError if it is none."""
        match = re.fullmatch(r"\s*(\d{1,4})\s*/\s*(\d{1,4})\s*", text, re.ASCII)
        if not match:
            raise ValueError(f"{shown(text)} is no part: write it like 3/16.")
        return cls(int(match[1]), int(match[2]))
