"""The statuses of a clip: the one table of them, for Python and, as `statuses`, for SQL.

A new status is one line of `Status`. Which statuses are pending, final or bad is read from here.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Literal

__all__ = [
    "FORMER_NAMES",
    "STATES",
    "Retry",
    "State",
    "Status",
    "parse_status",
    "statuses_sha256",
    "statuses_table",
]

State = Literal["stored", "to_shard", "pending", "final"]
"""stored: in a finished shard; to_shard: a copy waits for one; pending: may still be had;
final: a definite no, or a bad copy. Another copy may take the place of any but the first."""
STATES: tuple[State, ...] = ("stored", "to_shard", "pending", "final")
Retry = Literal["always", "without_copy", "asked", "never"]
"""Which runs of `k710 download` try a clip: each; each as long as it has no copy; those with
--again; none."""
Subject = Literal["file", "site", "machine"]


class Status(StrEnum):
    """How a clip of the manifest fares, as sources.parquet says."""

    state: State  # of a clip that is in no shard
    retry: Retry
    subject: Subject  # what the status was learned from
    words: str  # for people

    def __new__(
        cls, value: str, state: State, retry: Retry, subject: Subject, words: str
    ) -> "Status":
        """Make a member that is the text `value` and knows the rest of its line."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.state = state
        member.retry = retry
        member.subject = subject
        member.words = words
        return member

    OK = "ok", "to_shard", "never", "file", "within 0.5 s of its window"
    TRUNCATED = "truncated", "to_shard", "asked", "file", "shorter than its window"
    EMPTY = "empty", "final", "asked", "file", "nothing of the window is in the file"
    DAMAGED = "damaged", "final", "asked", "file", "decoding fails inside the window"
    MISMATCHED = "mismatched", "final", "asked", "file", "its length is not that of its window"
    MISSING = "missing", "pending", "always", "machine", "no copy"
    GONE = "gone", "final", "asked", "site", "removed from the site"
    PRIVATE = "private", "final", "asked", "site", "private, or for members only"
    AGE = "age", "final", "asked", "site", "needs an account of a certain age"
    REGION = "region", "final", "asked", "site", "not shown in this country"
    BLOCKED = "blocked", "pending", "always", "site", "the site refused this address"
    TRANSIENT = "transient", "pending", "always", "site", "a temporary failure"
    FAILED = "failed", "pending", "without_copy", "machine", "failed here, or for no known reason"

    @property
    def is_bad_copy(self) -> bool:
        """Whether the file was read, and no clip can be made of it."""
        return self.subject == "file" and self.state == "final"


def parse_status(text: str) -> Status:
    """The status that a table calls `text`. KeyError where there is none."""
    return Status[text.upper()]


FORMER_NAMES = {"ours": Status.FAILED}
"""What earlier versions called a status."""


def statuses_table() -> Mapping[str, Sequence[str | bool]]:
    """The table `statuses` of SQL: its columns, one row per status."""
    return {
        "status": [status.value for status in Status],
        "state": [status.state for status in Status],
        "retry": [status.retry for status in Status],
        "subject": [status.subject for status in Status],
        "is_bad_copy": [status.is_bad_copy for status in Status],
    }


def statuses_sha256() -> str:
    """A hash of the table, for the sidecars of tables that depend on it."""
    return hashlib.sha256(json.dumps(statuses_table()).encode()).hexdigest()
