"""A view as a `webdataset.WebDataset`: the samples of its clips, and of no others.

A shard holds clips of many views, so `WebDataset("shards/*.tar")` mixes train and val. The manifest
decides which clips belong to a view, and what their labels are; the JSON in the shards is a
snapshot of it, and is not read.
"""

import os
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from k710.errors import MediaError, StageError
from k710.export.wids import refuse_address
from k710.labels.orders import Family, class_rows
from k710.sources.outcomes import tar_path
from k710.tables.connection import connect_to_read, run
from k710.tables.reading import open_table
from k710.tables.schemas import INDEX, MANIFEST
from k710.tables.views import require_views
from k710.video.frames import num_frames, read_frames

if TYPE_CHECKING:  # it imports torch where that is installed
    import webdataset

__all__ = ["open_view"]

_STORED = """
select clip_id, label, shard from manifest join index using (clip_id)
where view = $view order by shard, "offset"
"""


@dataclass(frozen=True, slots=True)
class _Samples:
    """The samples of a view; pickled to each worker."""

    classes: Mapping[str, int | None]  # clip_id -> class index
    frames: int | None

    def holds(self, member: str) -> bool:
        """Whether a file in a shard is a video of the view."""
        return member.removesuffix(".mp4") in self.classes

    def finish(self, sample: dict[str, Any]) -> dict[str, Any]:
        """Add the class, and decode the frames if asked to."""
        clip_id, video = sample["__key__"], sample["mp4"]
        if self.frames is not None:
            try:
                total = num_frames(video)
                middles = [(2 * i + 1) * total // (2 * self.frames) for i in range(self.frames)]
                sample["mp4"] = read_frames(video, middles)
            except MediaError as error:
                raise MediaError(f"{clip_id} in {sample['__url__']}: {error}") from error
        cls = self.classes[clip_id]
        return sample if cls is None else {**sample, "cls": cls}


def open_view(
    view: str,
    *,
    work: str | os.PathLike[str] = "work",
    shuffle: int = 0,
    seed: int = 0,
    epoch: int = 0,
    family: Family = "opengvlab",
    frames: int | None = None,
) -> "webdataset.WebDataset":
    """Open the clips of one view that are in shards as a webdataset pipeline.

    Iterating once is one epoch: each clip comes once, whatever the number of nodes and of
    DataLoader workers. Shards are split among nodes, then among workers; where there are too few,
    some get none. A sample holds `__key__`, the clip_id; `mp4`, the video's bytes or its frames;
    and `cls`, the class index, which clips of unlabelled lists lack.

    Args:
        view: The view's name, such as "k400/train".
        work: The work directory with manifest.parquet, index.parquet and shards/.
        shuffle: Clips in each worker's shuffle buffer, undecoded, of about 0.7 MB each. Above 0
            the order of the shards is shuffled too; 0 keeps the stored order.
        seed: With `epoch`, decides the order: the same two numbers give the same order.
        epoch: The number of the epoch. Open the view anew for each.
        family: The class order that `cls` counts in: that of the checkpoint you train or test.
        frames: Decode so many frames, the middles of equal parts of the clip; None: do not decode.

    Returns:
        A `webdataset.WebDataset`. With `frames`, `mp4` is uint8 (frames, height, width, 3). To
        add `.decode()`, give it `partial=True`, since `cls` is an int already.

    Raises:
        ValueError: `shuffle` is negative or True, or `frames` is below 1.
        StageError: There is no such view, none of its clips is in a shard, or a shard is missing.

    Example:
        >>> train = k710.open_view("k400/train", work="work", shuffle=1000, epoch=0, frames=8)
        >>> for clip, cls in train.to_tuple("mp4", "cls"):
        ...     print(clip.shape, cls)
    """
    if shuffle is True or shuffle < 0:
        raise ValueError(f"shuffle is a number of clips, such as 1000, and not {shuffle}")
    if frames is not None and frames < 1:
        raise ValueError(f"frames must be above 0, and is {frames}")
    work = Path(os.path.abspath(work))
    clips = _read_stored(work, view)
    position = {row: cls for cls, row in enumerate(class_rows(view.partition("/")[0], family))}
    classes = {clip_id: None if row is None else position[row] for clip_id, row, _ in clips}
    samples = _Samples(classes, frames)
    tars = _find_tars(work, sorted({shard for *_, shard in clips}))
    order = f"{seed} {epoch}"
    if shuffle:
        random.Random(order).shuffle(tars)
    import webdataset

    dataset = webdataset.WebDataset(
        tars,
        shardshuffle=False,  # shuffled above: before they are split, and alike on all nodes
        nodesplitter=webdataset.split_by_node,
        select_files=samples.holds,
        empty_check=False,  # a worker without a shard is no error
    )
    return dataset.shuffle(shuffle, seed=order).map(samples.finish)


def _read_stored(work: Path, view: str) -> list[tuple[str, int | None, int]]:
    """The clip_id, K710 row and shard of each clip of the view that is in a shard."""
    with connect_to_read() as con:
        open_table(con, work, MANIFEST)
        require_views(con, work, [view])
        open_table(con, work, INDEX)
        clips = run(con, _STORED, {"view": view})
    if not clips:
        raise StageError(
            f"No clip of {view} is in a shard of {work}.\n"
            f"Make them: k710 shard --views {view} --work {work}"
        )
    return clips


def _find_tars(work: Path, shards: list[int]) -> list[str]:
    """The paths of these shards; StageError where webdataset could not open one."""
    paths = [tar_path(work, shard) for shard in shards]
    refuse_address(str(paths[0]))
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise StageError(
            f"{work / 'shards'} lacks {len(missing)} of {len(paths)} shards: {missing[0]} ...\n"
            f"Make them again: k710 shard --views VIEWS --work {work}"
        )
    return [str(path) for path in paths]
