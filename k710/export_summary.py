"""What an exported list holds, what it lacks and why, and what to do about that."""

from collections.abc import Sequence
from dataclasses import dataclass

from k710.extract import Extracted
from k710.labels import Family
from k710.trainers import Format
from k710.wids_index import WidsIndex

__all__ = ["ExportSummary", "LeftOut", "nothing_to_list", "remarks_of"]

_WORDS = {
    "unlabelled": "without a label",
    "archived": "in archives",
    "undecided": "of unknown length",
    "whole": "whole videos",
    "elsewhere": "not below the root",
    "changed": "gone or changed since k710 index",
    "unstored": "not in a shard yet",
}
_IN_OTHER_FORM = {"archived", "undecided", "whole", "elsewhere"}


@dataclass(frozen=True, slots=True)
class LeftOut:
    """How many clips of the view are not in the list for one reason."""

    reason: str  # a status of sources.parquet, or why the file can't be listed
    clips: int

    @property
    def words(self) -> str:
        """Number and reason, for people."""
        return f"{self.clips:,} {_WORDS.get(self.reason, self.reason)}"


@dataclass(frozen=True, slots=True)
class ExportSummary:
    """What a list holds, what it lacks, and what its trainer must be told."""

    view: str
    format: Format
    dataset: str
    family: Family
    num_classes: int
    clips: int  # listed
    left_out: tuple[LeftOut, ...]  # by reason
    root: str  # where the files are, or the shards
    separator: str | None  # between path and label; None: the format has its own
    extracted: Extracted
    index: WidsIndex | None  # of wids alone
    files: tuple[str, ...]  # written, the list first
    settings: str | None  # what the trainer must be told, as it is typed there
    remarks: tuple[str, ...]


def nothing_to_list(view: str, format: Format, left_out: Sequence[LeftOut]) -> str:
    """The words for a list that would be empty."""
    why = ", ".join(left.words for left in left_out)
    lines = [f"No clip of {view} can be listed: {why}."]
    if any(left.reason == "unlabelled" for left in left_out):
        lines.append(f"{format} would take some class for granted: take --format csv or wids.")
    return "\n".join([*lines, *_remedies(view, left_out)])


def remarks_of(
    view: str,
    left_out: Sequence[LeftOut],
    *,
    format: Format,
    family: Family,
    num_classes: int,
    never_opened: int,
    has_spaces: bool,
) -> list[str]:
    """What a user of the list should know."""
    remarks = _remedies(view, left_out)
    if never_opened:
        remarks.append(
            f"Of {never_opened:,} files nothing but the name is known. Trainers put other clips in "
            "the place of what they can't read: k710 index --probe finds it before."
        )
    if format == "mmaction2" and family == "opengvlab":
        remarks.append("MMAction2's own checkpoints have the other order: --family alphabetical")
    if format == "wids":
        remarks.append("wids comes with webdataset before 1.0: pip install 'webdataset<1'")
    if format == "videomae" and has_spaces:
        remarks.append(
            "Paths with a space are in quotes: fine-tuning reads them, run_mae_pretraining.py "
            "doesn't."
        )
    if format == "videomae" and num_classes != 400:
        remarks.append("VideoMAE's datasets.py has nb_classes = 400 for Kinetics: change it there.")
    return remarks


def _remedies(view: str, left_out: Sequence[LeftOut]) -> list[str]:
    reasons = {left.reason for left in left_out}
    remedies = []
    if reasons & _IN_OTHER_FORM:
        remedies.append(
            "To get clips out of archives, whole videos and other folders: "
            f"k710 shard --views {view}, then export with --extract and a --root of its own."
        )
    if "unstored" in reasons:
        remedies.append(f"To get those that are in no shard: k710 shard --views {view}")
    if "changed" in reasons:
        remedies.append("To find files again: k710 index --videos DIR")
    return remedies
