"""Do two forms of one list, such as val.csv and val.json, have the same rows?"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from k710.annotations.find import ListFile

__all__ = ["RowKeys", "find_difference"]

_ID, _LABEL = "youtube_id", "label"
_CLIP = (_ID, "time_start", "time_end", "split")


@dataclass(slots=True)
class RowKeys:
    """What of the rows of a file tells them apart."""

    batches: list[pa.RecordBatch] = field(default_factory=list)

    def note(self, batch: pa.RecordBatch) -> None:
        """Keep what is needed of a batch of `rows_schema`."""
        self.batches.append(batch.select([*_CLIP, _LABEL]))

    def table(self) -> pa.Table:
        """All rows. A label that is missing is -1: a join takes no null for equal to another."""
        rows = pa.Table.from_batches(self.batches)
        label = pc.fill_null(rows[_LABEL], -1)
        return rows.set_column(rows.column_names.index(_LABEL), _LABEL, label)


def find_difference(file: ListFile, read: RowKeys, twin: ListFile, other: RowKeys) -> str | None:
    """What an error says where `twin` has other rows than `file`; None where it has the same.

    Exact duplicates don't count, nor do labels that one of them lacks altogether, nor the rows that
    a JSON can't have, because it has each id once.
    """
    ours, theirs = read.table(), other.table()
    is_labelled = all(pc.max(rows[_LABEL]).as_py() >= 0 for rows in (ours, theirs))
    keys = [*_CLIP, _LABEL] if is_labelled else [*_CLIP]
    lacking, surplus = _without(ours, theirs, keys), _without(theirs, ours, keys)
    if twin.is_json:
        lacking = _without(lacking, theirs, [_ID])
    elif file.is_json:
        surplus = _without(surplus, ours, [_ID])
    if not lacking.num_rows and not surplus.num_rows:
        return None
    return (
        f"{file.path} and {twin.path} should be one list in two forms, but they have "
        f"{ours.num_rows:,} and {theirs.num_rows:,} rows, of which {lacking.num_rows:,} are in the "
        f"first alone, and {surplus.num_rows:,} in the second alone.\n"
        "Move one of them away, or take the rows of both with --merge-editions."
    )


def _without(rows: pa.Table, others: pa.Table, keys: Sequence[str]) -> pa.Table:
    return rows.join(others.select(keys), list(keys), join_type="left anti")
