"""What an exported list holds, what it lacks and why, and what to do about that."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from k710.export.formats import Format, reads_folder
from k710.export.request import ExportRequest
from k710.export.wids import WidsIndex
from k710.labels.orders import Family
from k710.shards.extract import Extracted
from k710.statuses import Status

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
_IN_OTHER_FORM = ("archived", "undecided", "whole", "elsewhere")
_TO_DOWNLOAD = tuple(status for status in Status if status.retry == "always")
_REFUSED = tuple(s for s in Status if s.subject == "site" and s.state == "final")
_NO_GOOD = tuple(s for s in Status if s.subject == "file" and s is not Status.OK)
_OWN = {"mmaction2": "MMAction2", "slowfast": "SlowFast", "videomae": "VideoMAE"}


@dataclass(frozen=True, slots=True)
class LeftOut:
    """How many clips of the view are not in the list for one reason."""

    reason: str  # a status of sources.parquet, or why the file can't be listed
    clips: int
    stored: int  # of them, in shards

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


def nothing_to_list(request: ExportRequest, left_out: Sequence[LeftOut]) -> str:
    """The words for a list that would be empty."""
    why = ", ".join(left.words for left in left_out) or "the view has none"
    lines = [f"No clip of {request.view} can be listed: {why}."]
    if any(left.reason == "unlabelled" for left in left_out):
        lines.append(
            f"{request.format} would take some class for granted: take --format csv or wids."
        )
    return "\n".join([*lines, *_remedies(request, left_out)])


def remarks_of(
    request: ExportRequest,
    left_out: Sequence[LeftOut],
    *,
    num_classes: int,
    never_opened: int,
    has_spaces: bool,
) -> list[str]:
    """What a user of the list should know."""
    remarks = _remedies(request, left_out)
    if never_opened:
        remarks.append(
            f"Of {never_opened:,} files nothing but the name is known. Trainers put other clips in "
            f"the place of what they can't read. To find it before: {_index(request)} --probe"
        )
    remarks += _of_family(request.format, request.family)
    if request.format == "wids":
        remarks += _of_wids(request.root)
    elif reads_folder(request.format):
        remarks += _of_folder(request)
    if request.format == "videomae":
        remarks += _of_videomae(request, num_classes, has_spaces)
    return remarks


def _of_family(format: Format, family: Family) -> list[str]:
    if family == "opengvlab" and format in _OWN:
        return [f"{_OWN[format]}'s own checkpoints have the other order: --family alphabetical"]
    if family == "alphabetical" and reads_folder(format):
        return [
            "Checkpoints of OpenGVLab (UniFormerV2, VideoMAEv2) have the other order: "
            "--family opengvlab"
        ]
    return []


def _of_wids(root: str) -> list[str]:
    remarks = ["wids comes with webdataset before 1.0: pip install 'webdataset>=0.2.96,<1'"]
    if "://" in root:
        remarks.append(
            "No user, password or token is written down: wids fetches with curl, aws or gsutil, "
            "which take them from their own files (curl: a line `netrc` in ~/.curlrc, and ~/.netrc)"
        )
    else:
        remarks.append(
            "Leave lru_size there: versions that don't know it would delete the shards. While one "
            "is opened a .lock lies beside it: their folder must be writable."
        )
    return remarks


def _of_folder(request: ExportRequest) -> list[str]:
    """How the folder gets the list that its reader wants at the end."""
    test = request.output.with_name("test.csv")
    if request.output.name != "val.csv" or test.exists():
        return []
    command = request.command(request.view, test)
    return [f"{_OWN[request.format]} tests on test.csv. The same clips as that: {command}"]


def _of_videomae(request: ExportRequest, num_classes: int, has_spaces: bool) -> list[str]:
    remarks = []
    if has_spaces:
        remarks.append(
            "Paths with a space are in quotes: fine-tuning reads them, run_mae_pretraining.py "
            "doesn't."
        )
    elif request.output.name == "train.csv":
        told = shlex.join(("--data_path", str(request.output.absolute())))
        remarks.append(f"run_mae_pretraining.py takes the list itself: {told}")
    if num_classes != 400:
        remarks.append("VideoMAE's datasets.py has nb_classes = 400 for Kinetics: change it there.")
    return remarks


# --- what to do about what is lacking


def _remedies(request: ExportRequest, left_out: Sequence[LeftOut]) -> list[str]:
    of = {left.reason: left for left in left_out}
    work, index = _work(request), _index(request)
    shard = f"k710 shard --views {request.view}{work}"
    download = f"k710 download --views {request.view}{work}"
    remedies = _of_other_form([of[reason] for reason in _IN_OTHER_FORM if reason in of], shard)
    if "unstored" in of:
        remedies.append(f"To get those that are in no shard: {shard}")
    if "changed" in of:
        remedies.append(f"To find files again: {index}")
    if named := _named(of, _TO_DOWNLOAD):
        then = f"{shard}, and export" + ("" if request.from_shards else " with --extract")
        remedies.append(f"To get those that are {named}: {download}, then {then}")
        remedies.append(f"Where there are copies of them: {index}")
    if Status.FAILED in of:
        again = f"k710 shard --retry --views {request.view}{work}"
        remedies.append(f"To try those again that failed here: {again}; without a copy: {download}")
    if named := _named(of, _REFUSED):
        remedies.append(f"None can be had of those that are {named}, but of others: {index}")
    if named := _named(of, _NO_GOOD):
        remedies.append(f"Another copy may take the place of those that are {named}: {index}")
    return remedies


def _work(request: ExportRequest) -> str:
    return "" if request.work == Path("work") else f" --work {shlex.quote(str(request.work))}"


def _index(request: ExportRequest) -> str:
    return f"k710 index --videos DIR{_work(request)}"


def _named(of: dict[str, LeftOut], reasons: Sequence[str]) -> str:
    return ", ".join(reason for reason in reasons if reason in of)


def _of_other_form(left_out: Sequence[LeftOut], shard: str) -> list[str]:
    """How to list clips that have a copy, but not as a file of their own below the root."""
    if not left_out:
        return []
    export = "export with --extract and a --root of its own"
    if all(left.stored == left.clips for left in left_out):
        words = " and ".join(_WORDS[left.reason] for left in left_out)
        return [f"Those {words} are in the shards too: {export}."]
    return [
        f"To get clips out of archives, whole videos and other folders: {shard}, then {export}."
    ]
