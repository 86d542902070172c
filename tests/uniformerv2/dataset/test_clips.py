"""A view as the loader sees it: each clip of it that is in a shard, once, where its bytes are."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from k710.errors import SchemaError, StageError
from k710.tables.schemas import INDEX
from support.small_shards import TRAIN, all_made, copy_of, name_of, rows_of
from support.small_tables import rewrite_table
from uniformerv2.dataset.clips import read_view


def test_each_clip_is_where_it_says(tmp_path: Path) -> None:
    work = all_made()
    view = read_view(work, "k400/train")
    hashes = dict(rows_of(work, "index", "clip_id, sha256"))
    assert sorted(view.clip_ids) == sorted(name_of(row) for row in TRAIN if name_of(row) in hashes)
    places = list(zip(view.shards.tolist(), view.offsets.tolist(), strict=True))
    assert places == sorted(places)
    assert view.shard_sizes.sum() == len(view.clip_ids)
    assert len(view.shard_sizes) == len(set(view.shards.tolist()))
    labels = dict(rows_of(work, "manifest", "clip_id, label"))
    for row, clip_id in enumerate(view.clip_ids):
        tar = work / "shards" / f"{view.shards[row]:06d}.tar"
        data = tar.read_bytes()[view.offsets[row] :][: view.num_bytes[row]]
        assert hashlib.sha256(data).hexdigest() == hashes[clip_id]
        assert view.labels[row] == labels[clip_id]
        assert view.num_frames[row] > 0


def test_what_is_equal_has_the_same_hash_and_what_is_not_has_not(tmp_path: Path) -> None:
    work = all_made()
    same = read_view(copy_of(work, tmp_path / "other"), "k400/train")
    assert same.sha256 == read_view(work, "k400/train").sha256
    assert same.sha256 != read_view(work, "k400/val").sha256
    assert np.array_equal(same.offsets, read_view(work, "k400/train").offsets)


def test_what_can_not_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"There is no view 'k400/none' in .*\nThere are .*k400"):
        read_view(all_made(), "k400/none")
    with pytest.raises(StageError, match="There is no finished"):
        read_view(tmp_path, "k400/train")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("height", 1_000_000_000),
        ("width", -48),
        ("num_frames", 0),
        ("bytes", 1 << 50),
        ("offset", -1),
        ("sha256", "../../elsewhere"),
    ],
)
def test_what_no_clip_can_have_is_refused(tmp_path: Path, column: str, value: int | str) -> None:
    work = copy_of(all_made(), tmp_path / "work")
    kind = INDEX.columns[column]
    rewrite_table(
        work / "index.parquet", f"select * replace ('{value}'::{kind} as \"{column}\") from whole"
    )
    with pytest.raises(SchemaError, match=f"index.parquet .*{column.replace('sha256', 'SHA-256')}"):
        read_view(work, "k400/train")
