"""How other trainers read their lists, by the rules of their own loaders, and told what k710 says.

Each reader takes the settings as `k710 export` prints them, and returns (path, label) of each clip.
"""

import ast
import io
import json
import os
import shlex
import tarfile
from pathlib import Path
from typing import Any

import pandas

Clips = list[tuple[str, int]]


def read_list(trainer: str, settings: str, mode: str) -> Clips:
    """The clips of the list `mode` (train, val, test) as that trainer's loader has them."""
    if trainer == "mmaction2":
        return mmaction2(settings)
    return {"slowfast": slowfast, "videomae": videomae}[trainer](settings, mode)


def slowfast(settings: str, mode: str, *, most_fields: int = 3) -> Clips:
    """Kinetics of SlowFast; UniFormerV2's has 2 as `most_fields`."""
    words = shlex.split(settings)
    told = dict(zip(words[::2], map(_as_yacs_decodes, words[1::2]), strict=True))
    num_classes = int(told.pop("MODEL.NUM_CLASSES"))
    clips = []
    with (Path(told.pop("DATA.PATH_TO_DATA_DIR")) / f"{mode}.csv").open() as file:
        for line in file.read().splitlines():
            fields = line.split(told["DATA.PATH_LABEL_SEPARATOR"])
            if not 2 <= len(fields) <= most_fields:  # of one field SlowFast makes label 0
                raise RuntimeError(f"Failed to parse {fields}")
            clips.append((os.path.join(told["DATA.PATH_PREFIX"], fields[0]), int(fields[-1])))
    assert told.keys() == {"DATA.PATH_PREFIX", "DATA.PATH_LABEL_SEPARATOR"}
    return _of_head(clips, num_classes)


def _of_head(clips: Clips, num_classes: int) -> Clips:
    """The loss takes no label that the head has not."""
    assert all(0 <= label < num_classes for _, label in clips)
    return clips


def _as_yacs_decodes(value: str) -> Any:
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


def mmaction2(settings: str) -> Clips:
    """VideoDataset of MMAction2, its file read by MMEngine's list_from_file."""
    told = eval(settings, {"dict": dict})
    assert told["type"] == "VideoDataset"
    clips = []
    with io.StringIO(Path(told["ann_file"]).read_bytes().decode()) as file:
        for line in [line.rstrip("\n\r") for line in file]:
            filename, label = line.strip().split(told["delimiter"])
            clips.append((os.path.join(told["data_prefix"]["video"], filename), int(label)))
    return clips


def videomae(settings: str, mode: str) -> Clips:
    """VideoClsDataset of VideoMAE: fine-tuning."""
    folder, num_classes = _told_videomae(settings)
    cleaned = pandas.read_csv(folder / f"{mode}.csv", header=None, delimiter=" ")
    clips = list(zip(cleaned.values[:, 0], cleaned.values[:, 1], strict=True))
    return _of_head(clips, num_classes)


def videomae_pretraining(path: str | Path) -> Clips:
    """VideoMAE of VideoMAE: pretraining, which is told the list itself."""
    with Path(path).open() as file:
        fields = [line.split(" ") for line in file.readlines()]
    return [(path, int(label)) for path, label, *_ in fields]


def _told_videomae(settings: str) -> tuple[Path, int]:
    data_path, folder, nb_classes, num_classes = shlex.split(settings)
    assert (data_path, nb_classes) == ("--data_path", "--nb_classes")
    return Path(folder), int(num_classes)


class ShardListDataset:
    """That of wids, for shards that are files here: an index of all samples of all shards."""

    def __init__(
        self,
        index: str,
        *,
        transformations: list[Any],
        lru_size: int,  # in the versions that delete no shard, and in no other
        localname: Any = None,
    ) -> None:
        assert (transformations, lru_size) == ([], 10)
        description = json.loads(Path(index).read_text())
        assert description["wids_version"] == 1
        self.shards = description["shardlist"]
        assert self.shards, "No shards found"
        self.samples: list[dict[str, Any]] = []
        for shard in self.shards:
            url = os.path.normpath(os.path.join(os.path.dirname(index), shard["url"]))
            samples = _samples(localname(url))
            assert len(samples) == shard["nsamples"]
            assert os.path.getsize(url) == shard["filesize"]
            self.samples += samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, place: int) -> dict[str, Any]:
        return self.samples[place]


def _samples(path: str) -> list[dict[str, Any]]:
    """Files in a row whose names are the same up to the first point are one sample."""
    samples: list[dict[str, Any]] = []
    with tarfile.open(path) as tar:
        for member in tar:
            key, _, ending = member.name.partition(".")
            if not samples or samples[-1]["__key__"] != key:
                samples.append({"__key__": key})
            file = tar.extractfile(member)
            assert file is not None
            samples[-1]["." + ending] = file.read()
    return samples
