"""How other trainers want their lists: names, separators, lines, and what must be set to read them.

What their loaders do to a line:

    slowfast     cuts it at each DATA.PATH_LABEL_SEPARATOR, by default a space; more than three
                 fields are an error, and in UniFormerV2 (arXiv 2211.09552) more than two
    mmaction2    strips it, and cuts it at each `delimiter`, by default a space
    videomae     pandas.read_csv(delimiter=" "): quotes protect a path. That is fine-tuning;
                 pretraining cuts at every space, whatever the quotes

None of them knows of comments or headers.
"""

import csv
import os
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Literal, NamedTuple, get_args

from k710.errors import StageError, shown
from k710.labels.orders import Family

__all__ = [
    "FOLDER_NAMES",
    "FORMATS",
    "SEPARATORS",
    "Format",
    "ListRow",
    "default_family",
    "default_output",
    "needs_labels",
    "reads_folder",
    "refuse_path",
    "refuse_usage",
    "separator_of",
    "settings_of",
    "write_rows",
]

Format = Literal["slowfast", "mmaction2", "videomae", "wids", "csv"]
FORMATS: tuple[Format, ...] = get_args(Format)
# The first that is in no path is taken. SlowFast's LOADER_CHUNK_SIZE bears no comma.
SEPARATORS = (" ", ",", "\t")
FOLDER_NAMES = ("train.csv", "val.csv", "test.csv")
"""What is read by those trainers that are told a folder."""


class ListRow(NamedTuple):
    """A clip that is listed; the columns of `csv`."""

    youtube_id: str
    time_start: int  # seconds
    time_end: int  # seconds
    class_index: int | None  # in the order of the family; None: its list has no labels
    class_name: str | None  # as the dataset spells it
    clip_id: str
    path: str  # below the root


# Versions of webdataset before 0.2.96 don't know `lru_size`: of shards that are read where they
# lie, those delete each one that they are done with. 10 is what the others take without it.
_WHERE_THEY_LIE = ", localname=str, lru_size=10"


def default_family(format: Format) -> Family:
    """The order of classes that the checkpoints have which the trainer's own authors published."""
    return "alphabetical" if needs_labels(format) else "opengvlab"


def reads_folder(format: str) -> bool:
    """Whether the trainer is told a folder, and takes the lists there by their names."""
    return format in ("slowfast", "videomae")


def default_output(work: Path, view: str, *, format: Format, family: str) -> Path:
    """Where the list of a view goes: one folder for each format, dataset and family."""
    dataset, _, split = view.partition("/")
    name = {
        "mmaction2": f"kinetics{dataset.removeprefix('k')}_{split}_list_videos.txt",
        "wids": f"{split}.wids.json",
    }.get(format, f"{split}.csv")
    return work / "lists" / f"{format}-{dataset}-{family}" / name


def needs_labels(format: Format) -> bool:
    """Whether a clip without a label can't be listed: 0 or -1 would pass for a class."""
    return format in ("slowfast", "mmaction2", "videomae")


def refuse_usage(
    format: str,
    *,
    root: str | os.PathLike[str] | None,
    extract: bool,
    output: str | os.PathLike[str] | None,
) -> None:
    """ValueError where these options don't go together."""
    if format not in FORMATS:
        raise ValueError(f"{shown(format)} is not one of {', '.join(FORMATS)}")
    if root is None and format != "wids":
        raise ValueError(f"{format} needs a root, the folder of the clips")
    if extract and format == "wids":
        raise ValueError("wids reads the shards as they are: there is nothing to extract")
    if output is not None and reads_folder(format) and Path(output).name not in FOLDER_NAMES:
        raise ValueError(
            f"{format} reads {', '.join(FOLDER_NAMES)} of a folder, "
            f"and never {shown(Path(output).name or output)}: name the output so"
        )


def refuse_path(path: str, format: Format) -> None:
    """StageError where no line of that format can carry the path."""
    if path.splitlines() != [path]:
        why = "its name has a line break"
    elif format == "mmaction2" and path != path.lstrip():
        why = "MMAction2 would strip the white space at its beginning"
    else:
        return
    raise StageError(
        f"{shown(path, limit=300)} can't be in a list: {why}.\nRename it, and run k710 index again."
    )


def separator_of(format: Format, unused: Iterable[str], root: str) -> str | None:
    """What stands between path and label, of the separators that no path has.

    None where the format has a way of its own. StageError where every one is in some path.
    """
    if format not in ("slowfast", "mmaction2"):
        return None
    for separator in SEPARATORS:
        if separator in unused:
            return separator
    raise StageError(
        f"The paths below {root} have spaces, commas and tabs in their names: {format} could not "
        "tell path from label.\nRename the folders, and run k710 index again; or export with "
        "--extract and another --root."
    )


def write_rows(
    file: IO[str], rows: Iterable[ListRow], *, format: Format, root: str, separator: str
) -> None:
    """Write the whole list."""
    if format == "csv":
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(ListRow._fields)
        writer.writerows(rows)
    elif format == "videomae":  # it knows of no prefix
        file.writelines(
            f"{_quote(os.path.join(root, row.path))} {row.class_index}\n" for row in rows
        )
    else:
        file.writelines(f"{row.path}{separator}{row.class_index}\n" for row in rows)


def _quote(path: str) -> str:
    return '"' + path.replace('"', '""') + '"' if " " in path or '"' in path else path


def settings_of(
    output: Path, *, format: Format, root: str, separator: str, num_classes: int
) -> str | None:
    """What the trainer must be told to read the list, as it is typed there; None: nothing."""
    folder = os.path.abspath(output.parent)
    path = os.path.abspath(output)
    if format == "slowfast":
        # Its settings are read as Python where they can be: a bare tab would be lost.
        told = '"\\t"' if separator == "\t" else separator
        settings: Sequence[str] = (
            *("DATA.PATH_TO_DATA_DIR", folder, "DATA.PATH_PREFIX", root),
            *("DATA.PATH_LABEL_SEPARATOR", told, "MODEL.NUM_CLASSES", str(num_classes)),
        )
        return shlex.join(settings)
    if format == "mmaction2":
        return (
            f"dict(type='VideoDataset', ann_file={path!r}, "
            f"data_prefix=dict(video={root!r}), delimiter={separator!r})"
        )
    if format == "videomae":
        return shlex.join(("--data_path", folder, "--nb_classes", str(num_classes)))
    if format == "wids":
        local = "" if "://" in root else _WHERE_THEY_LIE  # else it copies each shard to /tmp
        return f"wids.ShardListDataset({path!r}, transformations=[]{local})"
    return None
